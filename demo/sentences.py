"""Many ways to say what is heard in the demo world, in the manner of audio captions; and a tokenizer for them.

The place is never part of what is heard: the same sounds get the same sentences anywhere, with a place or without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from demo.scenes import PLACES, SOURCES, Scene

SPEECH, MUSIC = "speech", "music"
NAMES = (*SOURCES, SPEECH, MUSIC)


@dataclass(frozen=True)
class Words:
    """How a sound is spoken of.

    Attributes:
        nouns: what sounds, or the sound itself, as a noun with its article, or bare.
        clauses: who does what.
        doings: the same as a phrase without a finite verb.
    """

    nouns: tuple[str, ...]
    clauses: tuple[str, ...]
    doings: tuple[str, ...]


def _words(singular: str, plural: str, verbs: str, ing: str, *more: str) -> Words:
    """Words for a thing: its forms, what it does ("barks|yaps"), doing it ("barking|yapping"), and further nouns."""
    thing = singular.split(" ", 1)[1]
    nouns = (singular, f"the {thing}", thing, plural, *more, *(f"the {i} of {singular}" for i in ing.split("|")))
    clauses = [f"{singular} {verb}" for verb in verbs.split("|")]
    clauses += [f"{singular} is {i}" for i in ing.split("|")] + [f"{plural} are {i}" for i in ing.split("|")]
    doings = [f"{who} {i}" for i in ing.split("|") for who in (singular, plural, thing)]
    return Words(nouns, tuple(clauses), tuple(doings))


WORDS: dict[str, Words] = {
    "bell": _words("a bell", "bells", "rings|chimes|tolls", "ringing|chiming|tolling", "bell ringing"),
    "bird": _words("a bird", "birds", "chirps|sings|tweets", "chirping|singing|tweeting", "birdsong", "chirping"),
    "camera": _words(
        "a camera", "cameras", "clicks|takes a photo|takes pictures", "clicking", "a camera shutter", "a shutter"
    ),
    "car": _words(
        "a car", "cars", "honks|honks its horn|sounds its horn|beeps", "honking|beeping", "vehicle horn", "a car horn",
        "a horn", "car horn", "honking"
    ),
    "cat": _words("a cat", "cats", "meows|mews", "meowing|mewing", "a kitten", "meowing"),
    "dog": _words("a dog", "dogs", "barks|yaps|woofs", "barking|yapping", "barking"),
    "door": _words(
        "a door", "doors", "is knocked on|is being knocked on", "being knocked on", "knock", "a knock", "knocking",
        "a knock on a door", "knocking on a door", "someone knocking"
    ),
    "drum": _words(
        "a drum", "drums", "is struck|is beaten|beats|is played", "beating|being struck|being played", "drumming",
        "a drum beat"
    ),
    "duck": _words("a duck", "ducks", "quacks", "quacking", "quacking"),
    "frog": _words("a frog", "frogs", "croaks", "croaking", "croaking", "a toad"),
    "hammer": _words(
        "a hammer", "hammers", "strikes an anvil|strikes metal|hits an anvil|hammers",
        "striking an anvil|striking metal|hitting an anvil|hammering", "hammering", "an anvil"
    ),
    "hands": _words(
        "a pair of hands", "hands", "claps", "clapping", "clapping", "applause", "a person clapping", "someone clapping"
    ),
    "saw": _words(
        "a saw", "saws", "cuts through wood|cuts wood|saws", "cutting through wood|cutting wood|sawing", "sawing",
        "a person sawing wood", "someone sawing"
    ),
    "sheep": _words("a sheep", "sheep", "bleats|baas", "bleating|baaing", "bleating", "a lamb"),
    "typewriter": _words(
        "a typewriter", "typewriters", "clacks|types", "clacking|typing", "typing", "typewriter keys"
    ),
    "whistle": _words("a whistle", "whistles", "blows|is blown", "blowing|being blown", "whistling", "a whistle blast"),
    SPEECH: Words(
        ("speech", "a voice", "talking", "someone speaking", "voices", "a person's voice"),
        ("a person speaks", "a person talks", "a man is speaking", "a woman talks", "someone is talking"),
        ("a person speaking", "a man talking", "a woman speaking", "people talking", "someone talking"),
    ),
    MUSIC: Words(
        ("music", "background music", "instrumental music", "a melody", "the music"),
        ("music plays", "music is playing", "background music plays", "instruments play"),
        ("music playing", "background music playing", "instruments playing"),
    ),
}  # fmt: skip

PLACE_PHRASES = (
    *(place.phrase for place in PLACES.values()), "at the beach", "on a sandy beach", "by the sea", "in the woods",
    "in a busy street", "on the street", "at a busy train station", "inside a cave", "in a large cave",
    "in the kitchen", "in a quiet office", "on the farm", "outdoors", "indoors", "in a room", "outside",
    "in the distance", "in the background", "with an echo", "near waves",
)  # fmt: skip
ADVERBS = ("loudly", "repeatedly", "several times", "softly", "again and again", "in short bursts", "at intervals")
_CLAUSES_JOINED = (" and ", " while ", " as ", ", and ", ", then ", " and then ")
_DOINGS_JOINED = (" and ", " with ", " followed by ", ", then ", " over ")
_FRAMES = (
    "{sounds} can be heard{place}.",
    "the sound of {sounds} is heard{place}.",
    "{sounds} sounds{place}.",
    "{sounds}{place}",
    "this is a sound of {sounds}{place}.",
    "the sounds of {sounds}{place}",
    "{sounds} can be heard clearly{place}.",
)


def heard_in(scene: Scene) -> tuple[str, ...]:
    """What is heard in a scene, as keys of `WORDS`; empty for silence."""
    if "speech_over_music" in scene.faults:
        return SPEECH, MUSIC
    heard = scene.audio_scene()
    return heard.sources if heard else ()


def sentence(names: Sequence[str], rng: np.random.Generator, place: str | None = None) -> str:
    """One sentence on the sounds `names`.

    Args:
        names: keys of `WORDS`, in any order.
        rng: decides how it is put.
        place: a phrase such as ``on a beach``; empty for none, ``None`` for one that `rng` chooses.
    """
    if place is None:
        place = _one(PLACE_PHRASES, rng) if rng.random() < 0.6 else ""
    ordered = [names[int(i)] for i in rng.permutation(len(names))]
    where = f" {place}" if place else ""
    style = rng.random()
    if style < 0.4:
        text = _one(_FRAMES, rng).format(sounds=_listed([_one(WORDS[n].nouns, rng) for n in ordered], rng), place=where)
    else:
        finite = style < 0.8
        parts = [_one(WORDS[name].clauses if finite else WORDS[name].doings, rng) for name in ordered]
        if rng.random() < 0.3:
            parts[int(rng.integers(len(parts)))] += f" {_one(ADVERBS, rng)}"
        joint = _one(_CLAUSES_JOINED if finite else _DOINGS_JOINED, rng)
        joined = joint.join(parts) if len(parts) < 3 else _listed(parts, rng)
        text = f"{place}, {joined}." if place and rng.random() < 0.2 else f"{joined}{where}."
    return text[0].upper() + text[1:]


def vocabulary() -> list[str]:
    """Every word that a sentence may hold, in lower case and in alphabetical order."""
    texts = [phrase for words in WORDS.values() for phrase in (*words.nouns, *words.clauses, *words.doings)]
    texts += [frame.replace("{", " ").replace("}", " ") for frame in _FRAMES]
    texts += [*PLACE_PHRASES, *ADVERBS, *_CLAUSES_JOINED, *_DOINGS_JOINED]
    return sorted({word.strip(",.") for text in texts for word in text.lower().split()} - {""})


def make_tokenizer(longest: int) -> PreTrainedTokenizerFast:
    """Returns a tokenizer: one token for a word of `vocabulary`, and bytes for whatever is left.

    Its merges spell each known word from the left, so the longest known beginning of a word is one token. That needs no
    training, and gives the same tokens everywhere.

    Args:
        longest: tokens of a text, at most.
    """
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet())]
    merges: dict[tuple[str, str], None] = {}
    for word in vocabulary():
        for end in range(1, len(word) + 1):
            merges["Ġ" + word[: end - 1], word[end - 1]] = None
    tokens += ["".join(pair) for pair in merges]
    ids = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(BPE(ids, list(merges), unk_token="<unk>"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
    tokenizer.decoder = ByteLevelDecoder()
    ends = [(token, ids[token]) for token in ("<s>", "</s>")]
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=longest,
    )


def _listed(words: Sequence[str], rng: np.random.Generator) -> str:
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])}{',' if rng.random() < 0.2 else ''} and {words[-1]}"


def _one(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
