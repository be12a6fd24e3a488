"""Trains the demo's video language model: an Idefics3, small enough to be shipped, that tells what is seen and when.

It is shown a clip's frames, each after its time, and says what is where, and at what second each thing moves first.
Its eyes begin as those of the demo's image captioner, and learn from single frames to tell, in one token a frame, which
things are there, which of them move, and where it is; meanwhile, patches of the frames have to tell what stands on
them. The language model learns to answer from tokens that say all this outright, each fact in a direction of its own.
Then the eyes' tokens are turned to say it in the same way, and the language model gets used to what they make of clips
that they have not seen. Training uses world seeds from 1000 upwards; the figures in ``video.json`` are measured on
seeds from 100, on MP4 files written, decoded and asked about as a run does it.

    python -m demo.train_video --help
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot
from torch.optim.lr_scheduler import LambdaLR
from transformers import Idefics3Processor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from demo import training
from demo.films import (
    EVERY_S,
    FACTS,
    FRAMES,
    SHORT_SIDE,
    SHOWN,
    TIMES_S,
    Films,
    clear,
    crowded,
    draw_films,
    glimpsed,
    made_up,
    on_patches,
    spoilt,
    story,
    true_facts,
)
from demo.occasions import NOUNS, THINGS, make_occasion, watched
from demo.scenes import PLACES
from demo.train_audio_tags import share
from demo.train_speech import held_out_occasions
from demo.watcher import (
    HALFWAY,
    MOST_TOKENS,
    QUESTION,
    WIDTH,
    attend,
    dialogue,
    directions,
    make_model,
    make_processor,
    normalise,
    seen,
    tokens_of,
)
from model_handlers.base import Example
from model_handlers.chat import Chat
from model_handlers.views import MomentsView

OUT = Path(__file__).parent / "models" / "video"
SURE = 8.0  # how many nats of log odds are as long as a direction
SEEING_BATCH, TELLING_BATCH = 64, 16
FEWEST = 8  # frames of a clip in training, at least
LESSONS = 2000  # clips of the world of which the language model is told the truth; twice as many more are made up
BRIEF = 0.2  # share of the steps in which it is shown `FEWEST` frames; from there to 0.7 they become more
LOOKING = 2  # heads of the layer after `HALFWAY` that are told where to look
PICTURES = 4  # of a clip that the eyes learn from
SEEING_RATE, TELLING_RATE, SETTLING_RATE = 1e-3, 2e-3, 5e-4  # at their peaks
WARM_UP = 100  # steps until then
UNSURE = (0.06, 0.06)  # standard deviation of a fact's share in made-up tokens: of a clip's, and of a frame's
LATE_S = 3  # see `measure`
REPORTED = 50  # every how manieth step is told


def learn_to_see(
    model: Any, films: Films, processor: Idefics3Processor, steps: int, bar: Progress, warm_up: int = WARM_UP
) -> list[float]:
    """Trains the eyes to tell what is in pictures; changes `model`; returns each batch's loss.

    One helper reads all facts off each token. Another reads off each patch what stands there and whether it moves: what
    is true of a whole picture says too little of where that is to be seen.
    """
    of_token, of_patch = nn.Linear(WIDTH, FACTS), nn.Linear(WIDTH, 2 * len(THINGS))
    nn.init.constant_(of_patch.bias, -3.0)  # at first, nothing is there
    learning = (model.model.vision_model, model.model.connector, of_token, of_patch)
    weights = [weight for part in learning for weight in part.parameters()]
    optimiser, rate = _optimiser(weights, steps, SEEING_RATE, warm_up)
    present = films.present()
    found = []
    model.train()
    for step in bar.track(range(steps), description="seeing"):
        chosen = torch.randint(len(films.pixels), (SEEING_BATCH,))
        owner = films.owner[chosen]
        pixels, boxes = spoilt(films.pixels[chosen], films.boxes[owner])
        patches = model.model.vision_model(normalise(pixels, processor)).last_hidden_state
        guess = of_token(seen(model, patches))
        there, moving, places = guess.split([len(THINGS), len(THINGS), len(PLACES)], 1)
        active = films.levels[chosen]
        wanted, counts = on_patches(films.things[owner], boxes, active)
        losses = {
            "things": 5 * binary_cross_entropy_with_logits(there, present[owner]),
            "moving": 15 * binary_cross_entropy_with_logits(moving, (active >= SHOWN).float(), clear(active)),
            "place": 0.3 * cross_entropy(places, films.places[owner]),
            "patches": 20 * binary_cross_entropy_with_logits(of_patch(patches), wanted, counts),
        }
        found.append(_learn(losses, weights, optimiser, rate))
        if step % REPORTED == REPORTED - 1:
            _report(step, losses, bar)
    model.eval()
    return found


def learn_to_tell(
    model: Any,
    facts: Tensor,
    given: Tensor,
    unsure: Sequence[float],
    processor: Idefics3Processor,
    steps: int,
    peak: float,
    bar: Progress,
    brief: float | None = None,
    warm_up: int = WARM_UP,
) -> list[float]:
    """Trains the language model on what it is given of clips; changes `model`; returns each batch's loss.

    Each batch shows some of its clips' frames, at even distances, so that there are more stories than clips. A helper
    reads off each frame its second, what has moved so far, and of each thing in which frame it moves first: the answers
    alone say too little of it.

    Args:
        model: the model.
        facts: what is true of clips, (clips, 40, facts).
        given: the tokens of their frames, (clips, 40, width).
        unsure: standard deviation of what is added to a fact's share, for each clip and for each frame.
        processor: the model's.
        steps: how many batches.
        peak: of the learning rate.
        bar: shows how far it is.
        brief: share of the steps before the frames become more than `FEWEST`, which takes half of them: from few frames
            it learns sooner. By default there are up to all from the first step.
        warm_up: steps until the rate is at its peak.
    """
    axes = directions()
    helper = nn.Linear(WIDTH, 2 * len(THINGS) + int(TIMES_S[-1]) + 1)
    weights = [*model.model.text_model.parameters(), *helper.parameters()]
    optimiser, rate = _optimiser(weights, steps, peak, warm_up)
    rng = np.random.default_rng(training.TRAINING_SEED)
    padding = processor.tokenizer.pad_token_id
    times = torch.tensor(
        [number for word, number in processor.tokenizer.get_vocab().items() if re.match("00:..(,|$)", word)]
    )
    found = []
    model.train()
    for step in bar.track(range(steps), description="telling"):
        grown = 1.0 if brief is None else min(1.0, max(0.0, 2 * (step / steps - brief)))
        most = FEWEST + round((FRAMES - FEWEST) * grown)
        count = most if rng.random() < 0.5 else int(rng.integers(FEWEST, most + 1))
        apart = int(rng.integers(1, FRAMES // count + 1))
        start = int(rng.integers(FRAMES - (count - 1) * apart))
        clips = rng.integers(len(facts), size=TELLING_BATCH)
        chosen, times_s = slice(start, start + count * apart, apart), TIMES_S[: count * apart : apart]
        shown = facts[clips, chosen]
        dialogues, asked = dialogue([story(clip, times_s) for clip in shown], times_s, processor)
        doubt = unsure[0] * torch.randn_like(shown[:, :1]) + unsure[1] * torch.randn_like(shown)
        tokens = given[clips, chosen] + doubt @ axes
        hidden, middle = attend(model, dialogues[:, :-1], tokens)
        frames = (dialogues[0] == model.config.image_token_id).nonzero()[:, 0]
        halfway = middle[:, frames]
        logits = model.lm_head(hidden[:, asked - 1 :])
        told_so_far, told_first, told_second = helper(halfway).tensor_split([len(THINGS), 2 * len(THINGS)], 2)
        so_far = shown[..., len(THINGS) : 2 * len(THINGS)].cummax(1).values
        first = torch.diff(so_far, dim=1, prepend=torch.zeros_like(so_far[:, :1]))
        moved = first.any(1)
        when = first.mT[moved].argmax(1)  # in the order in which they are told
        stamps = torch.isin(dialogues[:, 1:], times)
        stamps[:, : asked + 1] = False
        losses = {
            "answer": cross_entropy(logits.flatten(0, 1), dialogues[:, asked:].flatten(), ignore_index=padding),
            "so far": 10 * binary_cross_entropy_with_logits(told_so_far, so_far),
            "second": cross_entropy(told_second.mT, torch.from_numpy(times_s).long().expand(len(clips), -1)),
            "first": cross_entropy(told_first.mT[moved], when),
            "looks": looking_loss(model, middle, stamps, frames[when]),
        }
        found.append(_learn(losses, weights, optimiser, rate))
        if step % REPORTED == REPORTED - 1:
            _report(step, losses, bar)
    model.eval()
    return found


def speak(model: Any, films: Films, processor: Idefics3Processor, bar: Progress) -> Tensor:
    """Turns the eyes' tokens so that they hold, of each fact's direction, its log odds; changes `model`.

    The odds are a logistic regression's. Least squares would all but lose what is seldom true, as that a duck moves.

    Returns:
        the tokens of the clips' frames then, (clips, 40, width).
    """
    tokens, odds = tokens_of(model, films, processor, bar), nn.Linear(WIDTH, FACTS, bias=False)
    places = one_hot(films.places, len(PLACES)).float()
    facts = torch.cat([films.present()[films.owner], (films.levels >= SHOWN).float(), places[films.owner]], 1)
    counts = torch.ones_like(facts)
    counts[:, len(THINGS) : 2 * len(THINGS)] = clear(films.levels)
    spread = tokens.std()
    optimiser = torch.optim.LBFGS(odds.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        wrong = binary_cross_entropy_with_logits(odds(tokens / spread), facts, counts, reduction="sum") / len(facts)
        total = wrong + 1e-4 * odds.weight.square().sum()
        total.backward()
        return total

    optimiser.step(loss)
    with torch.no_grad():
        turn = odds.weight.T @ directions() / (SURE * spread)
        weight = model.model.connector.modality_projection.proj.weight
        weight.copy_(turn.T @ weight)
        return (tokens @ turn)[films.frames]


def _optimiser(
    weights: list[nn.Parameter], steps: int, peak: float, warm_up: int
) -> tuple[torch.optim.Optimizer, LambdaLR]:
    optimiser = torch.optim.AdamW(weights, peak, betas=(0.9, 0.98), weight_decay=0.02)
    return optimiser, LambdaLR(optimiser, lambda step: training.half_cosine(step, steps, warm_up))


def _learn(
    losses: dict[str, Tensor], weights: list[nn.Parameter], optimiser: torch.optim.Optimizer, rate: LambdaLR
) -> float:
    loss = torch.stack(list(losses.values())).sum()
    training.learn(loss, weights, optimiser, rate)
    return loss.item()


def _report(step: int, losses: dict[str, Tensor], bar: Progress) -> None:
    said = ", ".join(f"{name} {value.item():.4f}" for name, value in losses.items())
    bar.console.print(f"step {step + 1}: {said}")


def looking_loss(model: Any, middle: Tensor, askers: Tensor, wanted: Tensor) -> Tensor:
    """How far the first `LOOKING` heads of the layer after `HALFWAY` are from looking where they should, in nats.

    From answers alone it takes tens of thousands of clips until a thing's name looks for the frame of its first motion.

    Args:
        model: the model.
        middle: what its language model makes of dialogues halfway, (clips, tokens, width).
        askers: which tokens are to look, bool, (clips, tokens).
        wanted: where each of them is to look, int64, clip by clip.
    """
    text = model.model.text_model
    layer, size = text.layers[HALFWAY], text.config.head_dim
    states = layer.input_layernorm(middle)
    heads = [
        proj(states).unflatten(2, (-1, size))[:, :, :LOOKING].transpose(1, 2)
        for proj in (layer.self_attn.q_proj, layer.self_attn.k_proj)
    ]
    turns = text.rotary_emb(middle, torch.arange(middle.shape[1])[None])
    queries, keys = apply_rotary_pos_emb(*heads, *turns)
    clips, places = askers.nonzero().T
    scores = torch.einsum("nhd,nhtd->nht", queries[clips, :, places], keys[clips]) / size**0.5
    later = torch.arange(middle.shape[1]) > places[:, None]
    scores = scores.masked_fill(later[:, None], -torch.inf)
    return cross_entropy(scores.flatten(0, 1), wanted.repeat_interleave(LOOKING))


def evaluate(out: Path, clips: int, bar: Progress) -> dict[str, Any]:
    """How well the model in a folder tells MP4 clips of seeds that training never saw: the figures of `measure`."""
    handler = Chat(
        name="video",
        model=str(out),
        sees="video",
        question=QUESTION,
        max_new_tokens=MOST_TOKENS,
        every_s=EVERY_S,
        most_frames=FRAMES,
        short_side=SHORT_SIDE,
        device="cpu",
    )
    model = handler.load()
    occasions = held_out_occasions(clips)
    found, wrong = [], []
    clips_seen = training.as_a_run_sees_them(occasions, handler.view, bar)
    for occasion, (_, video) in zip(occasions, clips_seen, strict=True):
        assert isinstance(video, MomentsView)
        (items,) = handler.predict([Example(occasion.clip_id, video)], model)
        instants_s = np.floor(video.times_s * occasion.fps + 1e-6) / occasion.fps  # a frame shows that of its beginning
        said, true = items[0].text if items else "", glimpsed(occasion, instants_s)
        found.append((said, true, watched(occasion), occasion.place))
        if said != true:
            wrong.append({"clip_id": occasion.clip_id, "said": said, "true": true})
    return {**training.measured_on(occasions), **measure(found), "wrong": wrong}


def measure(found: Sequence[tuple[str, str, str, str]]) -> dict[str, float]:
    """The figures of `evaluate`, of what is said, what the frames show, what is so, and the place.

    Returns:
        ``exact``: the share of answers that say all that the frames show, and no more. ``place_right`` and
        ``things_right``: that of clips whose place, and all whose things and no others, are told. ``things_named``: of
        things, that which is told; ``things_invented``: of what is told, that which is not there, or told twice.
        ``moves_exact`` and ``moves_right``: of what moves in the frames, that which is told with its first second, or
        one beside it; ``moves_late``: as `moves_right`, of what does not move before `LATE_S`, as most things move in
        the first two seconds, so that saying 00:01 of all is right of 82 %. ``moves_invented``: of motions that are
        told, those that do not begin in that second or one beside it, or are told twice. ``moves_so``: as
        `moves_right`, of all that moves, be it between two frames.
    """
    named = [(Counter(things(said)), Counter(things(true))) for said, true, *_ in found]
    moved = [(moves(said), dict(moves(true)), dict(moves(all_true))) for said, true, all_true, _ in found]
    first = [(dict(reversed(said)), true, all_true) for said, true, all_true in moved]
    return {
        "exact": share(said == true for said, true, *_ in found),
        "place_right": share(PLACES[place].phrase in said.partition(";")[0] for said, *_, place in found),
        "things_right": share(said == true for said, true in named),
        "things_named": share(name in said for said, true in named for name in true),
        "things_invented": share(
            name not in true or number > 0 for said, true in named for name in said for number in range(said[name])
        ),
        "moves_exact": share(said.get(name) == at for said, true, _ in first for name, at in true.items()),
        "moves_right": share(near(said.get(name), at) for said, true, _ in first for name, at in true.items()),
        "moves_late": share(
            near(said.get(name), at) for said, true, _ in first for name, at in true.items() if at >= LATE_S
        ),
        "moves_invented": share(not right for said, true, _ in moved for right in told_rightly(said, true)),
        "moves_so": share(near(said.get(name), at) for said, _, true in first for name, at in true.items()),
    }


def near(one: int | None, other: int | None) -> bool:
    """Whether two seconds are the same, or one beside the other."""
    return one is not None and other is not None and abs(one - other) <= 1


def told_rightly(said: Sequence[tuple[str, int]], true: Mapping[str, int]) -> list[bool]:
    """Of each motion that is told: whether its second is `near` the true one, and it was not told before."""
    earlier = [{name for name, _ in said[:number]} for number in range(len(said))]
    return [name not in before and near(at, true.get(name)) for before, (name, at) in zip(earlier, said, strict=True)]


def things(said: str) -> list[str]:
    """What a sentence says that is there, as often as it says so."""
    names = {noun.split()[0]: name for name, noun in NOUNS.items()}
    return [names[word] for word in re.findall("[a-z]+", said.partition(";")[0]) if word in names]


def moves(said: str) -> list[tuple[str, int]]:
    """What a sentence says that moves, and at what second."""
    names = {noun: name for name, noun in NOUNS.items()}
    found = re.findall(r"the ([a-z ]+) 00:(\d\d)", said.partition("moving: ")[2])
    return [(names.get(noun, noun), int(at)) for noun, at in found]


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.train_video", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    sizes = {
        "films": (7000, f"clips of which the eyes learn from {PICTURES} frames each"),
        "stories": (2500, "further clips that the language model is shown by the eyes"),
        "seeing": (4000, f"batches of {SEEING_BATCH} frames"),
        "telling": (1400, f"batches of {TELLING_BATCH} clips of which the language model is told the truth"),
        "settling": (1500, "further ones of which it is told what the eyes see"),
        "clips": (200, "held-out clips to measure on"),
    }

    def trained(options: argparse.Namespace, bar: Progress) -> None:
        torch.manual_seed(training.TRAINING_SEED)
        processor = make_processor()
        model, images = make_model(processor.tokenizer), processor.image_processor
        films = draw_films(crowded(options.films), images, bar, PICTURES)
        learn_to_see(model, films, processor, options.seeing, bar)
        torch.manual_seed(training.TRAINING_SEED + 1)  # whatever the eyes drew
        lessons = made_up(2 * LESSONS, np.random.default_rng(training.TRAINING_SEED))
        facts = torch.cat([true_facts(films.occasions[:LESSONS]), lessons])
        learn_to_tell(
            model, facts, (facts - 0.5) @ directions(), UNSURE, processor, options.telling, TELLING_RATE, bar, BRIEF
        )
        del films
        further = range(options.films, options.films + options.stories)
        stories = draw_films([make_occasion(training.TRAINING_SEED, number) for number in further], images, bar)
        given = speak(model, stories, processor, bar)
        facts = true_facts(stories.occasions)
        learn_to_tell(model, facts, given, (0.0, 0.02), processor, options.settling, SETTLING_RATE, bar)
        training.save_pretrained(options.out, model.half(), processor)

    training.command(
        parser,
        arguments,
        OUT,
        sizes,
        trained,
        evaluate,
        least=dict.fromkeys(("seeing", "telling", "settling"), WARM_UP),
    )


if __name__ == "__main__":
    main()
