"""What a speech recogniser writes, read and judged: which of its sentences anybody has said.

Whisper writes something of silence and noise as well: sentences that ended many of the videos it learnt from, or one
word over and over. What gives such a sentence away is looked for here.
"""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_handlers.base import Item, Items

RATE = 16_000  # samples per second that Whisper hears
STEP_S = 0.02  # of its time stamps
# Limits of Whisper's paper (arXiv:2212.04356, section 4.5): of the mean log probability of a segment's words, and of
# how many times as long a text is as when it is compressed.
_LEAST_LOG_PROBABILITY, _MOST_REPETITION = -1.0, 2.4
_QUIET_DBFS = -55.0  # a segment whose sound is below that holds no speech that anybody would notice
_DOUBT = 0.15  # probability that nobody speaks, from which a sentence of `CREDITS` is not believed
# What Whisper is known to write where nobody speaks: how the videos ended that it learnt from. In lower case, bare.
CREDITS = frozenset(
    {
        *("you", "thank you", "thank you very much", "bye", "bye bye", "goodbye", "the end", "to be continued"),
        *("thanks for watching", "thank you for watching", "thank you so much for watching"),
        *("thanks for listening", "thank you for listening", "see you next time", "see you in the next video"),
        *("subscribe", "please subscribe", "please subscribe to my channel", "like and subscribe"),
        *("dont forget to like and subscribe", "like share and subscribe", "ill see you in the next video"),
        *("see you in the next one", "untertitelung br 2018", "sous titrage société radio canada"),
        *("dont forget to subscribe", "subtitles by", "captions by", "subtitles by the amara org community"),
        *("transcription by castingwords", "untertitel der amara org community", "untertitelung des zdf 2020"),
        *("untertitel im auftrag des zdf für funk 2017", "vielen dank", "vielen dank fürs zuschauen", "merci"),
        *("sous titres réalisés par la communauté d amara org", "sous titrage st 501", "gracias", "obrigado"),
        *("merci d avoir regardé cette vidéo", "gracias por ver el video", "legendas pela comunidade amara org"),
        *("subtítulos realizados por la comunidad de amara org", "sottotitoli creati dalla comunità amara org"),
        *("продолжение следует", "спасибо за просмотр", "субтитры сделал dimatorzok"),
        *("ご視聴ありがとうございました", "字幕由amara org社区提供", "시청해주셔서 감사합니다"),
        "请不吝点赞 订阅 转发 打赏支持明镜与点点栏目",
    }
)

# What it writes of sounds that are no speech: "[Music]", "(upbeat music)", "*laughs*", "♪ la la ♪".
_ANNOTATION = re.compile(r"\[[^\]]*\]|\([^)]*\)|（[^）]*）|【[^】]*】|\*[^*]*\*|[♪♫][^♪♫]*[♪♫]?")
_SENTENCE_END = re.compile(r"(?<=[,.!?])\s+|(?<=[。！？])")


@dataclass(frozen=True)
class Segment:
    """A stretch of speech.

    Attributes:
        text: what is said, without annotations such as "[Music]".
        start_s: seconds from the clip's start.
        end_s: likewise.
        log_probability: mean over the tokens, time stamps left out.
    """

    text: str
    start_s: float
    end_s: float
    log_probability: float


@dataclass(frozen=True)
class Heard:
    """What was heard in one window.

    Attributes:
        no_speech: probability that nobody speaks.
        language: ISO 639-1.
        certainty: probability of that language.
        said: the segments.
    """

    no_speech: float
    language: str
    certainty: float
    said: tuple[Segment, ...]


def later(heard: Heard, seconds: float) -> Heard:
    """The same, so many seconds later in the clip."""
    said = (replace(s, start_s=s.start_s + seconds, end_s=s.end_s + seconds) for s in heard.said)
    return replace(heard, said=tuple(said))


def segments(
    tokens: Sequence[int],
    log_probabilities: Sequence[float],
    first_stamp: int,
    end: int,
    decode: Callable[[list[int]], str],
    length_s: float,
) -> tuple[Segment, ...]:
    """Reads what Whisper writes: words between time stamps, up to the token that ends it.

    Args:
        tokens: that it wrote.
        log_probabilities: of each of them.
        first_stamp: the time stamp 0.00; those after it are 0.02 s apart.
        end: the token that ends it; from there to `first_stamp` are its other special tokens.
        decode: tokens → text.
        length_s: of the window; no segment reaches further.
    """
    found: list[Segment] = []
    words: list[tuple[int, float]] = []
    start = 0.0

    def close(at: float) -> None:
        written = decode([token for token, _ in words]) if words else ""
        text = " ".join(_ANNOTATION.sub(" ", written).split())
        if text and at > start:
            found.append(Segment(text, start, at, sum(chance for _, chance in words) / len(words)))
        words.clear()

    for token, chance in zip(tokens, log_probabilities, strict=True):
        if token == end:
            break
        if token >= first_stamp:
            at = min((token - first_stamp) * STEP_S, length_s)
            close(at)
            start = at
        elif token < end:
            words.append((token, chance))
    close(length_s)
    return tuple(found)


def to_items(windows: Sequence[Heard], audio: np.ndarray, no_speech_above: float) -> Items:
    """The items of a clip: how sure it is that nobody speaks, and, where somebody does, the language and the segments.

    Args:
        windows: what was heard, in order; one at least.
        audio: float32 of shape (samples,), at `RATE`.
        no_speech_above: as in `Speech`.
    """
    believed = [
        (window, segment)
        for window in windows
        for segment in window.said
        if not doubt(segment, window.no_speech, audio, no_speech_above)
    ]
    nobody = Item("no speech", round(min(window.no_speech for window in windows), 4))
    if not believed:
        return (nobody,)
    longest = max(believed, key=lambda pair: len(pair[1].text))[0]
    said = (
        Item(s.text, round(math.exp(s.log_probability), 4), round(s.start_s, 2), round(s.end_s, 2)) for _, s in believed
    )
    return (nobody, Item(f"language {longest.language}", round(longest.certainty, 4)), *said)


def doubt(segment: Segment, no_speech: float, audio: np.ndarray, no_speech_above: float) -> str:
    """Why a segment is not believed to have been said; empty where it is.

    Raises `FloatingPointError` where its probability is no number.
    """
    if not math.isfinite(segment.log_probability):
        raise FloatingPointError("a probability is not a number: half precision overflowed")
    words = _bare(segment.text)
    if not words:
        return "it holds no word"
    if _level(audio[int(segment.start_s * RATE) : int(segment.end_s * RATE)]) < _QUIET_DBFS:
        return "nothing can be heard there"
    if no_speech > no_speech_above and segment.log_probability < _LEAST_LOG_PROBABILITY:
        return "nobody seems to speak, and the words are unsure"
    if _repetition(segment.text) > _MOST_REPETITION:
        return "it repeats itself"
    sentences = {_bare(sentence) for sentence in _SENTENCE_END.split(segment.text)} - {""}
    if no_speech >= _DOUBT and (words in CREDITS or sentences <= CREDITS):
        return "nobody may be speaking, and that is what the model writes then"
    return ""


def _bare(text: str) -> str:
    """Letters and digits in lower case, with single spaces."""
    kept = "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in text.replace("'", ""))
    return " ".join(kept.casefold().split())


def _repetition(text: str) -> float:
    """How many times as long a text is as when it is compressed."""
    content = text.encode()
    return len(content) / len(zlib.compress(content))


def _level(audio: np.ndarray) -> float:
    """Root mean square, in dB relative to full scale."""
    power = float(np.mean(np.square(audio, dtype=np.float64))) if len(audio) else 0.0
    return 10 * math.log10(power) if power > 0 else -math.inf
