"""Checks on what a profile's prompt may forbid beyond what no caption may hold: doubts, guesses, and what is only seen.

`sight_only` runs where a profile says which cues are of what is seen, the others only where ``[checks]`` names them
(`on`). They know English words, and judge English texts alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from model_handlers.base import Item
from model_handlers.llm import harmless
from model_handlers.writers import SoundEvent
from transforms import words
from transforms.evidence import borne_out, heard, said, shares
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
        r"or so it (?:sounds|seems)",
        r"an? [\w-]{1,20}(?: [\w-]{1,20})? or (?:an?|some) [\w-]{1,20}",
        r"resembl(?:es?|ed|ing)",
        r"as (?:if|though)",
        r"(?:can|could|may|might|would) (?:easily |well |also )?pass for",
        r"or (?:some )?(?:other|another) (?:\w+ )?(?:source|device|object|thing|animal|machine|instrument|vehicle)",
    ),
    passes=(
        r"(?:best|as \w+ as|soon as|if|where|when(?:ever)?) possible",
        r"with (?:all )?(?:\w+ )?might",
        r"could (?:also |still |even )?be heard",
        r"apparent (?:rise|fall|drop|change|increase|decrease|shift|motion)",
        r"whether (?:[\w-]+ ){1,4}or not",
    ),
)

MOODS = re.compile(
    r"(?<![\w-])(?:cheer(?:ful|fully|y)|joy(?:ful|fully|ous|ously|less)?|happ(?:y|ily|iness)|glad(?:ly)?|sad(?:ly|ness)?"
    r"|melanchol(?:y|ic)|gloom(?:y|ily)?|somb(?:er|re|rely)|mournful(?:ly)?|wistful(?:ly)?|eerie|eerily|creepy|spooky"
    r"|ominous(?:ly)?|sinister|scary|frightening|menacing(?:ly)?|threatening(?:ly)?|tense(?:ly)?|tension|suspense(?:ful)?"
    r"|seren(?:e|ely|ity)|peace(?:ful|fully)|tranquil(?:ly|lity)?|calm(?:ing|ness)?|relax(?:ed|ing)|sooth(?:ing|ingly)"
    r"|romantic(?:ally)?|nostalgi(?:a|c|cally)|dramatic(?:ally)?|playful(?:ly)?|upbeat|uplifting|lively|festive"
    r"|excit(?:ed|edly|ing|ement)|energetic(?:ally)?|angr(?:y|ily)|anger|furious(?:ly)?|emotional(?:ly)?|haunting(?:ly)?"
    r"|dream(?:y|ily)|whimsical(?:ly)?|myster(?:y|ious|iously)|triumphant(?:ly)?|heroic(?:ally)?|anxious(?:ly)?|anxiety"
    r"|nervous(?:ly)?|upset|frustrat(?:ed|edly|ion)|jolly|intimate(?:ly)?|spirited|sorrow(?:ful|fully)?"
    r"|fear(?:ful|fully)?|hope(?:ful|fully)|lonely|loneliness|bored|boring|cozy|cosy|jovial(?:ly)?|light-?hearted(?:ly)?"
    r"|carefree|merry|merrily|desperate(?:ly)?|urgency|affection(?:ate|ately)|tenderly|tenderness"
    r"|tender(?= (?:voices?|tones?|melod|songs?|music|waltz|piece|lullaby|ballad|words|way|manner|and)))(?!\w)"
)
_NO_MOOD = re.compile(
    r"\b(?:calm (?:seas?|waters?|winds?|lakes?|days?|voices?|tones?|pace)|for fear|fear of|merry-go-rounds?"
    r"|happy birthday|boring (?:machines?|tools?|bits?|bars?|heads?|into|through|holes?)"
    r"|(?:under|in|high|cable|string|spring|belt) tension|tension (?:of|in|on) (?:an?|the) \w+)\b"
)
_FAMILIES = """
    sad sadness melancholy melancholic gloomy somber sombre mournful wistful sorrowful nostalgic lonely
    cheerful cheery happy happiness joyful joyous merry jolly jovial playful upbeat lively festive uplifting carefree
    calm calming peaceful serene serenity tranquil relaxed relaxing soothing
    tense tension suspenseful suspense ominous sinister menacing threatening eerie creepy spooky scary frightening
    energetic lively spirited excited exciting upbeat
    romantic tender affectionate intimate
    angry angrily anger furious
    anxious nervous fearful fear
"""
# Moods that count as one: music that a cue calls melancholic may be called sad.
_ALIKE = tuple(frozenset(map(words.stem, line.split())) for line in _FAMILIES.strip().splitlines())

_TRADES = (
    r"(?:anchor|business|camera|chair|congress|country|crafts|delivery|door|fire|fisher|news|police|post|repair|sales|show"
    r"|spokes|sports|states|trades|work)-?"
)
_MALE = (
    rf"(?:{_TRADES})?m[ae]n|manly|males?|gentlem[ae]n|guys?|he|him|his|himself|masculine|fathers?|dad(?:dy)?|husbands?|brothers?"
    r"|uncles?|sirs?|sons?|blokes?|chaps?|dudes?|lads?|boyfriends?"
)
_FEMALE = (
    rf"(?:{_TRADES})?wom[ae]n|womanly|females?|lad(?:y|ies)|she|hers?|herself|feminine|mothers?|mom(?:my)?|mum(?:my)?|wi(?:fe|ves)"
    r"|sisters?|aunts?|daughters?|housewi(?:fe|ves)|actress(?:es)?|waitress(?:es)?|lass(?:es)?|girlfriends?"
)
_SOMEBODY = r"(?:m[ae]n|wom[ae]n|lad(?:y|ies)|persons?|people|voices?|couple)"
# What says who somebody is, and what a cue of the sound has to say to bear it out.
_PEOPLE = (
    (_MALE, _MALE),
    (_FEMALE, _FEMALE),
    (r"(?<!choir of )(?:school)?boys?(?!'? choir)|boyish", r"(?:school)?boys?"),
    (r"(?<!choir of )(?:school)?girls?(?!'? choir)|girlish|girly", r"(?:school)?girls?"),
    (r"choir of (?:boys|girls)|(?:boys|girls)'? choir", r"child(?:ren)? singing|boys?|girls?|child(?:ren)?"),
    (
        r"child(?:ren|like|ish)?|kids?|toddlers?|youngsters?",
        r"child(?:ren)?|kids?|toddlers?|boys?|girls?|bab(?:y|ies)|infants?",
    ),
    (r"bab(?:y|ies)|infants?|newborns?", r"bab(?:y|ies)|infants?|newborns?"),
    (
        rf"elder(?:ly|s)|old(?:er)? {_SOMEBODY}|aged|seniors?|grann(?:y|ies)"
        r"|grand(?:mothers?|fathers?|m(?:a|um)|pa|dad|parents?)",
        r"elder(?:ly|s)|old(?:er)?|aged|seniors?|grand\w+|grann(?:y|ies)",
    ),
    (
        rf"teen(?:s|aged?|agers?)?|adolescents?|youths?|adults?|middle-aged|young(?:er)? {_SOMEBODY}",
        r"teen\w*|adolescents?|youths?|adults?|middle-aged|young(?:er)?",
    ),
)
_GROUPS = tuple(
    (re.compile(rf"(?<![\w-])(?:{who})(?!\w|-(?!sounding|like|voiced))"), re.compile(rf"(?<!\w)(?:{cue})(?!\w)"))
    for who, cue in _PEOPLE
)
_ANIMALS = (
    r"(?:birds?|hens?|chick(?:en)?s?|roosters?|ducks?|ducklings?|geese|goose|goats?|sheep|lambs?|cows?|calf|calves|bulls?"
    r"|horses?|foals?|mares?|pigs?|piglets?|dogs?|pupp(?:y|ies)|cats?|kittens?|lions?|tigers?|bears?|cubs?|deer|elephants?"
    r"|monkeys?|seals?|whales?|wol(?:f|ves)|owls?|frogs?|animals?|mammals?|insects?|crickets?|mosquito(?:es)?)"
)
_YOUNG = (
    r"(?:chicks?|calf|calves|cubs?|kittens?|pups|pupp(?:y|ies)|lambs?|foals?|ducklings?|piglets?|brood|litter|young)"
)
_NOBODY = re.compile(  # what is neither old nor young, nor a man
    rf"\b(?:(?:bab(?:y|ies)|adult|young(?:er)?|old(?:er)?|elderly|(?:fe)?male|mother|father) {_ANIMALS}"
    rf"|{_ANIMALS}(?: [\w-]+){{1,4}} (?:her|his) (?:own |small |young )?{_YOUNG}"
    r"|baby (?:grand|rattles?|monitors?|toys?|carriages?|strollers?|cribs?|bottles?)|grand(?:father|mother) clocks?"
    r"|guy[ -]?(?:ropes?|wires?|lines?)|(?:old|middle|new)-?aged? (?:music|song)s?|new age|man in the moon)\b"
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
_WHERE = re.compile(r" (?:in|on|at|inside|outside|near|next|by|beside|behind|under|along|past|around|close) ")
# Words that a caption may share with what is seen, or said, without having them from there.
NEUTRAL = frozenset(map(words.stem, _MANNER.split()))
# Words that sounds and manners are told in, and talk as well: one that talk shares with a caption is no topic yet.
_OF_MANNER = """
    tone pitch pause slightly slight bit pretty conversation warm cold open echo even evenly pace level hall room space
    street
"""
_OF_SOUNDS = """
    car truck bus train traffic road bike boat plane dog cat bird horse door window phone bell rain music song horn
    drum guitar piano fire wheel brake belt crowd baby kitchen house floor hand foot
"""
_MANNERS = frozenset(map(words.stem, _OF_MANNER.split()))
_COMMON = _MANNERS | frozenset(map(words.stem, _OF_SOUNDS.split()))
_OWN_TOPIC = 2  # of such words, but for manner and what is general, that are one
_ABOUT = re.compile(
    r"\b(?:(?:talk|speak|chat)(?:s|ing)? (?:(?:\w+ ){0,2}about|of)"
    r"|(?:announc|tell|explain)(?:s|es|ing)? (?:\w+ ){0,2}(?:about|of|that|how|why)"
    r"|announc(?:es|ing) (?:an?|the|that)|discuss(?:es|ing)"
    r"|(?:ask|tell|order|invit|urg|warn)(?:s|es|ing) (?:\w+ ){1,2}to)\b"
)


def uncertainty(subject: Subject, checks: Checks) -> str:
    """Doubts that are stated, where a broader word would do: "an engine runs", not "possibly a tractor"."""
    if doubt := UNCERTAINTY.first(words.plain(subject.caption)):
        return f'"{quoted(doubt)}" states a doubt; use a broader word that is sure, or leave the sound out.'
    return ""


def gender_age(subject: Subject, checks: Checks) -> str:
    """Whether somebody is a man, a woman or a child, where no cue of the sound but a transcript can tell."""
    text = _NOBODY.sub("·", words.plain(subject.caption))
    told = " · ".join(words.plain(item.text) for item in sure(subject, checks))
    for who, cue in _GROUPS:
        if (found := who.search(text)) and not cue.search(told):
            return f'No cue of the sound tells of "{quoted(found.group())}"; write "a person", "somebody" or "people".'
    return ""


def moods(subject: Subject, checks: Checks) -> str:
    """Moods that no cue of the sound names; those of the music often are named."""
    text = _NO_MOOD.sub("·", words.plain(subject.caption))
    known: set[str] | None = None
    for found in MOODS.finditer(text):
        if known is None:
            known = {stem for item in sure(subject, checks) for stem in words.stems(item.text)}
        stems = words.stems(found.group())
        if not shares(stems.union(*(family for family in _ALIKE if stems & family)), known):
            return f'"{quoted(found.group())}" is a mood that no cue of the sound names; leave it out.'
    return ""


def topic(subject: Subject, checks: Checks) -> str:
    """What the talk is about: words for it, or words that only a transcript has, and no other cue.

    Of words that sounds are told in as well, such as "car", there have to be two.
    """
    if about := _ABOUT.search(words.plain(subject.caption)):
        return f'"{quoted(about.group())}" tells what the talk is about; say that somebody speaks, never about what.'
    items = [item for name in checks.transcripts for item in said(subject.cues.get(name, ()))]
    talked_of = {stem for item in items for stem in words.stems(item.text)}
    known = borne_out(subject.cues, checks.transcripts)
    shared: set[str] = set()
    for word in words.tokens(subject.caption):
        stems = words.stems(word) - (NEUTRAL | GENERIC)
        if stems & talked_of and not shares(stems, known):
            shared |= stems
            if not stems <= _COMMON or len(shared - _MANNERS) >= _OWN_TOPIC:
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
    known |= _stems_of(subject, checks.places)
    known |= {stem for event in subject.events for stem in _told_by(event, seen, known, subject, checks)}
    for word in words.tokens(subject.caption):
        stems = words.stems(word)
        if stems & seen and not stems & NEUTRAL and not shares(stems, known):
            return f'"{quoted(word)}" is only seen; leave it out.'
    return ""


def sure(subject: Subject, checks: Checks) -> list[Item]:
    """What the cues of the sound say, but for what they hardly believe themselves."""
    items = heard(subject.cues, checks.transcripts, checks.sight)
    return [item for item in items if item.score is None or item.score >= FAINT]


def _heard_in(event: str, named: set[str], known: set[str], subject: Subject) -> bool:
    """Whether cues of the sound bear out an event, or those that it names say something general."""
    if shares(words.stems(event), known):
        return True
    return bool(_stems_of(subject, named) & GENERIC)


def _told_by(event: SoundEvent, seen: set[str], known: set[str], subject: Subject, checks: Checks) -> set[str]:
    """The stems of an event but for those that are only seen, unless it may put a general sound in words of sight."""
    stems = words.stems(event.text)
    named = set(event.cues) - set(checks.sight)
    general = bool(_stems_of(subject, named) & GENERIC)
    if general and not shares(stems, known):
        return stems
    of_what_sounds = (
        words.stems(_WHERE.split(words.plain(event.text))[0]) if general and named < set(event.cues) else set()
    )
    return of_what_sounds | {stem for stem in stems if stem not in seen or shares({stem}, known)}


def _stems_of(subject: Subject, names: set[str] | tuple[str, ...]) -> set[str]:
    return {stem for name in names for item in subject.cues.get(name, ()) for stem in words.stems(item.text)}


def quoted(text: str) -> str:
    """A few words of a caption, as a complaint may have them."""
    shown = harmless(text).replace('"', "'")
    return shown if len(shown) <= QUOTED else shown[: QUOTED - 1] + "…"
