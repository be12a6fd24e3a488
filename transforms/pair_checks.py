"""What a question and its answer have to pass: well formed, answerable by ear, and borne out by the cues they name.

A check is a function of an `Posed`; it answers "" or a complaint, as those of `transforms.checks` do. What those refuse
in a caption is refused in a question and an answer as well.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, replace

from model_handlers.base import Items
from model_handlers.llm import MOST_ITEMS
from model_handlers.questions import KINDS, Question, Questions
from transforms import checks, words
from transforms.bans import quoted
from transforms.checks import Checks, Subject
from transforms.evidence import affirmed, denies, spoken_in, unsaid
from transforms.hearing import MANNER, MOSTLY, NEUTRAL, Heard, clauses, numbers_in, part_borne_out, phrases

MOST_WORDS, MOST_CHOICE_WORDS = 40, 20  # of a question or an answer, and of an option
MOST_LETTERS = 1500  # of an item: prompts show at most so many
# What a question must not ask for: who speaks may say anything.
_SAID = re.compile(
    r"\b(?:what|which|whose|who)\b.*\b(?:says?|saying|said|(?:talk|speak|chat)(?:s|ing|ed)? about|topics?|words?"
    r"|phrases?|sentences?|languages?|accents?|mention(?:s|ed|ing)?|discuss(?:es|ed|ing)?|names?|messages?)\b"
)
# A denial stands by itself: in "nothing but thunder" there is none.
_YES_NO = re.compile(r"(?:(?P<yes>yes)\b|(?:no|nobody|none|nothing)(?=\s*(?:[,.:;!]|$)))[\s,.:;!]*", re.IGNORECASE)
# Options that speak of other options.
_OF_OPTIONS = re.compile(
    r"\b(?:all|none|both|neither|any|each|either|some|two)(?: (?:one|two|three))? of (?:the|these|those|them)\b"
    r"|\bthe above\b|^(?:all|none|both|neither|everything)\W*$"
)
# What follows these in a question says when, or beside what, and not what is asked for.
_BESIDE = re.compile(r"\b(?:besides?|apart|other|except|while|as|when|during|together|before|after|follow\w*|once)\b")
# Of the words that questions are made of, those that tell two questions apart.
_APART = words.stems("first last instrument genre tempo mood")
_OR = re.compile(r"\bor\b", re.IGNORECASE)


@dataclass(frozen=True)
class Posed:
    """What a check looks at.

    Attributes:
        pair: the question and its answer.
        clip_id: whose.
        caption: of the clip.
        cues: what the writer was told, by cue name.
        wanted: which questions the profile wants.
        checks: what its captions have to pass.
    """

    pair: Question
    clip_id: str
    caption: str
    cues: Mapping[str, Items]
    wanted: Questions
    checks: Checks

    def heard(self, named: Collection[str] | None = None, seen: Collection[str] = ()) -> Heard:
        """What the cues of the sound say, all of them or those `named`; and some cues of sight, if any are `seen`.

        Of a song's words there is nothing: nobody speaks them. What says where it is tells of places alone: at a train
        station there may be no train.
        """
        wanted = self.cues.keys() if named is None else self.cues.keys() & set(named)
        elsewhere = () if self.pair.kind == "place" else self.checks.places
        left_out = {*self.checks.sight, *elsewhere} - set(seen)
        cues = {name: items for name, items in self.shown.items() if name in wanted - left_out}
        transcripts, language = self.checks.transcripts, self.checks.language
        if not spoken_in(self.cues, transcripts, language, self.checks.sight):
            cues |= {name: unsaid(cues[name]) for name in cues.keys() & set(transcripts)}
        return Heard(cues, transcripts, language)

    @property
    def shown(self) -> dict[str, Items]:
        """As much of the cues as a prompt shows of them."""
        return {
            name: tuple(replace(item, text=item.text[:MOST_LETTERS]) for item in items[:MOST_ITEMS])
            for name, items in self.cues.items()
        }

    @property
    def wrong(self) -> tuple[str, ...]:
        """The options that are not the answer."""
        return tuple(choice for choice in self.pair.choices if choice != self.pair.answer)

    def stems(self, text: str) -> set[str]:
        """The stems of a text's words that say something."""
        return words.stems(text, self.checks.language) - NEUTRAL


Check = Callable[[Posed], str]


def complaint(posed: Posed) -> tuple[str, str] | None:
    """The name of the first check that a pair fails, and what is wrong; ``None`` where it passes all."""
    return _first(_OF_FORM, posed) or _as_captions(posed) or _first(_OF_TRUTH, posed)


def for_pairs(rules: Checks) -> Checks:
    """The checks of captions as they go for the few words of a question or an answer, which are English."""
    return replace(
        rules,
        language="en",
        least_words=1,
        most_words=8 * MOST_CHOICE_WORDS,  # of all wrong options; `question` and `answer` count more strictly
        speech="none" if rules.speech == "none" else "mention",
        off=(*rules.off, "boilerplate"),  # music has a mood
    )


def sequence_wording(text: str) -> tuple[str, ...]:
    """What makes two options the same: their words' stems in order, without articles. Numbers and order count.

    Case, punctuation, hyphens and accents do not.
    """
    bare = "".join(c for c in unicodedata.normalize("NFKD", text.replace("-", " ")) if unicodedata.category(c) != "Mn")
    return tuple(words.stem(word) for word in words.tokens(bare) if word not in words.ARTICLES - {"one"})


def _sense(option: str, kind: str) -> Hashable:
    """What makes two options of a kind the same: for a count its number, where no order is asked for all words."""
    if kind == "count" and (numbers := numbers_in(option)):
        return frozenset(numbers)
    wording = sequence_wording(option)
    return wording if kind in ("order", "music") else tuple(sorted(wording))


def _repeats(text: str) -> bool:
    """Whether a text goes round in circles, as small models do: a word four times in a row, or few words many times."""
    found = words.tokens(text)
    in_a_row = any(len(set(found[at : at + 4])) == 1 for at in range(len(found) - 3))
    return in_a_row or (len(found) >= 12 and 3 * len(set(found)) <= len(found))


def same_questions(pair: Question) -> set[Hashable]:
    """What a pair shares with those that ask the same: the question's wording, or in one form its sense and answer."""
    said = words.stems(f"{pair.question} {pair.answer}")
    sense = frozenset((said - NEUTRAL) | (said & _APART) | {str(number) for number in numbers_in(pair.answer)})
    return {checks.wording(pair.question), (pair.kind, bool(pair.choices), sense)}


def kind(posed: Posed) -> str:
    """A kind that there is not, or that the profile does not want."""
    if posed.pair.kind in posed.wanted.kinds:
        return ""
    what = "is not wanted" if posed.pair.kind in KINDS else "is no kind of question"
    return f'"{quoted(posed.pair.kind)}" {what}; the kinds are {", ".join(posed.wanted.kinds)}.'


def question(posed: Posed) -> str:
    """Anything but one question in one line."""
    text = posed.pair.question
    if not text.endswith("?") or text.count("?") > 1:
        return "Write one question that ends with a question mark."
    if "\n" in text or not 2 <= len(words.tokens(text)) <= MOST_WORDS:
        return f"A question is one line of 2 to {MOST_WORDS} words."
    if _SAID.search(words.plain(text)):
        return "Never ask what is said; ask at most whether somebody speaks."
    if denies(text):
        return "Ask for what is heard, not for what is not."
    return ""


def answer(posed: Posed) -> str:
    """No answer, one that is too long, or one that asks back."""
    most = MOST_CHOICE_WORDS if posed.pair.choices else MOST_WORDS
    for text in (posed.pair.answer, *posed.wrong):
        if not 1 <= len(words.tokens(text)) <= most or "\n" in text:
            return f"An answer is one line of 1 to {most} words."
        if text.endswith("?"):
            return "An answer is no question."
        if _repeats(text):
            return "It says the same again and again; say it once."
    return ""


def choices(posed: Posed) -> str:
    """Options that are not the right number, not all different, or without the answer."""
    given = posed.pair.choices
    if not given:
        return ""
    if len(given) != posed.wanted.choices:
        return f"A multiple-choice question has {posed.wanted.choices} choices, or none where it is open."
    if len({_sense(choice, posed.pair.kind) for choice in given}) < len(given):
        return "Two choices say the same; each has to be another."
    if any(_OF_OPTIONS.search(words.plain(choice)) for choice in given):
        return "Each choice has to stand by itself; none may speak of the others."
    if posed.pair.answer not in given:
        return "The answer has to be one of the choices, word for word."
    return ""


def cues(posed: Posed) -> str:
    """No cue that was told; or only cues of sight."""
    told = {name for name, items in posed.cues.items() if items} & set(posed.pair.cues)
    if not told:
        return "It names no cue that was given; name those that the answer rests on, or leave the question out."
    if told <= set(posed.checks.sight):
        return "It rests on what is seen alone; ask only what a listener with closed eyes can answer."
    return ""


def grounded(posed: Posed) -> str:
    """An answer that the cues it names do not bear out, whatever the others say."""
    pair = posed.pair
    heard = posed.heard(pair.cues).asked(pair.question)
    if _yes_no(pair.answer):
        return _presence(posed, heard)
    if denies(pair.answer):
        return "Say what is heard, not what is not; to deny something, begin with No."
    in_question = posed.stems(pair.question)
    if not posed.stems(pair.answer) - in_question:
        if pair.kind != "count" and not part_borne_out(in_question, heard.stems):
            return "The cues that it names do not bear the answer out; name those that do."
        return ""
    return _unheard(pair.answer, posed, heard) or _of_another(posed, heard)


def _unheard(text: str, posed: Posed, heard: Heard) -> str:
    """What of an answer is in no cue: more than a third of it, or a whole phrase."""
    in_question = posed.stems(posed.pair.question)
    own = posed.stems(text) - in_question
    apart = [posed.stems(phrase) - in_question - MANNER for phrase in phrases(text)]
    if (own and part_borne_out(own, heard.stems) < MOSTLY) or any(
        some and not part_borne_out(some, heard.stems) for some in apart
    ):
        return "The cues that it names do not say that; answer in the words of the cues."
    return ""


def _of_another(posed: Posed, heard: Heard) -> str:
    """An answer of which the cues say something, but not what is asked: "a dog" for "what rings"."""
    if posed.pair.kind not in ("sound", "source"):
        return ""
    in_question = posed.stems(posed.pair.question)
    about = posed.stems(_BESIDE.split(words.plain(posed.pair.question))[0]) - MANNER
    units = [unit for unit in heard.units if part_borne_out(about, unit)]
    for phrase in phrases(posed.pair.answer) if about else ():
        own = posed.stems(phrase) - in_question - MANNER
        if own and not any(part_borne_out(own, unit) >= MOSTLY for unit in units):
            return "The cues say that of something else; answer with what they say of what is asked."
    return ""


def _presence(posed: Posed, heard: Heard) -> str:
    """A "yes" or "no" that the cues speak against, or one that goes on with what no cue says."""
    about, rest = posed.stems(posed.pair.question), _YES_NO.sub("", posed.pair.answer, count=1)
    if not about:
        return "Ask about something that the cues name."
    there = affirmed(rest)
    if _denies(posed.pair.answer):
        known = posed.heard().stems
        absent = posed.stems(rest) - posed.stems(there) - about
        if part_borne_out(about, known) >= 0.5 or part_borne_out(absent, known):
            return "A cue says otherwise."
        return _unheard(there, posed, heard)
    asked = clauses(posed.pair.question)
    if denies(rest) or not all(_one_says(clause, posed, heard) for clause in asked):
        return "The cues that it names do not say so."
    if not all(_well_founded(clause, posed) for clause in asked):
        return "One cue alone says so, and is not sure of it; ask about something else."
    return _unheard(there, posed, heard)


def _one_says(clause: str, posed: Posed, heard: Heard) -> bool:
    """Whether the cues say all of a clause of one thing."""
    stems = posed.stems(clause)
    return not stems or any(part_borne_out(stems, unit) == 1 for unit in heard.units)


def _well_founded(clause: str, posed: Posed) -> bool:
    """Whether a cue of the sound is sure of a clause, or two say it; a tagger says it in several tags."""
    stems = posed.stems(clause)
    say = [heard for heard in posed.heard().cue_by_cue() if part_borne_out(stems, heard.stems) == 1 or not stems]
    return len(say) > 1 or any(part_borne_out(stems, heard.sure.stems) == 1 or not stems for heard in say)


def given_away(posed: Posed) -> str:
    """A question that holds its answer."""
    own = posed.stems(posed.pair.answer)
    lets_choose = _yes_no(posed.pair.answer) or _OR.search(posed.pair.question) or posed.pair.kind == "count"
    if own and not lets_choose and own <= posed.stems(posed.pair.question):
        return "The question gives its answer away; ask for something that it does not name."
    return ""


def count(posed: Posed) -> str:
    """A number that no cue has; or one where none was asked for."""
    if posed.pair.kind != "count":
        return ""
    found = numbers_in(posed.pair.answer)
    if len(found) != 1:
        return "Answer a question of the kind count with one number, as a word."
    if not found & posed.heard(posed.pair.cues).counts(posed.pair.question):
        return "No cue counts that; ask for a number only where a cue has it."
    return ""


def order(posed: Posed) -> str:
    """An order that no cue tells, or another than they tell."""
    if posed.pair.kind != "order":
        return ""
    sequences = posed.heard(posed.pair.cues).sequences
    if not sequences:
        return "No cue that it names tells an order; ask for one only where a cue does."
    if _yes_no(posed.pair.answer):
        return "Ask what comes first, last, before or after, not whether it does."
    if not any(found.agrees(posed.pair.question, posed.pair.answer) for found in sequences):
        return "The order of the cues is another."
    return ""


def place(posed: Posed) -> str:
    """A place that the clip's caption does not name."""
    if posed.pair.kind != "place":
        return ""
    own = posed.stems(posed.pair.answer)
    if not own or part_borne_out(own, posed.stems(posed.caption)) < MOSTLY:
        return "Ask for the place only where the caption names it, and answer as it does."
    return ""


def distractors(posed: Posed) -> str:
    """A wrong option that is true as well, or a part of the right one."""
    pair = posed.pair
    heard = posed.heard(seen=posed.checks.places if pair.kind == "place" else ())
    for wrong in posed.wrong:
        if pair.kind == "count":
            true = len(numbers_in(wrong)) != 1 or numbers_in(wrong) == numbers_in(pair.answer)
        elif pair.kind == "order":
            true = any(found.agrees(pair.question, wrong) for found in heard.sequences)
        elif _yes_no(wrong):
            true = _denies(wrong) == _denies(pair.answer)
        else:
            every = words.stems(wrong, posed.checks.language)
            own = (every - NEUTRAL or every) - words.stems(pair.answer, posed.checks.language)
            true = not own or part_borne_out(own, heard.stems) >= 0.5
        if true:
            return f'"{quoted(wrong)}" may be right as well; the other choices have to be wrong by the cues.'
    return ""


_OF_FORM: tuple[Check, ...] = (kind, question, answer, choices, cues)
_OF_TRUTH: tuple[Check, ...] = (count, order, place, grounded, given_away, distractors)


def _first(some: tuple[Check, ...], posed: Posed) -> tuple[str, str] | None:
    return next(((check.__name__, wrong) for check in some if (wrong := check(posed))), None)


def _as_captions(posed: Posed) -> tuple[str, str] | None:
    """What a check of captions finds in the question, the answer or an option."""
    rules = posed.checks
    of_wrong = rules
    if posed.pair.kind == "music" and "moods" in rules.on:  # a wrong mood is one that no cue names
        of_wrong = replace(rules, on=tuple(name for name in rules.on if name != "moods"))
    told = ((posed.pair.question, rules), (posed.pair.answer, rules), (", ".join(posed.wrong), of_wrong))
    for text, by in told:
        said = _YES_NO.sub("", text, count=1) if _yes_no(text) else text
        found = said and checks.complaint(Subject(posed.clip_id, said, (), posed.shown, False), by)
        if found:
            return found
    return None


def _yes_no(text: str) -> bool:
    return bool(_YES_NO.match(text))


def _denies(text: str) -> bool:
    match = _YES_NO.match(text)
    return match is not None and not match["yes"]
