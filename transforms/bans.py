"""Checks on what a profile's prompt may forbid beyond what no caption may hold: doubts, guesses, and what is only seen.

`sight_only` runs where a profile says which cues are of what is seen, `facet` on captions that are about a part of the
sound; the others only where ``[checks]`` names them (`on`). They know English words, and judge English texts alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from model_handlers.base import Item
from model_handlers.llm import harmless
from transforms import words
from transforms.evidence import borne_out, heard, said, shares, spoken
from transforms.words import Vocabulary

if TYPE_CHECKING:
    from transforms.checks import Checks, Subject

QUOTED = 40  # letters of a caption that a complaint quotes
FAINT = 0.1  # an item with a lower score is no evidence that there is speech, or music

_BE = r"(?:is|are|was|were|remains?|stays?)"
_WHAT = r"(?:whether|if|what|who|whose|which|where|how|why)"
# Of 52,313 captions of AudioCaps (training and validation) it finds 19; all but two of them do state a doubt.
UNCERTAINTY = Vocabulary(
    found=(
        rf"(?:un|not (?:entirely |quite |fully |exactly )?)(?:clear|certain|sure|known)(?: from \w+)? {_WHAT}",
        rf"{_BE} (?:unclear|uncertain|unknown|unsure|ambiguous|undetermined|indeterminate)",
        r"(?:of|from) (?:an? )?(?:unclear|uncertain|unknown|undetermined|unidentified)(?: \w+)?",
        r"unidentif(?:ied|iable)",
        r"unspecified",
        r"whether",
        r"either an? [\w' -]{1,40} or (?:an?|the|something|another)",
        r"(?:ostensibl|purportedl|allegedl|arguabl|supposedl|seemingl)y",
        r"(?:interpreted|construed|mistaken) as (?:either )?(?:an?|the)",
        r"ambiguous(?:ly)?",
        r"possibl[ey]",
        r"possibilit(?:y|ies)",
        r"perhaps",
        r"maybe",
        r"probabl[ey]",
        r"(?:most |very |quite )?(?:un)?likely",
        r"presum(?:abl[ey]|ed|edly)",
        r"apparent(?:ly)?",
        r"supposed(?:ly)?",
        r"seem(?:s|ed|ing|ingly)?",
        r"appear(?:s|ed|ing)? (?:to|as|like)",
        r"potential(?:ly)?",
        r"conceivabl[ey]",
        r"(?:may|might|could) (?:well |also |even )?(?:not )?(?:be|have|come|indicate|suggest|originate|belong|contain"
        r"|include|point|stem|represent|mean|result)",
        r"(?:hard|difficult|impossible|not easy) to (?:tell|say|make out|identify|distinguish|determine|know|discern)",
        r"(?:assum(?:e|es|ed|ing)|guess(?:ed|ing)?|suspect(?:ed)?|believed|thought|suggest(?:s|ed|ing|ive))"
        r" (?:that|to|of|there|an?)",
        r"what (?:sounds|seems|appears|is) (?:to be )?(?:like|probably|an? possible)",
        r"(?:sounds?|sounding) (?:as if|as though|like (?:it|they) (?:may|might|could))",
        r"or (?:something|somebody|someone) (?:similar|else|like it)",
        r"or (?:some )?(?:other|another) (?:\w+ )?(?:source|device|object|thing|animal|machine|instrument|vehicle)",
    ),
    passes=(r"(?:best|as \w+ as|soon as|if|where|when(?:ever)?) possible", r"with (?:all )?(?:\w+ )?might"),
)

MOODS = re.compile(
    r"(?<![\w-])(?:cheer(?:ful|fully|y)|joy(?:ful|fully|ous|ously|less)?|happ(?:y|ily|iness)|glad(?:ly)?|sad(?:ly|ness)?"
    r"|melanchol(?:y|ic)|gloom(?:y|ily)?|somb(?:er|re|rely)|mournful(?:ly)?|wistful(?:ly)?|eerie|eerily|creepy|spooky"
    r"|ominous(?:ly)?|sinister|scary|frightening|menacing(?:ly)?|threatening(?:ly)?|tense(?:ly)?|tension|suspense(?:ful)?"
    r"|seren(?:e|ely|ity)|peace(?:ful|fully)|tranquil(?:ly|lity)?|calm(?:ing|ness)?|relax(?:ed|ing)|sooth(?:ing|ingly)"
    r"|romantic(?:ally)?|nostalgi(?:a|c|cally)|dramatic(?:ally)?|playful(?:ly)?|upbeat|uplifting|lively|festive"
    r"|excit(?:ed|edly|ing|ement)|energetic(?:ally)?|angr(?:y|ily)|anger|furious(?:ly)?|emotional(?:ly)?|haunting(?:ly)?"
    r"|dream(?:y|ily)|whimsical(?:ly)?|myster(?:y|ious|iously)|triumphant(?:ly)?|heroic(?:ally)?|anxious(?:ly)?|anxiety"
    r"|fear(?:ful|fully)?|hope(?:ful|fully)|lonely|loneliness|bored|boring|cozy|cosy|jovial(?:ly)?|light-?hearted(?:ly)?"
    r"|carefree|merry|merrily|desperate(?:ly)?|urgency|affection(?:ate|ately)|tender(?:ly)?)(?!\w)"
)
_NO_MOOD = Vocabulary(found=(r"calm (?:seas?|waters?|winds?|lakes?|days?)", r"for fear", r"fear of"))

_MALE = (
    r"m[ae]n|males?|gentlem[ae]n|guys?|he|him|his|himself|masculine|fathers?|dad(?:dy)?|husbands?|brothers?|uncles?"
    r"|sirs?"
)
_FEMALE = (
    r"wom[ae]n|females?|lad(?:y|ies)|she|hers?|herself|feminine|mothers?|mom(?:my)?|mum(?:my)?|wi(?:fe|ves)|sisters?"
    r"|aunts?"
)
_SOMEBODY = r"(?:m[ae]n|wom[ae]n|lad(?:y|ies)|persons?|people|voices?|couple)"
# What says who somebody is, and what a cue of the sound has to say to bear it out.
_PEOPLE = (
    (_MALE, _MALE),
    (_FEMALE, _FEMALE),
    (r"boys?|boyish", r"boys?"),
    (r"girls?|girlish", r"girls?"),
    (
        r"child(?:ren|like|ish)?|kids?|toddlers?|youngsters?",
        r"child(?:ren)?|kids?|toddlers?|boys?|girls?|bab(?:y|ies)|infants?",
    ),
    (r"bab(?:y|ies)|infants?|newborns?", r"bab(?:y|ies)|infants?|newborns?"),
    (
        rf"elder(?:ly|s)|old(?:er)? {_SOMEBODY}|aged|seniors?|grand(?:mothers?|fathers?|m(?:a|um)|pa|dad|parents?)",
        r"elder(?:ly|s)|old(?:er)?|aged|seniors?|grand\w+",
    ),
    (
        rf"teen(?:s|aged?|agers?)?|adolescents?|youths?|adults?|middle-aged|young(?:er)? {_SOMEBODY}",
        r"teen\w*|adolescents?|youths?|adults?|middle-aged|young(?:er)?",
    ),
)
_GROUPS = tuple(
    (re.compile(rf"(?<![\w-])(?:{who})(?![\w-])"), re.compile(rf"(?<!\w)(?:{cue})(?!\w)")) for who, cue in _PEOPLE
)
_NOBODY = re.compile(  # what is neither old nor young, nor a man
    r"\b(?:bab(?:y|ies) (?:birds?|goats?|chicks?|ducks?|animals?|elephants?|pigs?|monkeys?|bears?|cats?|grand)"
    r"|mother (?:hens?|ducks?|birds?|cats?|dogs?)|(?:old|middle|new)-?aged? (?:music|song)s?|new age|man in the moon)\b"
)

_GENERAL = """
    animal livestock pet wildlife insect vehicle engine motor machine machinery mechanism mechanical tool appliance
    device noise impact hit thump thud knock tap tick click bang crack clatter clang crash rattle rumble hum buzz
    whir hiss beep squeak scrape rub rustle splash liquid water metal wood glass wind alarm call
"""
_MANNER = """
    large small big little long short first second last next start begin end stop continue go come move turn pass
    make time times moment back front side open close several slow slowly fast quick quickly left right away far
    still play work run walk person people somebody together follow briefly different hear sound noise voice speak
    low high loud quiet soft clear steady distance distant background again while two three once twice faint deep
    heavy light gentle rapid sharp rough strong inside outside indoors outdoors almost finally later sudden just
    well like up often rather
"""
# A cue that says no more than this may be put in the words of what is seen: an engine may be a tractor's.
GENERIC = frozenset(map(words.stem, _GENERAL.split()))
# Words that a caption may share with what is seen, or said, without having them from there.
_NEUTRAL = frozenset(map(words.stem, _MANNER.split()))
_SONGS = re.compile(r"\b(?:music(?:al|ally)?|songs?|melod(?:y|ies)|tunes?)\b")
_MUSIC = re.compile(
    r"\b(?:music\w*|songs?|sing(?:s|ing|ers?)?|melod(?:y|ies|ic)|tunes?|instruments?|genre|tempo|orchestras?|choirs?|piano"
    r"|guitars?|violins?|fiddles?|cellos?|flutes?|trumpets?|saxophones?|clarinets?|organ|drum ?kit|drums|keyboards?"
    r"|synthesi[sz]ers?|harps?|banjos?|accordions?|harmonicas?|chants?|chanting|rap(?:ping)?)\b"
)


def uncertainty(subject: Subject, checks: Checks) -> str:
    """Doubts that are stated, where a broader word would do: "an engine runs", not "possibly a tractor"."""
    if doubt := UNCERTAINTY.first(words.plain(subject.caption)):
        return f'"{quoted(doubt)}" states a doubt; use a broader word that is sure, or leave the sound out.'
    return ""


def gender_age(subject: Subject, checks: Checks) -> str:
    """Whether somebody is a man, a woman or a child, where no cue of the sound but a transcript can tell."""
    text = _NOBODY.sub("·", words.plain(subject.caption))
    told = " · ".join(words.plain(item.text) for item in heard(subject.cues, checks.transcripts, checks.sight))
    for who, cue in _GROUPS:
        if (found := who.search(text)) and not cue.search(told):
            return f'No cue of the sound tells of "{quoted(found.group())}"; write "a person", "somebody" or "people".'
    return ""


def moods(subject: Subject, checks: Checks) -> str:
    """Moods that no cue of the sound names; those of the music often are named."""
    text = words.plain(subject.caption)
    known: set[str] | None = None
    for found in MOODS.finditer(text):
        if _NO_MOOD.opens(text[found.start() :]):
            continue
        if known is None:
            known = {
                stem
                for item in heard(subject.cues, checks.transcripts, checks.sight)
                for stem in words.stems(item.text)
            }
        if not shares(words.stems(found.group()), known):
            return f'"{quoted(found.group())}" is a mood that no cue of the sound names; leave it out.'
    return ""


def topic(subject: Subject, checks: Checks) -> str:
    """What the talk is about: words that only a transcript has, and no other cue."""
    items = [item for name in checks.transcripts for item in said(subject.cues.get(name, ()))]
    talked_of = {stem for item in items for stem in words.stems(item.text)}
    known = borne_out(subject.cues, checks.transcripts)
    for word in words.tokens(subject.caption):
        stems = words.stems(word)
        if stems & talked_of and not stems & _NEUTRAL and not shares(stems, known):
            return f'"{quoted(word)}" is only in what is said; say that somebody speaks, never about what.'
    return ""


def sight_only(subject: Subject, checks: Checks) -> str:
    """What only cues of sight speak of: they may tell what makes a sound of a general kind, and nothing else.

    An event that names none but such cues; one whose words only they have, unless a cue of the sound that it names
    says something as general as "engine" (`GENERIC`); and words of the caption that are in no event and no other cue.
    """
    if not checks.sight:
        return ""
    known = borne_out(subject.cues, checks.transcripts, but=checks.sight)
    if subject.form is None:
        told = {name for name, items in subject.cues.items() if items}
        for event in subject.events:
            named = told & set(event.cues)
            if named and named <= set(checks.sight):
                return f'"{quoted(event.text)}" is only seen; name a cue of the sound that says so, or leave it out.'
            if named and not _heard_in(event.text, named - set(checks.sight), known, subject):
                return (
                    f'Only what is seen speaks of "{quoted(event.text)}"; call it what the cues of the sound call it.'
                )
    seen = _stems_of(subject, set(checks.sight) - set(checks.places))
    known |= _stems_of(subject, checks.places) | words.stems(" · ".join(event.text for event in subject.events))
    for word in words.tokens(subject.caption):
        stems = words.stems(word)
        if stems & seen and not stems & _NEUTRAL and not shares(stems, known):
            return f'"{quoted(word)}" is only seen; leave it out.'
    return ""


def facet(subject: Subject, checks: Checks) -> str:
    """A form about one part of the sound that is about another, or about what no cue speaks of."""
    about, text = subject.form.about if subject.form else "", words.plain(subject.caption)
    if not about or not text:
        return ""
    return _PARTS[about](text, subject, checks)


def _of_speech(text: str, subject: Subject, checks: Checks) -> str:
    transcribed = any(spoken(subject.cues.get(name, ())) for name in checks.transcripts)
    if not transcribed and not any(words.SPEECH.search(words.plain(item.text)) for item in _sure(subject, checks)):
        return 'No cue says that anybody speaks; leave it empty ("").'
    if not words.SPEECH.search(text):
        return "It says nothing of speech; say how people speak, and nothing else."
    if found := _SONGS.search(text):
        return f'Leave out "{quoted(found.group())}"; write of the speech alone.'
    return ""


def _of_music(text: str, subject: Subject, checks: Checks) -> str:
    cues = [words.plain(item.text) for item in _sure(subject, checks)]
    if not any(map(_MUSIC.search, cues)):
        return 'No cue says that there is music; leave it empty ("").'
    if not _MUSIC.search(text) and not shares(words.stems(text), {stem for cue in cues for stem in words.stems(cue)}):
        return "It says nothing of the music; write of its kind, instruments and tempo."
    return ""


def _of_sound(text: str, subject: Subject, checks: Checks) -> str:
    if found := words.SPEECH.search(text) or _SONGS.search(text):
        return f'Leave out "{quoted(found.group())}"; write of what sounds beside speech and music.'
    return ""


def _of_place(text: str, subject: Subject, checks: Checks) -> str:
    if shares(words.stems(text), borne_out(subject.cues, checks.transcripts)):
        return ""
    return 'No cue speaks of that place; leave it empty ("").'


_PARTS: dict[str, Callable[[str, Subject, Checks], str]] = {
    "speech": _of_speech,
    "music": _of_music,
    "sound": _of_sound,
    "place": _of_place,
}


def _sure(subject: Subject, checks: Checks) -> list[Item]:
    """What the cues of the sound say, but for what they hardly believe themselves."""
    items = heard(subject.cues, checks.transcripts, checks.sight)
    return [item for item in items if item.score is None or item.score >= FAINT]


def _heard_in(event: str, named: set[str], known: set[str], subject: Subject) -> bool:
    """Whether cues of the sound bear out an event, or those that it names say something general."""
    if shares(words.stems(event), known):
        return True
    return bool(_stems_of(subject, named) & GENERIC)


def _stems_of(subject: Subject, names: set[str] | tuple[str, ...]) -> set[str]:
    return {stem for name in names for item in subject.cues.get(name, ()) for stem in words.stems(item.text)}


def quoted(text: str) -> str:
    """A few words of a caption, as a complaint may have them."""
    shown = harmless(text).replace('"', "'")
    return shown if len(shown) <= QUOTED else shown[: QUOTED - 1] + "…"
