"""Trains the demo's speech recogniser: a Whisper, small enough to be shipped, on what is said in the demo world.

Its spectrogram is coarse (10 s in 500 frames), so that it learns in ten minutes of a CPU core. The encoder learns
first, from the word that is spoken in each frame; then the decoder joins, and writes words and time stamps. Utterances
and whatever else sounds are mixed anew for each batch, as powers of mel bands. Training uses world seeds from 1000
upwards; the figures in ``speech.json`` are measured on seeds from 100, on MP4 files written, decoded and heard as a run
does it.

    python -m demo.train_speech --help
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from demo import training
from demo.music import make_music, play
from demo.occasions import Occasion, make_occasions
from demo.scenes import truth
from demo.speaking import WORDS, make_phrase, make_voice, say
from demo.spectrograms import mel_power, packed, unpacked, whisper_scale
from demo.world import make_scene, synthesise_audio
from model_handlers.base import Example
from model_handlers.speech import Speech

OUT = Path(__file__).parent / "models" / "speech"
RATE, HOP, BANDS, SECONDS = 16_000, 320, 80, 10
FRAMES = SECONDS * RATE // HOP  # of the spectrogram; the encoder halves them
STEP = 2 * HOP / RATE  # seconds of one of the encoder's frames
STAMP_S, GRID = 0.02, 5  # Whisper's time stamps, and every how manieth is used: tenths of a second are enough
SPECIAL: tuple[str, ...] = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>")
SPECIAL += ("<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")
IGNORED = -100  # a target that counts for no loss
BATCH = 16
LISTENING = 0.4  # share of the steps in which only the encoder learns
CROWDED, SAID = (4, 5), (0, 1, 1, 2, 2, 3)  # utterances in a clip while only it learns, and later
PEAK_RATE = 2e-3


def make_extractor() -> WhisperFeatureExtractor:
    """Whisper's log-mel spectrogram, of windows of 10 s and frames of 20 ms."""
    return WhisperFeatureExtractor(BANDS, RATE, hop_length=HOP, chunk_length=SECONDS)


def make_tokenizer(words: Sequence[str]) -> WhisperTokenizer:
    """Returns Whisper's kind of tokenizer, with the bytes and one token for each of `words` (with the blank before it).

    Byte pairs are merged from left to right, so a word's beginnings are tokens as well.
    """
    shown = [chr(c) for c in (*range(33, 127), *range(161, 173), *range(174, 256))]  # GPT-2's names of bytes
    letters = shown + [chr(256 + number) for number in range(256 - len(shown))]
    beginnings = {word[:end] for word in words for end in range(1, len(word) + 1)}
    starts = sorted(beginnings, key=lambda start: (len(start), start))
    blank = "\u0120"  # GPT-2's name of the blank
    merges = [(blank + start[:-1], start[-1]) for start in starts]
    stamps = [f"<|{STAMP_S * number:.2f}|>" for number in range(round(SECONDS / STAMP_S) + 1)]
    tokens = (*letters, *(blank + start for start in starts), *SPECIAL, *stamps)
    tokenizer = WhisperTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=merges)
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL[1:])})
    return tokenizer


def make_model(tokenizer: WhisperTokenizer, width: int = 128) -> WhisperForConditionalGeneration:
    """Returns a Whisper of random weights that writes in `tokenizer`'s tokens."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    ends = {f"{what}_token_id": ids["<|endoftext|>"] for what in ("pad", "bos", "eos")}
    begin = {"decoder_start_token_id": ids["<|startoftranscript|>"]}
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=BANDS,
        d_model=width,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=2 * width,
        decoder_ffn_dim=2 * width,
        max_source_positions=FRAMES // 2,
        max_target_positions=64,
        init_std=0.05,
        begin_suppress_tokens=None,
        **ends,
        **begin,
    )
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        **ends,
        **begin,
        is_multilingual=True,
        lang_to_id={"<|en|>": ids["<|en|>"]},
        task_to_id={name: ids[f"<|{name}|>"] for name in ("transcribe", "translate")},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        max_initial_timestamp_index=round(SECONDS / STAMP_S),
        return_timestamps=True,
        suppress_tokens=[],
        begin_suppress_tokens=[],
        max_length=64,
    )
    return model


@dataclass(frozen=True)
class Utterance:
    """Something said.

    Attributes:
        power: `packed` mel powers (80, frames).
        words: their tokens, in order.
        shares: for each word how much of the utterance it takes, 1 in all: estimated by its letters.
    """

    power: Tensor
    words: tuple[int, ...]
    shares: tuple[float, ...]


def make_utterance(power: Tensor, words: Sequence[str], tokenizer: WhisperTokenizer) -> Utterance:
    """What there is to learn of `words`, said in a sound of which there are the mel powers, `packed`."""
    tokens = tuple(tokenizer.encode("".join(f" {word}" for word in words), add_special_tokens=False))
    lengths = np.array([len(word) + 1.0 for word in words])
    return Utterance(power, tokens, tuple((lengths / lengths.sum()).tolist()))


@dataclass(frozen=True)
class Sounds:
    """What training clips are mixed from.

    Attributes:
        utterances: what is said.
        backgrounds: clips in which nobody speaks, `packed` mel powers (clips, 80, 500).
    """

    utterances: Sequence[Utterance]
    backgrounds: Tensor


@dataclass(frozen=True)
class Batch:
    """Clips and what is to be learnt of them.

    Attributes:
        features: (clips, 80, 500), as Whisper's extractor makes them.
        frames: the number of the word that each of the encoder's frames is in, 0 for none: (clips, 250).
        tokens: what the decoder is told, (clips, tokens).
        targets: what it has to say to that, likewise.
    """

    features: Tensor
    frames: Tensor
    tokens: Tensor
    targets: Tensor


def mix(
    sounds: Sounds, size: int, tokenizer: WhisperTokenizer, rng: np.random.Generator, most: Sequence[int] = SAID
) -> Batch:
    """Utterances one after the other, each clip's at a level of its own, over a background.

    Args:
        sounds: what to mix.
        size: how many clips.
        tokenizer: that of the model.
        rng: draws all there is to draw.
        most: how many utterances a clip may have, one of these numbers; fewer, where there is no room.
    """
    power = unpacked(sounds.backgrounds[rng.integers(len(sounds.backgrounds), size=size)])
    power = power * torch.from_numpy(10 ** rng.uniform(-1.2, 0.3, (size, 1, 1)).astype(np.float32))
    frames, texts = torch.zeros(size, FRAMES // 2, dtype=torch.long), []
    for clip in range(size):
        said = [sounds.utterances[int(n)] for n in rng.integers(len(sounds.utterances), size=rng.choice(most))]
        while (room := FRAMES - sum(one.power.shape[1] for one in said)) < 0:
            said.pop()
        at, text, gain = 0, [], 10 ** rng.uniform(-0.8, 0.2)
        for one in said:
            length = one.power.shape[1]
            at += int(rng.integers(room // len(said) + 1))
            power[clip, :, at : at + length] += gain * unpacked(one.power)
            edges = np.round((at + length * np.cumsum((0.0, *one.shares))) / 2).astype(int)
            for word, first, last in zip(one.words, edges, edges[1:], strict=False):
                frames[clip, first:last] = word
            text.append((at * HOP / RATE, one.words, (at + length) * HOP / RATE))
            at += length
        texts.append(text)
    return Batch(whisper_scale(power), frames, *to_tokens(texts, tokenizer))


def to_tokens(
    texts: Sequence[Sequence[tuple[float, tuple[int, ...], float]]], tokenizer: WhisperTokenizer
) -> tuple[Tensor, Tensor]:
    """What the decoder is told and what it has to say, for clips of segments (start in seconds, words, end)."""
    start, english, _, transcribe, _, _, silence, last = tokenizer.convert_tokens_to_ids(list(SPECIAL[1:]))
    end = tokenizer.convert_tokens_to_ids(SPECIAL[0])

    def stamp(seconds: float) -> int:
        return last + 1 + GRID * round(seconds / STAMP_S / GRID)

    told = []
    for text in texts:
        words = [token for first, words, until in text for token in (stamp(first), *words, stamp(until))]
        told.append([start, english, transcribe, *(words or [stamp(0)]), end])
    length = max(map(len, told))
    tokens = torch.tensor([row + [end] * (length - len(row)) for row in told])
    targets = torch.tensor([row[1:] + [IGNORED] * (length - len(row)) for row in told])
    targets[[not text for text in texts], 0] = silence
    return tokens[:, :-1], targets


def gather(utterances: int, backgrounds: int, tokenizer: WhisperTokenizer, bar: Progress) -> Sounds:
    """Has so many phrases spoken, and so many backgrounds sound: a place, its things, and music in every other."""
    rng, extractor = np.random.default_rng(training.TRAINING_SEED), make_extractor()
    said = []
    for _ in bar.track(range(utterances), description="speaking"):
        phrase = make_phrase(rng)
        audio = np.pad(0.5 * say(phrase, make_voice(rng), RATE), (int(rng.integers(HOP)), HOP))
        said.append(make_utterance(packed(mel_power(audio, extractor)), phrase.split(), tokenizer))
    behind = []
    for number in bar.track(range(backgrounds), description="synthesising"):
        audio = synthesise_audio(make_scene(training.TRAINING_SEED, number), RATE)
        if number % 2:
            audio = rng.uniform(0, 0.5) * audio + rng.uniform(0.1, 0.4) * play(make_music(rng), RATE, SECONDS)
        behind.append(packed(mel_power(audio, extractor)))
    return Sounds(said, torch.stack(behind))


def train(
    model: WhisperForConditionalGeneration, sounds: Sounds, tokenizer: WhisperTokenizer, steps: int, bar: Progress
) -> None:
    """Trains the encoder to tell the word of each frame, alone at first, and the decoder to write; changes `model`."""
    rng = np.random.default_rng(training.TRAINING_SEED)
    encoder = model.get_encoder()
    helper = nn.Linear(model.config.d_model, tokenizer.convert_tokens_to_ids(SPECIAL[0]))  # words come before that
    weights = [*model.parameters(), *helper.parameters()]
    optimiser = torch.optim.AdamW(weights, PEAK_RATE, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: training.half_cosine(step, steps, 100))
    model.train()
    for step in bar.track(range(steps), description="training"):
        writing = step >= LISTENING * steps
        batch = mix(sounds, BATCH, tokenizer, rng, SAID if writing else CROWDED)
        encoded = encoder(batch.features).last_hidden_state
        loss = cross_entropy(helper(encoded).flatten(0, 1), batch.frames.flatten())
        if writing:
            logits = model(encoder_outputs=(encoded,), decoder_input_ids=batch.tokens).logits
            loss = loss + cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED)
        training.learn(loss, weights, optimiser, rate)
        if step % 50 == 49:
            bar.console.print(f"step {step + 1}: loss {loss.item():.3f}")
    model.eval()


def held_out_occasions(count: int) -> list[Occasion]:
    """Returns `count` good occasions that no model learnt from."""
    worlds = range(training.HELD_OUT_SEED, training.HELD_OUT_SEED - (-count // 10))
    return [occasion for seed in worlds for occasion in make_occasions(seed, 10, "good")][:count]


def evaluate(out: Path, clips: int, bar: Progress) -> dict[str, Any]:
    """How well the model in a folder hears MP4 clips of seeds that training never saw.

    ``word_errors`` are substitutions, insertions and deletions as a share of the words that were said;
    ``onset_error_s`` is the median of how far a segment's beginning is from the nearest phrase's.
    """
    handler = Speech(name="speech", model=str(out), device="cpu")
    recogniser, occasions = handler.load(), held_out_occasions(clips)
    errors = words = spoken = invented = 0
    late, wrong = [], []
    for scene, audio in training.as_a_run_sees_them(occasions, handler.view, bar):
        (items,) = handler.predict([Example(scene.clip_id, audio)], recogniser)
        facts, segments = truth(scene), items[2:]
        said, true = " ".join(item.text for item in segments).split(), facts["transcript"].split()
        spoken += bool(true)
        if true:
            errors, words = errors + word_errors(said, true), words + len(true)
            late += [min(abs(item.start_s - start) for start, _ in facts["speech"]) for item in segments]
        elif said:
            invented += 1
        if said != true:
            wrong.append({"clip_id": scene.clip_id, "said": " ".join(said), "true": " ".join(true)})
    figures = {
        "with_speech": spoken,
        "word_errors": round(errors / words, 4),
        "invented": round(invented / (len(occasions) - spoken), 4),
        "onset_error_s": round(float(np.median(late)), 2),
    }
    return {**training.measured_on(occasions), **figures, "wrong": wrong}


def word_errors(said: Sequence[str], true: Sequence[str]) -> int:
    """The fewest words that have to be put in, left out or replaced to make `true` of `said`."""
    costs = list(range(len(true) + 1))
    for row, word in enumerate(said, 1):
        before, costs[0] = costs[0], row
        for column, wanted in enumerate(true, 1):
            before, costs[column] = (
                costs[column],
                min(before + (word != wanted), costs[column] + 1, costs[column - 1] + 1),
            )
    return costs[-1]


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.train_speech", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    sizes = {
        "utterances": (5000, "phrases to learn from"),
        "backgrounds": (800, "clips to mix them with"),
        "steps": (1000, f"batches of {BATCH} clips; the learning rate needs 100 to rise and fall"),
        "clips": (200, "held-out clips to measure on"),
    }

    def trained(options: argparse.Namespace, bar: Progress) -> None:
        torch.manual_seed(0)
        tokenizer = make_tokenizer(WORDS)
        model = make_model(tokenizer)
        train(model, gather(options.utterances, options.backgrounds, tokenizer, bar), tokenizer, options.steps, bar)
        training.save_pretrained(options.out, model.half(), WhisperProcessor(make_extractor(), tokenizer))

    training.command(parser, arguments, OUT, sizes, trained, evaluate, least={"steps": 100, "clips": 20})


if __name__ == "__main__":
    main()
