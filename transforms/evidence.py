"""What bears out a text that was written of a clip: the words of its cues, compared by their stems."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from model_handlers.base import Item, Items
from transforms import words

_SAYS_NOTHING = ("no speech", "language ")  # how the items of a transcript begin that hold no speech
_DENIAL = re.compile(
    r"\b(?:no(?! doubt)|not(?! (?:only|just|far|long))|without|neither|nor|absent|nobody|nothing(?! but)|none|never"
    r"|cannot|\w+n't)\b"
)
_PREDICATE = re.compile(r"\b(?:not|absent|never|cannot|\w+n't)\b")
_LACKING = re.compile(r"\b(?:without|with no)\b")
_SPEAKING = words.stem("speech")
_SINGING = frozenset(map(words.stem, ("sing", "singer", "vocalist", "choir", "rap", "rapper", "chant", "yodel")))
SURE = 0.5  # a score from which a cue is taken to be sure that there is speech, or singing
_SENTENCE = re.compile(r"[.;!?]+(?:\s+|$)")
_BUT = re.compile(r"but|while")
_PART = re.compile(r"(?:, ?|\s)(?:and|but|while)\s|, ?")
# How a part begins that tells of a thing anew: "no music, a dog barks"; what else follows a denial, it denies as well:
# "no speech, music or laughter".
_ANEW = re.compile(r"(?:a|an|the|there|then|only|just|some|somebody|someone|people|two|three|several|many)\b")


def said(items: Items) -> Items:
    """What of a transcript was said: neither how sure it is that nobody speaks, nor in which language somebody does."""
    return tuple(item for item in items if not item.text.startswith(_SAYS_NOTHING))


def unsaid(items: Items) -> Items:
    """The rest of a transcript: what `said` leaves out."""
    return tuple(item for item in items if item.text.startswith(_SAYS_NOTHING))


def spoken(items: Items) -> bool:
    """Whether a transcript holds anything that was said."""
    return bool(said(items))


def spoken_in(
    cues: Mapping[str, Items], transcripts: Collection[str], language: str = "en", but: Collection[str] = ()
) -> bool:
    """Whether what transcripts hold was spoken. Where another cue is sure of singing, and none of speech, it was sung.

    A speech recogniser writes down a song's words like any others.

    Args:
        cues: by name.
        transcripts: which of them hold what is said.
        language: of the other cues, ISO 639-1.
        but: names of cues that do not count.
    """
    if not any(spoken(items) for name, items in cues.items() if name in transcripts):
        return False
    told = [
        stems_told(item.text, language)
        for name, items in cues.items()
        if name not in transcripts and name not in but
        for item in items
        if item.score is None or item.score >= SURE
    ]
    return any(_SPEAKING in stems for stems in told) or all(_SINGING.isdisjoint(stems) for stems in told)


def denies(text: str) -> bool:
    """Whether a text says of anything that it is not there, in English."""
    return bool(_DENIAL.search(words.plain(text)))


@lru_cache(maxsize=1 << 10)
def affirmed(text: str, language: str = "en") -> str:
    """A text without what it says is not there: of ``a dog barks; there is no music`` the dog is left.

    Only English denials are known; a text in another language, or one that denies nothing, is returned as it is.
    """
    if language not in ("", "en") or not denies(text):
        return text
    return ". ".join(filter(None, map(_affirmed, _SENTENCE.split(words.plain(text)))))


def _affirmed(sentence: str) -> str:
    kept: list[str] = []
    denied, end = False, 0
    for cut in (*_PART.finditer(sentence), None):
        part = sentence[end : cut.start() if cut else None].strip()
        if _DENIAL.search(part):
            if _PREDICATE.search(part):  # "music and speech are absent"
                kept = [one for one in kept if len(words.stems(one)) > 1]
            before = _LACKING.split(part)[0].strip()
            kept += [before] if before and not _DENIAL.search(before) else []
            denied = True
        elif part and (not denied or _ANEW.match(part)):
            kept.append(part)
            denied = False
        if cut:
            end, denied = cut.end(), denied and not _BUT.search(cut.group())
    return ", ".join(kept)


@lru_cache(maxsize=1 << 10)
def stems_told(text: str, language: str = "en") -> frozenset[str]:
    """The stems of what an item says is there (`affirmed`)."""
    return frozenset(words.stems(affirmed(text, language), language))


def borne_out(
    cues: Mapping[str, Items], transcripts: Collection[str], language: str = "en", but: Collection[str] = ()
) -> set[str]:
    """Stems of all that the cues say is there, but for transcripts: they are evidence of speech only (`spoken_in`).

    Args:
        cues: by name.
        transcripts: which of them hold what is said.
        language: of the cues, ISO 639-1.
        but: names of cues that do not count.
    """
    known: set[str] = set()
    for name, items in cues.items():
        if name in but:
            continue
        if name in transcripts:
            known |= {_SPEAKING} if spoken(items) and spoken_in(cues, transcripts, language, but) else set()
        else:
            known.update(*(stems_told(item.text, language) for item in items))
    return known


def shares(some: Collection[str], known: Collection[str]) -> bool:
    """Whether a stem is among the known ones, or one begins the other, as "thunder" does "thunderstorm"."""
    known = known if isinstance(known, set | frozenset) else set(known)
    if not known.isdisjoint(some):
        return True
    long = tuple(stem for stem in some if len(stem) >= 4)
    if not known.isdisjoint(stem[:end] for stem in long for end in range(4, len(stem))):
        return True
    lines = "\n" + "\n".join(known)  # ten times as fast as one by one where many are known
    return any(f"\n{stem}" in lines for stem in long)


def heard(cues: Mapping[str, Items], transcripts: Collection[str], sight: Collection[str]) -> Iterator[Item]:
    """What the cues of the sound say is there, but for what is said in it."""
    for name, items in cues.items():
        if name not in transcripts and name not in sight:
            for item in items:
                if text := affirmed(item.text):
                    yield item if text == item.text else replace(item, text=text)
