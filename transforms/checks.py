"""What a caption has to pass before it may reach a dataset, and what its writer is told when it does not.

A check is a function of a `Subject` and the profile's `Checks`. It answers "" or a complaint: one sentence that tells
a language model what is wrong and what to do instead. A complaint quotes a caption only briefly, since the caption may
repeat what an untrusted cue asked for.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from model_handlers.base import Items
from model_handlers.forms import Form
from model_handlers.llm import UNSEEN
from model_handlers.writers import SoundEvent
from transforms import words
from transforms.bans import gender_age, moods, quoted, sight_only, topic, uncertainty
from transforms.evidence import borne_out, shares, spoken_in
from transforms.parts import facet, ungrounded

LONGEST_WORD = 30  # letters; "high-pitched", "counterclockwise" and the like stay well below
TRANSCRIBED = 4  # words in a row that count as quoting
TELLING = 5  # words of an event that tell its language
# Natural logarithm by which another language has to be likelier. With py3langid 0.4.0, 96 of 100 short sentences in
# ten other languages are refused (the others have three words), and none of 40,922 captions of AudioCaps, Clotho and
# WavCaps that have three words or more.
OTHER_LANGUAGE = 14.0
# The same of English, for what was translated from it; other languages have neighbours that cannot be told from them.
# It refuses 250 of 253 English texts of two to nine words that are given as one of 23 other languages, and none of 66
# in those languages.
NOT_TRANSLATED = 1.0

_UNITS = r"(?:k?hz|hertz|db\w*|seconds?|secs?|s|ms|milliseconds?|minutes?|mins?|bpm|percent|per|k|bits?/s|out of)\b"
_COUNTS = re.compile(  # a few things, what carries a number in its name, a decade
    rf"(?<![\w.,:/-])\d{{1,2}}(?= (?!{_UNITS})[^\W\d_])|(?<![\w.,:/-])\d{{1,2}}-(?!{_UNITS})(?=[^\W\d_])"
    r"|(?<!\w)(?:\d\d)?\d0'?s(?!\w)|(?<![\w.])[^\W\d_]{1,3}-?\d{1,2}(?![\w.,]*\d)(?!\w)"
)
_LINK = re.compile(r"://|\bwww\.|\w\.(?:com|org|net|io|ai|ru|cn)\b|\b(?:mailto|javascript|data):|&#?\w{1,8};")
_SYMBOLS = frozenset("*_#@\\|~^=+`$")  # of ASCII; "&" and "/" pass: "drum & bass", "and/or"
_QUOTES = frozenset('"“”„‟«»「」『』〝〞＂')
# Joiners and non-joiners are part of how Arabic, Indic, Khmer and Burmese letters are spelt.
_JOINED = r"[\u0620-\u06ff\u0750-\u077f\u08a0-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17ff]"
_JOINERS = re.compile(rf"(?<={_JOINED})[\u200c\u200d](?={_JOINED})")
_LETTERS = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
LETTERS_A_WORD = 4  # of Thai, Lao, Khmer and Burmese, which put no spaces between words
_QUOTED_APOSTROPHES = re.compile(r"(?<!\w)'[^\W\d_][^']{1,300}(?<=[\w.,!?])'(?!\w)")


@dataclass(frozen=True)
class Checks:
    """A profile's ``[checks]``.

    Attributes:
        tries: answers that a writer is asked for at most; it is asked again while its caption fails a check.
        language: of captions, ISO 639-1; empty for any.
        least_words: of a caption.
        most_words: of a caption.
        speech: what a caption may tell of speech: nothing at all, that somebody speaks, or what is said as well.
        transcripts: cues that hold what is said.
        sight: cues of what is seen; they may tell what makes a sound of a general kind, and nothing else. Empty where
            that is not checked.
        places: cues of where it is, seen or heard. What they say may be named, and is no evidence of what sounds.
        boilerplate: share of clips whose caption may hold a phrase like "creating a lively atmosphere". Which clips
            hangs on their ids, so that the share holds over any dataset and stays the same in every run.
        copies: captions of one `wording` at most, over the whole dataset; 0 for any number.
        off: names of checks that do not run.
        on: names of checks that run only where they are asked for (`ON_REQUEST`).
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    tries: Annotated[int, Field(ge=1)] = 3
    language: Annotated[str, Field(pattern=r"^([a-z]{2})?$")] = "en"
    least_words: Annotated[int, Field(ge=1)] = 3
    most_words: Annotated[int, Field(ge=1)] = 50
    speech: Literal["none", "mention", "quote"] = "mention"
    transcripts: tuple[str, ...] = ("speech",)
    sight: tuple[str, ...] = ()
    places: tuple[str, ...] = ("place",)
    boilerplate: Annotated[float, Field(ge=0, le=1)] = 0.05
    copies: Annotated[int, Field(ge=0)] = 0
    off: tuple[str, ...] = ()
    on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.most_words < self.least_words:
            raise ValueError(f"most_words is {self.most_words}, below least_words, which is {self.least_words}")
        if self.language not in ("", "en") and self.language not in _scores("a"):
            raise ValueError(f"language {self.language!r} cannot be told; there are {', '.join(sorted(_scores('a')))}")
        if unknown := [name for name in self.off if name not in NAMES]:
            raise ValueError(f"off: there is no check {unknown[0]!r}; there are {', '.join(NAMES)}")
        if unknown := [name for name in self.on if name not in ON_REQUEST]:
            raise ValueError(f"on: there is no such check {unknown[0]!r}; there are {', '.join(ON_REQUEST)}")


@dataclass(frozen=True)
class Subject:
    """What a check looks at.

    Attributes:
        clip_id: whose.
        caption: that was written.
        events: what it rests on, as its writer says.
        cues: what the writer was told, by cue name.
        grounded: whether the writer names events at all.
        form: that the text is in; ``None`` for the caption itself.
        language: of the text, where it is a translation; empty for the profile's.
        original: what it is a translation of.
    """

    clip_id: str
    caption: str
    events: tuple[SoundEvent, ...]
    cues: Mapping[str, Items]
    grounded: bool = True
    form: Form | None = None
    language: str = ""
    original: str = ""


Check = Callable[[Subject, Checks], str]


def complaint(subject: Subject, checks: Checks) -> tuple[str, str] | None:
    """The name of the first check that a text fails, and what is wrong; ``None`` where it passes all that run."""
    english = _is_english(subject, checks)
    for name, check in {**_CHECKS, **_ON_REQUEST}.items():
        runs = name in checks.on if name in _ON_REQUEST else name not in checks.off
        if runs and (english or name not in _OF_ENGLISH) and (wrong := check(subject, checks)):
            return name, wrong
    return None


def wording(caption: str) -> str:
    """What makes captions near-copies: their words' stems, sorted, without articles and numbers.

    Case, punctuation, word order, plurals and a verb's form do not count.
    """
    counted = words.ARTICLES | words.NUMBER_WORDS
    kept = {word for word in words.tokens(caption) if word not in counted and not word.isdigit()}
    return " ".join(sorted({words.stem(word) for word in kept}))


def length(subject: Subject, checks: Checks) -> str:
    """Too few words, too many, or one that is none."""
    if subject.form and (subject.form.about or subject.form.may_be_empty) and not subject.caption.strip():
        return ""  # the clip has nothing of what the form is about
    found, (least, most) = _count(subject.caption), _limits(subject, checks)
    what = "one sentence" if subject.form is None else "a text"
    if found < least:
        return f"It has {found} words; write {what} of at least {least} words."
    if found > most:
        return f"It has {found} words; write {what} of at most {most} words."
    longest = max((part for word in subject.caption.split() for part in word.split("-")), key=len, default="")
    if len(longest) > LONGEST_WORD and not _unspaced(longest):
        return f'"{quoted(longest)}" is no word; write a plain sentence.'
    return ""


def markup(subject: Subject, checks: Checks) -> str:
    """Anything that is not the plain text of one line: markdown, links, symbols, hidden characters, quoted captions."""
    caption = _JOINERS.sub("", subject.caption.strip())
    odd = next((c for c in caption if _is_odd(c)), "")
    if odd:
        what = (
            f'"{odd}"'
            if odd.isprintable() and unicodedata.category(odd)[0] != "M"
            else "a character that has no place in a sentence"
        )
        return f"It contains {what}; write plain words and punctuation in one line, without any formatting."
    if link := _LINK.search(caption.lower()):
        return f'It contains a link or code ("{quoted(link.group())}"); write only what can be heard.'
    if "--" in caption or caption[:1] in {"-", "–", "—", "•", "·", "…"} or re.match(r"\d+[.)]\s", caption):
        return "It looks like an entry of a list; write one plain sentence without a mark before it."
    if len(caption) > 1 and caption[0] in _QUOTES | {"'", "‘", "‹"} and caption[-1] in _QUOTES | {"'", "’", "›"}:
        return "The whole sentence is in quotation marks; write it without them."
    if foreign := next((word for word in caption.split() if _mixes_alphabets(word)), ""):
        return f'The word "{quoted(foreign)}" mixes letters of different alphabets; write it with those of one.'
    return ""


def brackets(subject: Subject, checks: Checks) -> str:
    """Any kind of bracket."""
    if any(map(_is_bracket, unicodedata.normalize("NFKC", subject.caption))):
        return "It contains brackets; write the sentence without them and without what is in them."
    return ""


def numbers(subject: Subject, checks: Checks) -> str:
    """Numbers that only a model could have said: decimals, percentages, scores, times. "3 dogs" passes."""
    text = words.plain(subject.caption)
    rest = _COUNTS.sub(" ", text)
    found = next((c for c in rest if c.isnumeric() and not c.isalpha()), "")
    if found or "%" in text or "‰" in text:
        return "It contains a number; leave out scores, probabilities and times, and write small counts as words."
    if _is_english(subject, checks) and (said := words.NUMBERS.first(text)):
        return f'Leave out "{quoted(said)}": a listener hears no scores, probabilities or measures.'
    return ""


def language(subject: Subject, checks: Checks) -> str:
    """Another language than is wanted. Short captions get the benefit of the doubt (`OTHER_LANGUAGE`)."""
    wanted = subject.language or checks.language
    if not wanted or not subject.caption.strip():
        return ""
    scores = _scores(subject.caption[:2000])
    if subject.original and checks.language == "en" != wanted:
        same = words.tokens(subject.caption) == words.tokens(subject.original)
        if same or scores["en"] - scores.get(wanted, -math.inf) > NOT_TRANSLATED:
            return f'It is not translated; write it in the language with the ISO code "{wanted}".'
    if max(scores.values()) - scores.get(wanted, -math.inf) > OTHER_LANGUAGE:
        return f'It is not in the language that is wanted; write it in the language with the ISO code "{wanted}".'
    return ""


def assistant_speak(subject: Subject, checks: Checks) -> str:
    """An assistant's talk to its user, or instructions to whoever reads the caption."""
    text = words.plain(subject.caption)
    said = words.OPENING.opens(text) or words.ASSISTANT_SPEAK.first(text)
    if not text.endswith("?"):  # a question may ask what somebody hears
        said = said or words.TO_A_LISTENER.first(text)
    if said:
        return f'"{quoted(said)}" is no part of a caption; write nothing but one sentence that says what can be heard.'
    return ""


def cue_speak(subject: Subject, checks: Checks) -> str:
    """Talk of what the caption was made from, instead of what is heard."""
    if said := words.CUE_SPEAK.first(words.plain(subject.caption)):
        return f'Do not mention "{quoted(said)}": write what is heard, not what it was told or recorded by.'
    return ""


def colours(subject: Subject, checks: Checks) -> str:
    """Colours of things; those of noise pass."""
    if said := words.COLOURS.first(words.plain(subject.caption)):
        return f'"{quoted(said)}" cannot be heard; leave out colours.'
    return ""


def inaudible(subject: Subject, checks: Checks) -> str:
    """Other words for what only eyes can tell."""
    if said := words.INAUDIBLE.first(words.plain(subject.caption)):
        return f'"{quoted(said)}" tells what is seen; write only what a listener with closed eyes would notice.'
    return ""


def boilerplate(subject: Subject, checks: Checks) -> str:
    """Phrases that language models lean on and that say nothing; a share of the clips may have one."""
    said = words.BOILERPLATE.first(words.plain(subject.caption))
    if not said or _drawn(subject.clip_id) < checks.boilerplate:
        return ""
    return f'"{quoted(said)}" says nothing about the sounds; leave it out and name the sounds alone.'


def quoted_speech(subject: Subject, checks: Checks) -> str:
    """What is said, where the profile's captions may not tell."""
    if checks.speech == "quote":
        return ""
    text = words.plain(subject.caption)
    if checks.speech == "none" and (said := words.SPEECH.search(text)):
        return f'Do not mention speech at all, as "{quoted(said.group())}" does; write only about the other sounds.'
    if _QUOTES & set(subject.caption) or _QUOTED_APOSTROPHES.search(text):
        return "It contains quotation marks; say that somebody speaks, never what is said."
    if transcribed(subject, checks):
        return "It repeats what is said; say that somebody speaks, never what is said."
    return ""


def unsupported(subject: Subject, checks: Checks) -> str:
    """Events that rest on no cue, or none at all where the writer has to name them.

    Each has to name a cue that was told, and to share a word with one. A transcript is evidence of speech only.
    """
    if not subject.grounded:
        return ""
    if not subject.events:
        return "No events are listed; list each sound of the sentence with the names of the cues that say so."
    told = {name for name, items in subject.cues.items() if items}
    known = borne_out(subject.cues, checks.transcripts, checks.language)
    if spoken_in(subject.cues, checks.transcripts, checks.language, checks.sight):  # that somebody sings is only seen
        known.add(words.stem("speech"))
    for event in subject.events:
        if not told & set(event.cues):
            return f'The event "{quoted(event.text)}" names no cue that was given; name one, or leave the event out.'
        if _no_sound(event.text, checks):
            return f'The event "{quoted(event.text)}" is no sound; list only what is heard, in a few plain words.'
        if not shares(words.stems(event.text, checks.language), known):
            return f'No cue speaks of "{quoted(event.text)}"; leave it out, or call it what the cues call it.'
    return ""


_CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        length,
        markup,
        brackets,
        numbers,
        language,
        assistant_speak,
        cue_speak,
        quoted_speech,
        colours,
        inaudible,
        boilerplate,
        unsupported,
        sight_only,
        facet,
    )
}
_ON_REQUEST: dict[str, Check] = {check.__name__: check for check in (uncertainty, gender_age, moods, topic, ungrounded)}
NAMES: tuple[str, ...] = tuple(_CHECKS)
ON_REQUEST: tuple[str, ...] = tuple(_ON_REQUEST)
# These look for English words.
_OF_ENGLISH = {
    "assistant_speak",
    "cue_speak",
    "colours",
    "inaudible",
    "boilerplate",
    "sight_only",
    "facet",
    *ON_REQUEST,
}


def _is_english(subject: Subject, checks: Checks) -> bool:
    """Whether a text is to be in English, or may be."""
    return (subject.language or checks.language) in ("", "en")


def _count(text: str) -> int:
    """The words of a text; of languages that put no spaces between theirs, about as many."""
    found = words.tokens(text)
    letters = sum(1 for word in found if _LETTERS.fullmatch(word))
    return len(found) - letters + -(-letters // LETTERS_A_WORD)


def _limits(subject: Subject, checks: Checks) -> tuple[int, int]:
    """Words that a text has at least and at most. A translation may have half as many, or twice: of Chinese and
    Japanese each letter counts as a word."""
    if subject.form:
        return subject.form.least_words, subject.form.most_words
    if subject.language:
        return -(-checks.least_words // 2), 2 * checks.most_words
    return checks.least_words, checks.most_words


def _scores(text: str) -> dict[str, float]:
    """The logarithm of each language's likelihood, by ISO code."""
    from py3langid import rank  # its model takes a second to load

    return dict(rank(text))


def _drawn(clip_id: str) -> float:
    """A number in [0, 1) that hangs on the clip's id alone, and on another hash than its split."""
    digest = hashlib.sha256(f"boilerplate:{clip_id}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)


def _is_odd(character: str) -> bool:
    """Whether a character has no place in a sentence; brackets, digits and per cent signs are left to their checks."""
    if character.isascii():
        return character in _SYMBOLS or not character.isprintable()
    category = unicodedata.category(character)
    if category[0] in "CS" or category in {"Zl", "Zp"} or UNSEEN.match(character):
        return not _is_bracket(unicodedata.normalize("NFKC", character))
    return category[0] == "L" and unicodedata.normalize("NFKC", character).isascii()  # a letter in fancy dress


def _is_bracket(character: str) -> bool:
    return character in "<>‹›" or (unicodedata.category(character) in {"Ps", "Pe"} and character not in _QUOTES)


def _mixes_alphabets(word: str) -> bool:
    """Whether a word holds letters that only look like those of another alphabet."""
    if word.isascii():
        return False
    names = (unicodedata.name(character, "").split(" ")[0] for character in word if character.isalpha())
    return len({name for name in names if name in {"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC"}}) > 1


def _unspaced(word: str) -> bool:
    return len(words.tokens(word)) > 1


def transcribed(subject: Subject, checks: Checks) -> bool:
    """Whether the text has some words in a row that a transcript has."""
    said = words.tokens(subject.caption)
    runs = {tuple(said[at : at + TRANSCRIBED]) for at in range(len(said) - TRANSCRIBED + 1)}
    for name in checks.transcripts:
        heard = [word for item in subject.cues.get(name, ()) for word in words.tokens(item.text)]
        if any(tuple(heard[at : at + TRANSCRIBED]) in runs for at in range(len(heard) - TRANSCRIBED + 1)):
            return True
    return False


def _no_sound(text: str, checks: Checks) -> bool:
    """Whether an event is no plain name of a sound. Tags have round brackets; a few words tell no language."""
    alone = Subject("", text, (), {}, False)
    if markup(alone, checks) or numbers(alone, checks) or assistant_speak(alone, checks):
        return True
    if any(_is_bracket(c) and c not in "()" for c in unicodedata.normalize("NFKC", text)):
        return True
    count = len(words.tokens(text))
    return count > checks.most_words or (count >= TELLING and bool(language(alone, checks)))
