"""Trains the demo's audio language model: a Qwen2-Audio, small enough to be shipped, that answers three questions.

Asked what is heard, it names what sounds in the order in which it begins; asked about the music, it gives genre,
instruments, tempo and mood; asked where it is, it tells the place by its background noise. The encoder learns first,
from what sounds in each of its frames and from what is true of music and place; then the language model joins. Clips
are mixed anew for each batch from single events, utterances, music and background noise, as powers of mel bands.
Training uses world seeds from 1000 upwards; the figures in ``listener.json`` are measured on seeds from 100, on MP4
files written, decoded and asked about as a run does it.

    python -m demo.train_listener --help
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
)

from demo import training
from demo.mixtures import BANDS, FRAMES, HITS, SOUNDS, Piece, Sounds, gather, make_clip, make_extractor
from demo.music import GENRES, INSTRUMENTS, MOODS, TEMPOS
from demo.occasions import CLAUSES, MUSIC, Occasion, make_occasion, told
from demo.scenes import PLACES, truth
from demo.spectrograms import whisper_scale
from demo.train_audio_tags import share
from demo.train_speech import held_out_occasions
from model_handlers.base import Example, Items
from model_handlers.chat import Chat

OUT = Path(__file__).parent / "models" / "listener"
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>")
HEARD, PLAYED, WHERE = "What is heard, in order?", "What music is it?", "Where is it?"
OPENING = 2  # how many tokens come before the sound
BATCH = 16
WEIGHTS = {
    "active": 10.0,
    "notes": 2.0,
    "held": 4.0,
    "hits": 3.0,
    "beat": 4.0,
    "genre": 2.0,  # hard to tell: a waltz is a march that lacks a beat
    "tempo": 1.5,
}  # of losses; the others are means over many frames, most of them silent
REPORTED = 50  # every how manieth step is told
LISTENING = 0.5  # share of the steps in which only the encoder learns
PEAK_RATE = 2e-3
MUSIC_SEED = 120  # of the first world whose music alone is measured on
PIECE = "genre: waltz; instruments: flute, piano; tempo: fast; mood: cheerful"  # how music is described
# All words of questions and answers.
WORDS = tuple(
    sorted(
        {
            word
            for text in (
                *(*CLAUSES.values(), HEARD, PLAYED, WHERE, "then and", PIECE, *GENRES, *TEMPOS, *MOODS, *INSTRUMENTS),
                *(place.phrase for place in PLACES.values()),
            )
            for word in re.findall("[A-Za-z]+", text)
        }
    )
)
# What there is to say of music, but for the instruments: attribute → its values.
ATTRIBUTES = {"genre": tuple(GENRES), "tempo": tuple(TEMPOS), "mood": tuple(MOODS)}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{% for part in message.content %}"
    "{% if part.type == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>{% else %} {{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


def make_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Returns a tokenizer of bytes and one token for each of `words` with the blank before it, as GPT-2's are."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    starts = sorted(
        {word[:end] for word in words for end in range(1, len(word) + 1)}, key=lambda start: (len(start), start)
    )
    blank = "\u0120"  # GPT-2's name of the blank
    tokens = (*letters, *(blank + start for start in starts))
    merges = [(blank + start[:-1], start[-1]) for start in starts]
    tokenizer = Tokenizer(BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    return fast


def make_model(tokenizer: PreTrainedTokenizerFast, width: int = 128) -> Qwen2AudioForConditionalGeneration:
    """Returns a Qwen2-Audio of random weights that writes in `tokenizer`'s tokens."""
    sizes: dict[str, Any] = {
        "encoder_layers": 3,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 2 * width,
        "d_model": width,
    }
    text: dict[str, Any] = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    text |= {"num_key_value_heads": 4, "vocab_size": len(tokenizer), "tie_word_embeddings": True}
    text |= {"model_type": "qwen2", "max_position_embeddings": 256, "initializer_range": 0.05}
    config = Qwen2AudioConfig(
        audio_config={
            "model_type": "qwen2_audio_encoder",
            "num_mel_bins": BANDS,
            "max_source_positions": FRAMES // 2,
            "initializer_range": 0.05,
            **sizes,
        },
        text_config=text,
        audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
    )
    model = Qwen2AudioForConditionalGeneration(config)
    encoder = model.model.audio_tower
    with torch.no_grad():
        encoder.embed_positions.weight.copy_(sinusoids(FRAMES // 2, width))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def sinusoids(length: int, width: int) -> Tensor:
    """Whisper's table of positions: (length, width), sines and then cosines of wave lengths up to 10,000 × 2π."""
    rates = 10_000.0 ** -(torch.arange(width // 2) / (width // 2 - 1))
    phases = torch.arange(length)[:, None] * rates
    return torch.cat([phases.sin(), phases.cos()], 1)


@dataclass(frozen=True)
class Batch:
    """Clips and what is to be learnt of them.

    Attributes:
        features: (clips, 128, 250), as the extractor makes them.
        active: which of `SOUNDS` is heard in each of the encoder's frames, (clips, 62, 18).
        playing: the clips in which music plays.
        pieces: the music of each of these.
        places: where each clip is, as a number in the order of `PLACES`, (clips,).
        sounds: the tokens of question and answer on what is heard, one row a clip; and so `where`, on the place.
        music: those on the music, one row for each of `playing`.
    """

    features: Tensor
    active: Tensor
    playing: Tensor
    pieces: list[Piece]
    places: Tensor
    sounds: Tensor
    where: Tensor
    music: Tensor


def mix(sounds: Sounds, size: int, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator) -> Batch:
    """Returns `size` clips that are mixed anew."""
    clips = [make_clip(sounds, rng) for _ in range(size)]
    playing = [(number, clip.piece) for number, clip in enumerate(clips) if clip.piece]
    return Batch(
        whisper_scale(torch.stack([clip.power for clip in clips])),
        torch.stack([clip.active for clip in clips]),
        torch.tensor([number for number, _ in playing], dtype=torch.long),
        [piece for _, piece in playing],
        torch.tensor([list(PLACES).index(clip.place) for clip in clips]),
        dialogue(HEARD, [told(clip.soundings) for clip in clips], tokenizer),
        dialogue(WHERE, [PLACES[clip.place].phrase for clip in clips], tokenizer),
        dialogue(PLAYED, [piece.music.described() for _, piece in playing], tokenizer),
    )


def dialogue(question: str, answers: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Template and answers, but for the sound after `OPENING` tokens: ids (answers, tokens), padded at the end."""
    texts = [
        f"<|im_start|><|audio_bos|><|audio_eos|> {question}<|im_end|><|im_start|> {answer}<|im_end|>"
        for answer in answers
    ]
    rows = [torch.tensor(tokenizer(text)["input_ids"]) for text in texts] or [torch.zeros(0, dtype=torch.long)]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)[: len(answers)]


class Helpers(nn.Module):
    """What the encoder learns from, and what is thrown away afterwards: the truth read off each of its frames.

    Of music that is its attributes, and what these show in: who plays, what the accompaniment does, where in beat and
    bar it is.

    Args:
        width: of the encoder.
    """

    def __init__(self, width: int):
        super().__init__()
        self.active = nn.Linear(width, len(SOUNDS))
        self.place = nn.Linear(width, len(PLACES))
        self.notes = nn.Linear(width, len(INSTRUMENTS))
        self.held = nn.Linear(width, len(INSTRUMENTS))
        self.hits = nn.Linear(width, len(HITS))
        self.beat = nn.Linear(width, 4)
        self.players = nn.Linear(width, len(INSTRUMENTS))
        self.attributes = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in ATTRIBUTES.items()})

    def loss(self, encoded: Tensor, batch: Batch) -> dict[str, Tensor]:
        """One loss for each thing that is told, of the encoder's output (clips, 62, width)."""
        losses = {"active": binary_cross_entropy_with_logits(self.active(encoded), batch.active)}
        wanted = batch.places.repeat_interleave(encoded.shape[1])
        losses["place"] = cross_entropy(self.place(encoded).flatten(0, 1), wanted)
        if not batch.pieces:
            return losses
        playing = batch.active[batch.playing, :, SOUNDS.index(MUSIC)].bool()
        music = encoded[batch.playing][playing]  # all frames of all clips in which music plays, one after the other
        whose = playing.nonzero()[:, 0]
        for name in ("notes", "held", "hits"):
            wanted = torch.stack([getattr(piece, name) for piece in batch.pieces])[playing]
            losses[name] = binary_cross_entropy_with_logits(getattr(self, name)(music), wanted)
        losses["beat"] = mse_loss(self.beat(music), torch.stack([piece.beat for piece in batch.pieces])[playing])
        truths = [piece.music for piece in batch.pieces]
        players = torch.tensor([[float(name in truth.instruments) for name in INSTRUMENTS] for truth in truths])
        losses["players"] = binary_cross_entropy_with_logits(self.players(music), players[whose])
        for name, values in ATTRIBUTES.items():
            wanted = torch.tensor([values.index(getattr(truth, name)) for truth in truths])
            losses[name] = cross_entropy(self.attributes[name](music), wanted[whose])
        return losses


def answer_loss(model: Qwen2AudioForConditionalGeneration, encoded: Tensor, tokens: Tensor) -> Tensor:
    """Cross-entropy of the answers in dialogues.

    Args:
        model: whose language model answers.
        encoded: what its encoder makes of the clips, (clips, 62, width).
        tokens: of `dialogue`, (clips, tokens).
    """
    words = model.get_input_embeddings()(tokens[:, :-1])
    told = torch.cat([words[:, :OPENING], model.model.multi_modal_projector(encoded), words[:, OPENING:]], 1)
    hidden = model.model.language_model(inputs_embeds=told, use_cache=False).last_hidden_state
    asked = int((tokens[0] == model.generation_config.eos_token_id).nonzero()[0]) + 1  # the place of <|im_start|>
    logits, wanted = model.lm_head(hidden[:, asked - tokens.shape[1] + 1 :]), tokens[:, asked + 1 :]
    ignored = model.generation_config.pad_token_id
    return cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=ignored)


def train(
    model: Qwen2AudioForConditionalGeneration,
    sounds: Sounds,
    tokenizer: PreTrainedTokenizerFast,
    steps: int,
    bar: Progress,
) -> None:
    """Trains the encoder by its helpers, alone at first, and the language model to answer; changes `model`."""
    rng = np.random.default_rng(training.TRAINING_SEED)
    encoder = model.model.audio_tower
    helpers = Helpers(encoder.config.d_model)
    weights = [*(w for w in model.parameters() if w.requires_grad), *helpers.parameters()]
    optimiser = torch.optim.AdamW(weights, PEAK_RATE, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: training.half_cosine(step, steps, 100))
    model.train()
    for step in bar.track(range(steps), description="training"):
        batch = mix(sounds, BATCH, tokenizer, rng)
        encoded = encoder(batch.features).last_hidden_state
        losses = helpers.loss(encoded, batch)
        if step >= LISTENING * steps:
            losses["heard"] = answer_loss(model, encoded, batch.sounds)
            losses["where"] = answer_loss(model, encoded, batch.where)
            if batch.pieces:
                losses["played"] = answer_loss(model, encoded[batch.playing], batch.music)
        loss = torch.stack([WEIGHTS.get(name, 1.0) * value for name, value in losses.items()]).sum()
        training.learn(loss, weights, optimiser, rate)
        if step % REPORTED == REPORTED - 1:
            said = ", ".join(f"{name} {value.item():.3f}" for name, value in losses.items())
            bar.console.print(f"step {step + 1}: {said}")
    model.eval()


def evaluate(out: Path, clips: int, bar: Progress) -> dict[str, Any]:
    """How well the model in a folder answers its questions on MP4 clips of seeds that training never saw.

    ``named`` is the share of what sounds that is named, ``invented`` the share of what is named that does not sound,
    ``order`` the share of sequences of two things that are told in their order, and ``place`` that of clips whose place
    is told. Of music, ``instruments`` is the share of pieces for which all are named and no other; that and the other
    attributes are measured on `clips` / 2 clips of music besides.
    """
    about: dict[str, Any] = {"model": str(out), "sees": "audio", "device": "cpu"}
    sound = Chat(name="sound", question=HEARD, **about)
    music, where = Chat(name="music", question=PLAYED, **about), Chat(name="where", question=WHERE, **about)
    listener, music_prompt, where_prompt = sound.load(), music.load().prompt, where.load().prompt
    occasions = held_out_occasions(clips)
    pieces, places, wrong = [], [], []
    found: list[tuple[str, dict[str, Any]]] = []
    for scene, audio in training.as_a_run_sees_them([*occasions, *held_out_music(clips // 2)], sound.view, bar):
        example, facts = [Example(scene.clip_id, audio)], truth(scene)
        answers = [(_text(where.predict(example, replace(listener, prompt=where_prompt))), PLACES[scene.place].phrase)]
        places.append(answers[0])
        if len(found) < len(occasions):
            answers.append((_text(sound.predict(example, listener)), facts["sound"]))
            found.append((answers[-1][0], facts))
        if facts["music"]:
            played = _text(music.predict(example, replace(listener, prompt=music_prompt)))
            pieces.append((parts(played), parts(facts["music"])))
            answers.append((played, facts["music"]))
        wrong += [{"clip_id": scene.clip_id, "said": one, "true": other} for one, other in answers if one != other]
    return {
        **training.measured_on(occasions),
        **measure_sounds(found),
        "place": share(said == true for said, true in places),
        "pieces": len(pieces),
        **{name: share(said.get(name) == true[name] for said, true in pieces) for name in parts(PIECE)},
        "wrong": wrong,
    }


def held_out_music(count: int) -> list[Occasion]:
    """Clips of music, in every other of them with a thing, of worlds after those of `held_out_occasions`."""
    kinds = (MUSIC, "music and thing")
    return [make_occasion(MUSIC_SEED + index // 10, index % 10, kinds[index % 2]) for index in range(count)]


def _text(answers: list[Items]) -> str:
    return answers[0][0].text if answers[0] else ""


def parts(described: str) -> dict[str, str]:
    """The attributes of a description of music, and what it says of each."""
    pairs = (part.partition(": ") for part in described.split("; "))
    return {name: value for name, _, value in pairs}


def named(said: str) -> list[str]:
    """What a sentence says that sounds, in its order."""
    return sorted(
        (name for name, clause in CLAUSES.items() if clause in said), key=lambda name: said.index(CLAUSES[name])
    )


def measure_sounds(found: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, float]:
    """The figures of `evaluate` on what is heard, of pairs of an answer and a clip's truth."""
    pairs = [(named(said), named(facts["sound"]), said == facts["sound"], facts["order"]) for said, facts in found]
    return {
        "exact": share(exact for *_, exact, _ in pairs),
        "named": share(name in said for said, true, *_ in pairs for name in true),
        "invented": share(name not in true for said, true, *_ in pairs for name in said),
        "order": share(said == order for said, _, _, order in pairs if order),
    }


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.train_listener", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    sizes = {
        "individuals": (40, "individuals of each thing to learn from"),
        "utterances": (1500, "phrases likewise"),
        "pieces": (10000, "pieces of music likewise"),
        "steps": (13000, f"batches of {BATCH} clips; the learning rate needs 100 to rise and fall"),
        "clips": (200, "held-out clips to measure on"),
    }

    def trained(options: argparse.Namespace, bar: Progress) -> None:
        torch.manual_seed(0)
        tokenizer = make_tokenizer(WORDS)
        model = make_model(tokenizer)
        sounds = gather(options.individuals, options.utterances, options.pieces, bar, os.cpu_count() or 1)
        train(model, sounds, tokenizer, options.steps, bar)
        processor = Qwen2AudioProcessor(make_extractor(), tokenizer, chat_template=TEMPLATE)
        training.save_pretrained(options.out, model.half(), processor)

    training.command(parser, arguments, OUT, sizes, trained, evaluate, least={"steps": 100})


if __name__ == "__main__":
    main()
