"""Trains the demo's audio captioner: an EffB2-Trm, narrow enough to be shipped, on the demo world's sounds.

It says what is heard ("a bell rings and a dog barks"). One training clip in three goes through AAC, as the sound of a
real video has. Training uses world seeds from 1000 upwards; the figures in ``audio_caption.json`` are measured on seeds
from 100, on MP4 files written, decoded and captioned as a run does it.

    python -m demo.train_audio_caption --help
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import PreTrainedTokenizerFast

from demo import training
from demo.train_audio_tags import through_aac
from demo.world import SOURCES, Scene, synthesise_audio
from model_handlers.audio_caption import AudioCaption
from model_handlers.base import Example
from model_handlers.nets.effb2_trm import END, PAD, PREFIX, RATE, START, EffB2Trm, EffB2TrmConfig, log_mel
from model_handlers.views import Audio

OUT = Path(__file__).parent / "models" / "audio_caption"
AAC_RATE, BIT_RATES = 44_100, (48_000, 96_000, 128_000)
# Frames (10 ms each) of a training crop: gaps between events are below 2.5 s, so three seconds hold one of each source.
CROP_FRAMES = (320, 512)
GAIN_DB = (-18.0, 6.0)
BATCH = 16
LISTENING = 0.4  # share of the steps in which only the encoder learns, as it comes pretrained in the paper
PEAK_RATE = 2e-3


def heard(scene: Scene) -> str:
    """What is heard of a good scene, as ``a bell rings and a dog barks``."""
    return " and ".join(f"{SOURCES[name].phrase} {SOURCES[name].verb}" for name in scene.sources)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Returns the vocabulary: one token a word of the world's sentences, after padding, start, end and unknown."""
    words = sorted({word for s in SOURCES.values() for word in f"{s.phrase} {s.verb}".split()} | {"and"})
    specials = ("<pad>", "<start>", "<end>", "<unk>")
    ids = {token: number for number, token in enumerate((*specials, *words))}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    pad, start, end, unknown = specials
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, bos_token=start, eos_token=end, unk_token=unknown
    )


def listen(scenes: int, tokenizer: PreTrainedTokenizerFast, bar: Progress) -> tuple[Tensor, Tensor, Tensor]:
    """Returns log-mels float16 (scenes, 64, 1001), sentences int64 (scenes, words), and what sounds (scenes, 16)."""
    rng = np.random.default_rng(training.TRAINING_SEED)
    mels, texts, things = [], [], []
    for number, scene in enumerate(
        bar.track(training.training_scenes(scenes), total=scenes, description="synthesising")
    ):
        if number % 3:
            audio = synthesise_audio(scene, RATE)
        else:
            bit_rate = int(rng.choice(BIT_RATES))
            audio = through_aac(synthesise_audio(scene, AAC_RATE), AAC_RATE, bit_rate, Audio(RATE))
        mels.append(log_mel(torch.from_numpy(audio)[None])[0].half())
        texts.append(f"<start> {heard(scene)} <end>")
        things.append([float(name in scene.sources) for name in SOURCES])
    words = tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]
    return torch.stack(mels), words, torch.tensor(things)


def train(model: EffB2Trm, mels: Tensor, words: Tensor, things: Tensor, steps: int, bar: Progress) -> None:
    """Trains the encoder to tell what sounds, alone at first, and the decoder to say it; `model` is changed."""
    helper = nn.Linear(model.encoder.outputs, len(SOURCES))
    optimiser = torch.optim.AdamW([*model.parameters(), *helper.parameters()], PEAK_RATE, weight_decay=0.02)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps, pct_start=0.1)
    model.train()
    for step in bar.track(range(steps), description="training"):
        chosen = torch.randint(len(mels), (BATCH,))
        frames = int(torch.randint(*CROP_FRAMES, ()))
        start = int(torch.randint(mels.shape[2] - frames + 1, ()))
        gain = torch.empty(BATCH, 1, 1).uniform_(*GAIN_DB)
        features = model.encoder((mels[chosen, :, start : start + frames].float() + gain).clamp(min=-100))
        loss = 5 * binary_cross_entropy_with_logits(helper(features.mean(1)), things[chosen])
        if step >= LISTENING * steps:
            sentence = words[chosen]
            logits = model.decoder(sentence[:, :-1], features)
            loss = loss + cross_entropy(logits.flatten(0, 1), sentence[:, 1:].flatten(), ignore_index=PAD)
        training.learn(loss, model.parameters(), optimiser, rate)
    model.eval()


def save(model: EffB2Trm, config: EffB2TrmConfig, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes config, weights and vocabulary under the published names."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n", encoding="utf-8")
    state = {f"{PREFIX}{name}": tensor for name, tensor in model.state_dict().items() if "classifier" not in name}
    save_file(state, out / "model.safetensors", {"format": "pt"})
    (out / "model.safetensors").chmod(0o644)  # it is written for its owner alone, but everybody installs it
    tokenizer.save_pretrained(out)


def evaluate(out: Path, clips: int, bar: Progress) -> dict[str, Any]:
    """Returns how often a caption says exactly what is heard, on MP4 clips of seeds that training never saw."""
    handler = AudioCaption(name="audio_caption", model=str(out), device="cpu")
    captioner, named, exact, wrong = handler.load(), 0, 0, []
    scenes = training.held_out_scenes(clips)
    for scene, audio in training.as_a_run_sees_them(scenes, handler.view, bar):
        (items,) = handler.predict([Example(scene.clip_id, audio)], captioner)
        said = items[0].text if items else ""
        named += any(SOURCES[name].phrase in said for name in scene.sources)
        exact += said == heard(scene)
        if said != heard(scene):
            wrong.append({"clip_id": scene.clip_id, "said": said, "true": heard(scene)})
    figures = {"names_a_source": round(named / len(scenes), 4), "all_right": round(exact / len(scenes), 4)}
    return {**training.measured_on(scenes), **figures, "wrong": wrong}


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.train_audio_caption", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    sizes = {
        "scenes": (2400, "scenes to learn from"),
        "steps": (4000, f"batches of {BATCH} clips; the learning rate needs 100 to rise and fall"),
        "clips": (200, "held-out clips to measure on"),
    }

    def trained(options: argparse.Namespace, bar: Progress) -> None:
        torch.manual_seed(0)
        tokenizer = make_tokenizer()
        assert tokenizer.convert_tokens_to_ids(["<pad>", "<start>", "<end>"]) == [PAD, START, END]
        config = EffB2TrmConfig(
            vocab_size=len(tokenizer), decoder_emb_dim=64, width_coefficient=0.3, depth_coefficient=0.4
        )
        model = EffB2Trm(config, dropout=0.0)
        train(model, *listen(options.scenes, tokenizer, bar), options.steps, bar)
        save(model, config, tokenizer, options.out)

    training.command(parser, arguments, OUT, sizes, trained, evaluate, least={"steps": 100})


if __name__ == "__main__":
    main()
