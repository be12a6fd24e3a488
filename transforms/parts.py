"""Checks on the parts of captions: that each clause tells of what a cue hears, and each form keeps to its part.

`ungrounded` runs only where ``[checks]`` names it (`on`), `facet` on forms that are about a part of the sound. They
know English words, and judge English texts alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from model_handlers.base import Item, Items
from model_handlers.writers import SoundEvent
from transforms import words
from transforms.bans import GENERIC, NEUTRAL, quoted, sure
from transforms.evidence import shares, spoken, spoken_in

if TYPE_CHECKING:
    from transforms.checks import Checks, Subject

_PART = re.compile(
    r"[,;.:!?] (?:(?:and|then|while|but) )*| (?:and then|and|while|as|then|with|before|after|but|when|whilst|until"
    r"|followed by|accompanied by|amid|over) "
)
_WHERE = re.compile(
    r"(?:^| )(?:in|on|onto|at|inside|outside|near|nearby|by|from|along|through|across|under|behind|beside|into|to"
    r"|towards?"
    r"|against|around|off|past|within|above|below|between|during|for|without|beneath|among|like|down|up|out) "
)
_OWN = re.compile(r"(?:an?|the|some|several|many|two|three|its|their|his|her|another|other|people|somebody|someone) ")
_PLAIN = """
    pause fade die stay remain keep grow become rise fall settle echo reverberate resonate linger ring repeat occur
    follow interrupt join mix merge overlap vary change increase decrease slow ease cease resume hold last
    metallic hollow dull harsh muffled constant continuous intermittent occasional rhythmic regular even single brief
    whole both each few couple bit series burst pattern succession chorus rest end middle beginning silence quiet
    high-pitched pitch tone level volume pace echoes reverb close crisp shrill thin warm bright low-pitched
    heard apparent minute hour
    person people somebody someone group crowd thing something object source use
    bark roar growl howl groan moan screech scream squeal shriek chirp cry grunt snarl whimper whine wail
    drone murmur whistle chatter pop snap crackle crunch creak grind jingle clink chime toll blare honk hoot
"""
# Of any sound it may be said how it goes on, or in which broader word it is: these name none that a cue would have to.
_MANNER = NEUTRAL - {words.stem("speech")}
_NAMES_NONE = (_MANNER | GENERIC | frozenset(map(words.stem, _PLAIN.split()))) - {"wind", "water", "alarm"}
_SONGS = re.compile(r"\b(?:music(?:al|ally)?|songs?|melod(?:y|ies)|tunes?)\b")
_INSTRUMENTS = (
    r"piano|guitars?|violins?|fiddles?|cellos?|flutes?|trumpets?|trombones?|saxophones?|clarinets?|synthesi[sz]ers?|harps?"
    r"|banjos?|accordions?|harmonicas?|ukuleles?|orchestras?|choirs?|drum ?kit|tubas?|oboes?|mandolins?|sitars?"
)
_GENRES = (
    r"waltz|jazz|blues|rock|pop|reggae|march|lullaby|classical|hip[ -]hop|techno|electronic|electronica|folk|country"
    r"|metal|opera|disco|funk|soul|house|ambient|ska|tango|samba|salsa|gospel|punk|rap|bluegrass|swing|polka|dubstep|trance"
)
_MUSIC = re.compile(
    rf"\b(?:music\w*|songs?|sing(?:s|ing|ers?)?|melod(?:y|ies|ic)|tunes?|instruments?|genre|tempo|{_INSTRUMENTS}|organ|drums"
    r"|keyboards?|chants?|chanting|rap(?:ping)?)\b"
)
_IN_MUSIC = re.compile(rf"\b(?:{_INSTRUMENTS}|{_GENRES})\b")
# What is of music in a text about the other sounds: birds sing, and keyboards clack.
_TUNEFUL = re.compile(rf"{_SONGS.pattern}|\b(?:{_INSTRUMENTS}|sing(?:s|ing|ers?)?)\b")
_SINGING = re.compile(
    r"\b(?:birds?|\w+birds?|whales?|crickets?|cicadas?|frogs?|kettles?|canar(?:y|ies)|robins?|larks?)(?: \w+){0,3}"
    r" sing(?:s|ing)?(?: (?:an?|the) (?:songs?|melod(?:y|ies)|tunes?))?\b"
)
_PLACES = re.compile(r"\b(?:inside|outside|indoors?|outdoors?|room|hall|public space|rural|urban)\b")
_PLACE = re.compile(
    r"(?:somewhere )?(?:in|inside|on|at|near|by|outside|outdoors|indoors|under|along|within|beside|aboard|next to)\b"
)
_MUSIC_CUE = "music"


def ungrounded(subject: Subject, checks: Checks) -> str:
    """A part of a text that names a sound of which no cue of the sound speaks.

    An event counts where it passes, clause by clause: that a dog barks bears out no helicopter. Where something is, how
    it sounds, and broader words (`bans.GENERIC`) need no cue. What is no caption, and no form of one, is left alone.
    """
    if not subject.grounded and subject.form is None:
        return ""
    if subject.form is not None and subject.form.about == "place":
        return ""
    places = _of_places(subject, checks)
    known = _known(subject, checks)
    if _SONGS.search(" · ".join(item.text.lower() for item in sure(subject, checks))):
        known |= words.stems("music song melody tune")
    for event in subject.events:
        if subject.form is None and set(event.cues) <= {*checks.places, *checks.sight}:
            return f'No cue of the sound says "{quoted(event.text)}"; leave it out.'
        known |= _borne_out_by(event, known, subject, checks)
    for part in _parts(subject.caption):
        if _names_a_sound(part, places) and not shares(words.stems(part) - places - _MANNER, known):
            return f'No cue of the sound speaks of "{quoted(part)}"; leave it out, or call it what the cues call it.'
    return ""


def credited(event: SoundEvent, cues: Mapping[str, Items], checks: Checks) -> SoundEvent:
    """An event with those of its cues that speak of it. Where none does, all that said anything.

    A cue does that shares a word with the event, or says something general that the event may be (`bans.GENERIC`), or
    is of music or speech like the event.
    """
    told = tuple(name for name in dict.fromkeys(event.cues) if cues.get(name))
    if checks.language in ("", "en"):
        told = tuple(name for name in told if _speaks_of(name, event.text, cues[name], checks)) or told
    return replace(event, cues=told or event.cues)


def _speaks_of(name: str, event: str, items: Items, checks: Checks) -> bool:
    text, said = words.plain(event), " · ".join(words.plain(item.text) for item in items)
    if name in checks.transcripts:
        return bool(words.SPEECH.search(text))
    if _MUSIC.search(text) and _MUSIC.search(said):
        return True
    stems, known = words.stems(text), words.stems(said)
    return shares(stems - NEUTRAL or stems, known) or not known.isdisjoint(GENERIC)


def facet(subject: Subject, checks: Checks) -> str:
    """A form about one part of the sound that is about another, or about what no cue speaks of."""
    about, text = subject.form.about if subject.form else "", words.plain(subject.caption)
    if not about or not text:
        return ""
    return _FACETS[about](text, subject, checks)


def _of_speech(text: str, subject: Subject, checks: Checks) -> str:
    transcribed = spoken_in(subject.cues, checks.transcripts, but=checks.sight)
    if not transcribed and not any(words.SPEECH.search(words.plain(item.text)) for item in sure(subject, checks)):
        return 'No cue says that anybody speaks; leave it empty ("").'
    if not words.SPEECH.search(text):
        return "It says nothing of speech; say how people speak, and nothing else."
    if found := _SONGS.search(text):
        return f'Leave out "{quoted(found.group())}"; write of the speech alone.'
    if strange := _of_another(text, words.SPEECH, "", subject, checks):
        return f'Leave out "{quoted(strange)}"; write of the speech alone.'
    return ""


def _of_music(text: str, subject: Subject, checks: Checks) -> str:
    cues = [words.plain(item.text) for item in sure(subject, checks)]
    if not any(map(_MUSIC.search, cues)):
        return 'No cue says that there is music; leave it empty ("").'
    known = {stem for cue in cues for stem in words.stems(cue)}
    if not _MUSIC.search(text) and not shares(words.stems(text), known):
        return "It says nothing of the music; write of its kind, instruments and tempo."
    if strange := _of_another(text, _MUSIC, _MUSIC_CUE, subject, checks):
        return f'Leave out "{quoted(strange)}"; write of the music alone.'
    for found in _IN_MUSIC.finditer(text):
        if not shares(words.stems(found.group()), known):
            return f'No cue says "{quoted(found.group())}" of the music; leave it out.'
    return ""


def _of_sound(text: str, subject: Subject, checks: Checks) -> str:
    if found := words.SPEECH.search(text) or _TUNEFUL.search(_SINGING.sub("·", text)):
        return f'Leave out "{quoted(found.group())}"; write of what sounds beside speech and music.'
    return ""


def _of_place(text: str, subject: Subject, checks: Checks) -> str:
    places = _of_places(subject, checks)
    stems = words.stems(text)
    if not shares(stems, places) and not (_PLACE.match(text) and shares(stems, _known(subject, checks))):
        return 'No cue speaks of that place; leave it empty ("").'
    if strange := _of_another(text, _PLACES, "", subject, checks):
        return f'Leave out "{quoted(strange)}"; write of the place alone.'
    return ""


_FACETS: dict[str, Callable[[str, Subject, Checks], str]] = {
    "speech": _of_speech,
    "music": _of_music,
    "sound": _of_sound,
    "place": _of_place,
}


def _of_another(text: str, about: re.Pattern[str], cue: str, subject: Subject, checks: Checks) -> str:
    """A word that only cues of another part of the sound say: clauses of theirs in which `about` matches nothing.

    What the cue named `cue` says is all of this part, and of the place any part may tell.
    """
    own = _of_places(subject, checks)
    others: set[str] = set()
    for name in subject.cues.keys() - {*checks.sight, *checks.places, *checks.transcripts}:
        for item in _told(subject, name, checks):
            for part in _parts(item.text):
                mine = name == cue or about.search(part) or _PLACES.search(part)
                (own if mine else others).update(words.stems(part))
    for word in words.tokens(text):
        stems = words.stems(word) - NEUTRAL
        if stems & others and not shares(stems, own) and not about.search(word):
            return word
    return ""


def _of_places(subject: Subject, checks: Checks) -> set[str]:
    """The stems of what the cues of the place say."""
    return {stem for name in checks.places for item in subject.cues.get(name, ()) for stem in words.stems(item.text)}


def _known(subject: Subject, checks: Checks) -> set[str]:
    """The stems of what the cues of the sound say."""
    known: set[str] = set()
    for name in subject.cues.keys() - {*checks.places, *checks.sight}:
        if name in checks.transcripts:
            speech = spoken(subject.cues[name]) and spoken_in(subject.cues, checks.transcripts, but=checks.sight)
            known |= {words.stem("speech")} if speech else set()
        else:
            known.update(*(words.stems(item.text) for item in _told(subject, name, checks)))
    return known


def _told(subject: Subject, name: str, checks: Checks) -> list[Item]:
    """What one cue of the sound says, but for what it hardly believes itself."""
    return sure(replace(subject, cues={name: subject.cues[name]}), checks)


def _borne_out_by(event: SoundEvent, known: set[str], subject: Subject, checks: Checks) -> set[str]:
    """The stems of those clauses of an event that cues bear out, or that put a general sound in words of sight."""
    told = {stem for name in event.cues if name in subject.cues for stem in _stems_told(subject, name, checks)}
    by_sight = bool(set(checks.sight) & set(event.cues)) and bool(told & GENERIC)
    borne: set[str] = set()
    for part in _parts(event.text):
        stems = words.stems(part) - _MANNER
        if by_sight or shares(stems, known):
            borne |= stems
    return borne


def _stems_told(subject: Subject, name: str, checks: Checks) -> set[str]:
    return {stem for item in _told(subject, name, checks) for stem in words.stems(item.text)}


def _parts(text: str) -> list[str]:
    return [part for part in (part.strip(" ,;.:!?") for part in _PART.split(f"{words.plain(text)} ")) if part]


def _names_a_sound(part: str, places: set[str]) -> bool:
    """Whether a part of a sentence is a clause of its own: not only where, how or how long it sounds."""
    what = _WHERE.split(part)[0]
    if not words.stems(what) - places - _NAMES_NONE:
        return False
    said = {word for word in words.tokens(what) if not word.endswith("ly")} - words.STOP_WORDS
    return bool(_OWN.match(what)) or len({word for word in said if words.stem(word) not in _MANNER}) > 1
