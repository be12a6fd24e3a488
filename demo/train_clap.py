"""Trains the demo's CLAP: a small one of the real architecture, on the demo world's sounds and sentences about them.

HTSAT and RoBERTa are transformers' own, only narrow, and saved as any CLAP is, so that
`model_handlers.audio_embedding` loads it as it loads the published one. About half an hour on one CPU thread.

    python -m demo.train_clap --out demo/models/clap
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor

from demo import training
from demo.sentences import NAMES, heard_in, make_tokenizer, sentence
from demo.train_audio_tags import BIT_RATES, through_aac
from demo.world import (
    AUDIO_RATE,
    PLACES,
    SOURCES,
    Scene,
    image_caption,
    labels,
    make_scene,
    make_scenes,
    reference_caption,
    synthesise_audio,
    write_clip,
)
from model_handlers.audio_embedding import AudioEmbedding
from model_handlers.base import Example, Item, Items
from model_handlers.similarity import Pair
from model_handlers.template_writer import TemplateWriter
from model_handlers.views import Audio
from model_handlers.writers import Brief
from transforms.media import decode

OUT = Path(__file__).parent / "models" / "clap"
TRAINING_SEED = 1000
THRESHOLD_SEED, HELD_OUT_SEEDS = 173, (170, 171, 172)

RATE = 48_000
WIDTH = 64  # of the embeddings
TOKENS = 128  # of a text, at most
BATCH = 32
PEAK_RATE, WARM_UP = 2e-3, 100
GAIN_DB, BALANCE_DB = (-15.0, 6.0), 6.0
FLOOR_DB = -100.0  # of the extractor's log-mel spectrograms: 10 log10(1e-10)
SPREAD = 0.05  # standard deviation of the first weights of the text tower, which is narrow


def make_processor() -> ClapProcessor:
    """Returns the processor; its extractor is the published one's for models without fusion."""
    return ClapProcessor(ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad"), make_tokenizer(TOKENS))


def make_model(processor: ClapProcessor) -> ClapModel:
    """Returns a CLAP with random weights that fits `processor`; call `torch.manual_seed` before."""
    text = {
        "vocab_size": len(processor.tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": TOKENS + 2,  # RoBERTa counts from the padding's id, 1
    }
    audio = {
        "patch_embeds_hidden_size": 24,
        "hidden_size": 192,
        "depths": [1] * 4,
        "num_attention_heads": [2, 4, 8, 8],
        "patch_size": 8,
        "patch_stride": [8, 8],
        "window_size": 4,  # the last stage is 4 × 4 patches
        "hidden_dropout_prob": 0.0,
    }
    model = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=WIDTH))
    for parameter in model.text_model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=SPREAD)
    return model


# Names of sounds, and what decides how they are put → a text about them.
Say = Callable[[Sequence[str], np.random.Generator], str]


@dataclass(frozen=True)
class Sounds:
    """What is learnt from.

    Attributes:
        spectrograms: the extractor's log-mel spectrograms in dB, float16, shape (clips, 1, 1001, 64).
        heard: 1 where a sound is heard, float32, shape (clips, len(NAMES)).
    """

    spectrograms: Tensor
    heard: Tensor


def training_scene(index: int) -> Scene:
    """Mostly good scenes of 10 s; one in twelve is speech over music, and one in five is shorter."""
    fault = "speech_over_music" if index % 12 == 5 else None
    return make_scene(TRAINING_SEED, index, fault, duration_s=10.0 if index % 5 else 3.0 + index % 7)


def make_sounds(clips: int, processor: ClapProcessor, progress: Progress) -> Sounds:
    """Synthesises `clips` sounds."""
    scenes = (training_scene(index) for index in range(clips))
    return sounds_of(((scene, heard_in(scene)) for scene in scenes), clips, processor, progress)


def sounds_of(
    clips: Iterable[tuple[Scene, Sequence[str]]], count: int, processor: ClapProcessor, progress: Progress
) -> Sounds:
    """Synthesises `count` scenes, each given with what is heard, one in four through AAC, as videos' sound has been."""
    spectrograms, heard = [], torch.zeros(count, len(NAMES))
    for index, (scene, names) in enumerate(progress.track(clips, total=count, description="sounds")):
        if index % 4:
            audio = training.as_heard(scene, RATE)
        else:
            bit_rate = BIT_RATES[index // 4 % len(BIT_RATES)]
            audio = through_aac(synthesise_audio(scene, AUDIO_RATE), AUDIO_RATE, bit_rate, Audio(RATE))
        features = processor.feature_extractor(audio, sampling_rate=RATE, return_tensors="pt")["input_features"]
        spectrograms.append(features.half())
        heard[index, [NAMES.index(name) for name in names]] = 1
    return Sounds(torch.cat(spectrograms), heard)


@dataclass(frozen=True)
class Pairs:
    """A batch: sounds, and twice as many texts, of which the second half is about nearly the same sounds."""

    spectrograms: Tensor
    texts: list[str]
    heard: Tensor
    said: Tensor


def batches(sounds: Sounds, steps: int, say: Say) -> Iterator[Pairs]:
    """Yields random batches: sounds turned in time, at random levels, half of them two at once."""
    rng = np.random.default_rng(TRAINING_SEED)
    clips, _, frames, _ = sounds.spectrograms.shape
    for _ in range(steps):
        picked, turns = rng.integers(clips, size=(2, BATCH)), rng.integers(frames, size=(2, BATCH))
        gains = torch.empty(BATCH, 1, 1, 1).uniform_(*GAIN_DB)
        first, second = (
            torch.stack([sounds.spectrograms[i].roll(int(by), 1) for i, by in zip(*pair, strict=True)]).float() + gains
            for pair in zip(picked, turns, strict=True)
        )
        second += torch.empty(BATCH, 1, 1, 1).uniform_(-BALANCE_DB, BALANCE_DB)
        both = torch.rand(BATCH, 1) < 0.5
        power = 10 * torch.log10(10 ** (first / 10) + 10 ** (second / 10))
        heard = torch.where(both, sounds.heard[picked].amax(0), sounds.heard[picked[0]])
        said = torch.cat([heard, torch.stack([_nearly(row, rng) for row in heard])])
        texts = [_spoilt(say([NAMES[i] for i in row.nonzero()[:, 0]], rng), rng) for row in said]
        yield Pairs(torch.where(both[:, :, None, None], power, first).clamp(min=FLOOR_DB), texts, heard, said)


def _nearly(heard: Tensor, rng: np.random.Generator) -> Tensor:
    """Another set of sounds: one of `heard` replaced, left out or added."""
    said = heard.clone()
    there, absent = heard.nonzero()[:, 0], (heard == 0).nonzero()[:, 0]
    change = rng.random()
    if change < 0.75 or len(there) == 1:
        said[absent[int(rng.integers(len(absent)))]] = 1
    if change < 0.5 or (change >= 0.75 and len(there) > 1):
        said[there[int(rng.integers(len(there)))]] = 0
    return said


def _spoilt(text: str, rng: np.random.Generator) -> str:
    """Now and then with a made-up word in it: a word that the model does not know says nothing."""
    if rng.random() < 0.85:
        return text
    words = text.split()
    letters = rng.integers(ord("a"), ord("z") + 1, int(rng.integers(2, 9)))
    words.insert(int(rng.integers(1, len(words) + 1)), "".join(map(chr, letters)))
    return " ".join(words)


def train(
    sounds: Sounds,
    processor: ClapProcessor,
    steps: int,
    progress: Progress,
    *,
    start: Path | None = None,
    say: Say = sentence,
    peak: float = PEAK_RATE,
) -> ClapModel:
    """Returns a trained model; the same sounds and steps give the same weights.

    It begins as the model in the folder `start`, if that is given; `peak` is the highest learning rate.

    Three losses: CLAP's own contrastive one, in which texts about the same sounds are equally right; how far each
    cosine is from that of the sets of sounds, because one threshold has to serve all clips, and contrast compares only
    within a batch; and helpers that name the sounds off either embedding, which are dropped in the end.
    """
    torch.manual_seed(TRAINING_SEED)
    model = ClapModel.from_pretrained(start, local_files_only=True) if start else make_model(processor)
    model.train()
    helpers = nn.ModuleList([nn.Linear(WIDTH, len(NAMES)), nn.Linear(WIDTH, len(NAMES))])
    weights = [*model.parameters(), *helpers.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=peak, weight_decay=0.02)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: training.half_cosine(step, steps, WARM_UP))
    bar = progress.add_task("training", total=steps)
    for step, pairs in enumerate(batches(sounds, steps, say)):
        longer = torch.zeros(BATCH, 1, dtype=torch.bool)
        heard = model.get_audio_features(pairs.spectrograms, is_longer=longer).pooler_output
        tokens = processor.tokenizer(pairs.texts, padding=True, truncation=True, return_tensors="pt")
        said = model.get_text_features(**tokens).pooler_output
        cosines = F.normalize(heard, dim=1) @ F.normalize(said, dim=1).T
        wanted = F.normalize(pairs.heard, dim=1) @ F.normalize(pairs.said, dim=1).T
        contrast = _contrast(cosines * model.logit_scale_a.exp(), wanted) / 2
        contrast = contrast + _contrast(cosines.T[:BATCH] * model.logit_scale_t.exp(), wanted.T[:BATCH]) / 2
        named = F.binary_cross_entropy_with_logits(helpers[0](heard), pairs.heard)
        named = named + F.binary_cross_entropy_with_logits(helpers[1](said), pairs.said)
        loss = contrast + 5 * F.mse_loss(cosines, wanted) + named
        training.learn(loss, weights, optimiser, rate)
        with torch.no_grad():  # as in CLIP
            model.logit_scale_a.clamp_(0, math.log(100))
            model.logit_scale_t.clamp_(0, math.log(100))
        if step % 20 == 0:
            progress.update(bar, completed=step, description=f"training, loss {loss.item():.3f}")
    progress.update(bar, completed=steps)
    return model.eval()


def _contrast(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy against all that are about the very same sounds, in equal shares; rows without any do not count."""
    right = (wanted > 0.999).float()
    rows = right.sum(1) > 0
    return F.cross_entropy(logits[rows], right[rows] / right[rows].sum(1, keepdim=True))


@dataclass(frozen=True)
class Scores:
    """Similarities, each of shape (clips, styles of caption).

    Attributes:
        matching: of clips and their own captions.
        swapped: of clips and the captions of clips with other sounds.
        adjacent: of clips and captions in which one sound is another.
        placeless: of clips and their own captions without the place.
    """

    matching: np.ndarray
    swapped: np.ndarray
    adjacent: np.ndarray
    placeless: np.ndarray


def captions_of(scene: Scene, *, placed: bool = True) -> list[str]:
    """Returns captions of what is heard: as a clause, by the template writer, and in a style drawn for the scene."""
    place = PLACES[scene.place].phrase
    tags = tuple(Item(label, 0.9) for label in labels(scene))
    seen = image_caption(scene) if placed else image_caption(scene).removesuffix(f" {place}")
    brief = Brief(scene.clip_id, {"audio_tags": tags, "image_caption": (Item(seen),)})
    reference = reference_caption(scene)
    return [
        reference if placed else reference.removesuffix(f" {place}.") + ".",
        TemplateWriter().sentence(brief).caption,
        sentence(scene.sources, np.random.default_rng(scene.seed), place if placed else ""),
    ]


def with_other_sound(scene: Scene) -> Scene:
    """Returns a scene of which one thing is another."""
    rng = np.random.default_rng([scene.seed, 6])
    absent = [name for name in SOURCES if name not in scene.sources]
    names = list(scene.sources)
    names[int(rng.integers(len(names)))] = absent[int(rng.integers(len(absent)))]
    return replace(scene, sources=tuple(sorted(names)))


@dataclass(frozen=True)
class Held:
    """A held-out clip, and for each style of caption one that fits, another clip's, and one with a wrong sound."""

    scene: Scene
    matching: Sequence[str]
    swapped: Sequence[str]
    adjacent: Sequence[str]
    placeless: Sequence[str]


def held(scenes: Sequence[Scene]) -> Iterator[Held]:
    """Yields scenes with captions; another clip is the next one that has other sounds."""
    for index, scene in enumerate(scenes):
        others = (*scenes[index + 1 :], *scenes[:index])
        other = next(one for one in others if one.sources != scene.sources)
        yield Held(
            scene,
            matching=captions_of(scene),
            swapped=captions_of(other),
            adjacent=captions_of(with_other_sound(scene)),
            placeless=captions_of(scene, placed=False),
        )


def score(model: Path, clips: Iterable[Held], progress: Progress) -> Scores:
    """Scores captions by the production handlers, on the clips' MP4 files."""
    cue = AudioEmbedding(name="clap", model=str(model), device="cpu")
    ear, comparer = cue.load(), cue.scorer()
    reader = comparer.load()

    def scored(sound: Items, captions: list[str]) -> list[float]:
        return comparer.predict([Pair(caption, sound) for caption in captions], reader)

    found: list[list[list[float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        for one in progress.track(list(clips), description="held-out clips"):
            path = Path(folder, f"{one.scene.clip_id}.mp4")
            write_clip(one.scene, path)
            (sound,) = cue.predict([Example(one.scene.clip_id, decode(path, 0.0, None, cue.view))], ear)
            path.unlink()
            styles = (one.matching, one.swapped, one.adjacent, one.placeless)
            found.append([scored(sound, list(captions)) for captions in styles])
    return Scores(*np.array(found).transpose(1, 0, 2))


def best_threshold(scores: Scores) -> float:
    """Returns where most matching captions are kept and most swapped and adjacent ones dropped, in the widest gap."""
    good, bad = scores.matching, np.concatenate([scores.swapped, scores.adjacent])
    steps = np.unique(np.concatenate([good, bad]))
    middles = (steps[1:] + steps[:-1]) / 2
    right = np.array([(good >= at).mean() + (bad < at).mean() for at in middles])
    gaps = np.where(right == right.max(), np.diff(steps), 0)
    return round(float(middles[gaps.argmax()]), 3)


def evaluate(model: Path, clips: int, progress: Progress) -> dict[str, Any]:
    """Chooses a threshold on one held-out seed and measures it on others.

    Args:
        model: what a profile's row would name.
        clips: clips a seed.
        progress: shows how far it is.
    """
    least = best_threshold(score(model, held(make_scenes(THRESHOLD_SEED, clips, "good")), progress))
    scenes = [scene for seed in HELD_OUT_SEEDS for scene in make_scenes(seed, clips, "good")]
    found = score(model, held(scenes), progress)
    pairs = np.array([len(scene.sources) > 1 for scene in scenes])
    return {
        **figures(found, least, clips, len(scenes)),
        "adjacent_dropped_of_two_sounds": _share(found.adjacent[pairs] < least),
    }


def figures(found: Scores, least: float, clips: int, measured: int) -> dict[str, Any]:
    """What a threshold is worth that was chosen on `clips` clips, on `measured` others."""
    return {
        "threshold": least,
        "threshold_chosen_on": {"seed": THRESHOLD_SEED, "clips": clips},
        "seeds": list(HELD_OUT_SEEDS),
        "clips": measured,
        "captions": found.matching.size,
        "matching_kept": _share(found.matching >= least),
        "swapped_dropped": _share(found.swapped < least),
        "adjacent_dropped": _share(found.adjacent < least),
        "matching_without_place_kept": _share(found.placeless >= least),
        "place_moves_a_score_by": round(float(np.abs(found.placeless - found.matching).mean()), 4),
        "median_similarity": {
            kind: round(float(np.median(values)), 3) for kind, values in vars(found).items() if kind != "placeless"
        },
    }


def _share(outcomes: np.ndarray) -> float:
    return round(float(outcomes.mean()), 4)


def main(arguments: list[str] | None = None) -> None:
    """The command line: ``python -m demo.train_clap --help``."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.train_clap",
        description="Trains the demo's small CLAP on sounds of the demo world and measures it on held-out clips. On "
        "one CPU thread this takes about half an hour.",
        epilog="DIR then holds the model, as a profile's row may name it, and DIR.json a threshold for [similarity] "
        "and the shares of held-out captions that are kept or dropped at it.",
    )
    sizes = {
        "sounds": (2000, "sounds to learn from"),
        "steps": (2200, f"steps of {BATCH} sounds"),
        "clips": (40, "held-out clips of each seed"),
    }

    def trained(options: argparse.Namespace, progress: Progress) -> None:
        processor = make_processor()
        sounds = make_sounds(options.sounds, processor, progress)
        training.save_pretrained(options.out, train(sounds, processor, options.steps, progress), processor)

    training.command(parser, arguments, OUT, sizes, trained, evaluate)


if __name__ == "__main__":
    main()
