"""Trains the demo's object detector: a Grounding DINO of the real architecture, small enough to be shipped.

Backbone, text encoder, fusion, deformable encoder and decoder are transformers' own, only narrow, and saved as any
Grounding DINO is, so that `model_handlers.objects` loads it as it loads the published one. It knows the demo world and
nothing else.

    python -m demo.train_objects --out demo/models/objects
"""

from __future__ import annotations

import argparse
import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from rich.progress import Progress
from torch import nn
from transformers import (
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
)

from demo import training
from demo.boxes import detection_loss, focal, overlaps, stands_at
from demo.drawing import thing_boxes
from demo.world import SOURCES, render_frame
from model_handlers.base import Example
from model_handlers.objects import VOCABULARY, Objects, box_overlap

OUT = Path(__file__).parent / "models" / "objects"

WIDTH, HEIGHT = 128, 96  # pixels of a frame of the demo world as the model sees it
BATCH = 16
PEAK_RATE, WARM_UP = 1e-3, 100
THINGS = tuple(SOURCES)
# Names that are never right: the world has no such things, but for some that its backdrops hint at (a clock, a train).
OTHERS = tuple(name for name in VOCABULARY if name not in SOURCES)
# Ids that Grounding DINO's code takes for granted, being those of bert-base-uncased.
SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}


def make_processor() -> GroundingDinoProcessor:
    """Returns the processor: frames to 96 pixels of height, and one token a word for the words of the vocabulary."""
    words = sorted({word for name in (*VOCABULARY, *THINGS) for word in name.split()})
    special = {number: token for token, number in SPECIAL.items()}
    tokens = [special.get(number, f"[unused{number}]") for number in range(max(special) + 1)] + words
    tokenizer = BertTokenizer(vocab={token: number for number, token in enumerate(tokens)}, model_max_length=256)
    return GroundingDinoProcessor(
        GroundingDinoImageProcessor(size={"shortest_edge": HEIGHT, "longest_edge": WIDTH}), tokenizer
    )


def make_model(processor: GroundingDinoProcessor) -> GroundingDinoForObjectDetection:
    """Returns a Grounding DINO with random weights that fits `processor`; call `torch.manual_seed` before."""
    model = GroundingDinoForObjectDetection(
        GroundingDinoConfig(
            backbone_config={
                "model_type": "convnext",
                "patch_size": 8,
                "num_stages": 2,
                "hidden_sizes": [64, 128],
                "depths": [2, 3],
                "layer_scale_init_value": 1.0,
                "out_indices": [2],
            },
            text_config={
                "model_type": "bert",
                "vocab_size": len(processor.tokenizer),
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "max_position_embeddings": 256,
                "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
                "initializer_range": 0.1,
            },
            d_model=64,
            num_feature_levels=1,
            num_queries=16,
            encoder_layers=1,
            encoder_ffn_dim=128,
            encoder_attention_heads=4,
            decoder_layers=2,
            decoder_ffn_dim=128,
            decoder_attention_heads=4,
            dropout=0.0,
            fusion_droppath=0.0,
            auxiliary_loss=True,
        )
    )
    # Logits are dot products without a bias. These two biases start them at about -4: at first, nothing is there.
    with torch.no_grad():
        model.model.encoder.layers[-1].text_enhancer_layer.layer_norm_after.weight.fill_(0.5)
        model.model.encoder.layers[-1].text_enhancer_layer.layer_norm_after.bias[0] = 2.0
        model.model.enc_output_norm.bias[0] = -2.0
        model.model.decoder.layer_norm.bias[0] = -2.0
    return model


@dataclass(frozen=True)
class Pictures:
    """What is learnt from.

    Attributes:
        pixels: uint8, shape (pictures, 3, 96, 128).
        boxes: (x0, y0, x1, y1) in 0..1 of up to two things a picture, float32, shape (pictures, 2, 4).
        things: index of each thing among `SOURCES`, or -1 where there is but one; int64, shape (pictures, 2).
    """

    pixels: torch.Tensor
    boxes: torch.Tensor
    things: torch.Tensor


def draw_pictures(scenes: int, processor: GroundingDinoProcessor, progress: Progress) -> Pictures:
    """Draws a picture each of `scenes` scenes, at rest or in action, spoilt a little as a camera and encoder would."""
    rng = np.random.default_rng(training.TRAINING_SEED)
    frames = torch.empty(scenes, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    boxes = torch.zeros(scenes, 2, 4)
    things = torch.full((scenes, 2), -1)
    for row, scene in enumerate(progress.track(training.training_scenes(scenes), total=scenes, description="drawing")):
        first = scene.events[0]
        sounding = first[int(rng.integers(len(first)))] + rng.uniform(0, 0.3)
        t_s = sounding if rng.random() < 0.5 else rng.uniform(0, scene.duration_s)
        frame, (near, far) = _spoil(render_frame(scene, t_s), rng)
        shown = processor.image_processor(
            [np.array(frame)],
            do_rescale=False,
            do_normalize=False,
            input_data_format="channels_last",
            return_tensors="pt",
        )["pixel_values"][0]
        frames[row] = shown.round().clamp(0, 255).to(torch.uint8)
        for place, (name, box) in enumerate(zip(scene.sources, thing_boxes(scene), strict=True)):
            edges = (np.array(box).reshape(2, 2) - near) / (far - near)
            boxes[row, place] = torch.tensor(edges.clip(0, 1).ravel())
            things[row, place] = THINGS.index(name)
    return Pictures(frames, boxes, things)


def _spoil(frame: np.ndarray, rng: np.random.Generator) -> tuple[Image.Image, np.ndarray]:
    """Crops up to 8 % off each side and compresses a frame as JPEG; also what is left: (x, y) near and far in 0..1."""
    image = Image.fromarray(frame)
    near, far = rng.uniform(0, 0.08, (2, 2)) * [[1], [-1]] + [[0], [1]]
    image = image.resize(image.size, Image.Resampling.BILINEAR, (*(near * image.size), *(far * image.size)))
    coded = io.BytesIO()
    image.save(coded, "JPEG", quality=int(rng.integers(30, 95)))
    return Image.open(coded).convert("RGB"), np.stack([near, far])


def draw_prompt(processor: GroundingDinoProcessor, rng: np.random.Generator) -> tuple[Any, torch.Tensor]:
    """Returns a text that asks for names in random order, and the token that names each of `SOURCES` (-1: none does).

    Half of the texts name all that the world shows, half some of it; the rest of each is names of what it never shows.
    """
    kept = len(THINGS) if rng.random() < 0.5 else int(rng.integers(1, len(THINGS)))
    others = int(rng.integers(0, 12))
    asked = rng.permutation([*rng.permutation(THINGS)[:kept], *rng.permutation(OTHERS)[:others]]).tolist()
    text = processor.tokenizer(". ".join(asked) + ".", return_tensors="pt")
    tokens = text["input_ids"][0].tolist()
    ids = processor.tokenizer.convert_tokens_to_ids(list(THINGS))
    return text, torch.tensor(
        [tokens.index(number) if name in asked else -1 for name, number in zip(THINGS, ids, strict=True)]
    )


def light_up(pixels: torch.Tensor, processor: GroundingDinoProcessor) -> torch.Tensor:
    """Makes uint8 pictures the model's input, each a little brighter or darker, with less or more contrast, noisy."""
    light = torch.empty(2, len(pixels), 1, 1, 1).uniform_(-0.15, 0.15)
    shown = pixels / 255 * (1 + light[0]) + light[1]
    shown = (shown + 0.02 * torch.randn_like(shown)).clamp(0, 1)
    mean = torch.tensor(processor.image_processor.image_mean)[:, None, None]
    std = torch.tensor(processor.image_processor.image_std)[:, None, None]
    return (shown - mean) / std


def places_of(model: GroundingDinoForObjectDetection) -> torch.Tensor:
    """Middles (x, y) in 0..1 of the places of the model's feature map, row by row; shape (places, 2)."""
    stride = model.model.backbone.conv_encoder.model.config.patch_size * 2
    y, x = torch.meshgrid(
        (torch.arange(HEIGHT // stride) + 0.5) * stride / HEIGHT,
        (torch.arange(WIDTH // stride) + 0.5) * stride / WIDTH,
        indexing="ij",
    )
    return torch.stack([x, y], -1).reshape(-1, 2)


def look(pictures: Pictures, processor: GroundingDinoProcessor, steps: int, progress: Progress) -> dict[str, Any]:
    """Returns the weights of a backbone that tells the things apart, as it comes pretrained in the paper.

    It learns by a linear helper, dropped in the end, that says what stands at each place of its feature map.
    """
    torch.manual_seed(0)
    model = make_model(processor).train()
    backbone, places = model.model.backbone.conv_encoder.model, places_of(model)
    helper = nn.Conv2d(backbone.channels[-1], len(THINGS), 1)
    nn.init.constant_(cast(torch.Tensor, helper.bias), -4.0)  # at first, nothing is there
    optimiser = torch.optim.AdamW([*backbone.parameters(), *helper.parameters()], lr=2 * PEAK_RATE, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: training.half_cosine(step, steps, WARM_UP))
    bar = progress.add_task("looking", total=steps)
    for step in range(steps):
        shown, boxes, things = draw_batch(pictures, processor)
        guess = helper(backbone(shown).feature_maps[-1]).flatten(2).transpose(1, 2)
        picture, thing, place = stands_at(places, boxes, things).nonzero(as_tuple=True)
        wanted = torch.zeros_like(guess)
        wanted[picture, place, things[picture, thing]] = 1.0
        loss = focal(guess, wanted, 0.25) / max(len(picture), 1)
        training.learn(loss, backbone.parameters(), optimiser, rate)
        if step % 20 == 0:
            progress.update(bar, completed=step, description=f"looking, loss {loss.item():.3f}")
    progress.update(bar, completed=steps)
    return backbone.state_dict()


def train(
    pictures: Pictures, processor: GroundingDinoProcessor, seen: dict[str, Any], steps: int, progress: Progress
) -> Any:
    """Returns a trained model; the same pictures, backbone, steps and number of threads give the same weights.

    The encoder learns at every place of the picture what stands there and its box, not only at the few that are passed
    on. A box that the encoder passes on has to name a thing if it overlaps it by half, or overlaps it most: several may
    name one thing (as in DETA, arXiv:2212.06137), and the handler keeps the surest. That learns far sooner than the
    paper's matching of one box a thing.
    """
    torch.manual_seed(1)
    rng = np.random.default_rng(training.TRAINING_SEED)
    model = make_model(processor).train()
    backbone, places = model.model.backbone.conv_encoder.model, places_of(model)
    backbone.load_state_dict(seen)
    pretrained = {id(parameter) for parameter in backbone.parameters()}
    fresh = [parameter for parameter in model.parameters() if id(parameter) not in pretrained]
    optimiser = torch.optim.AdamW(
        [{"params": fresh}, {"params": backbone.parameters(), "lr": PEAK_RATE / 4}], lr=PEAK_RATE, weight_decay=0.02
    )
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: training.half_cosine(step, steps, WARM_UP))
    bar = progress.add_task("training", total=steps)
    for step in range(steps):
        shown, boxes, things = draw_batch(pictures, processor)
        text, column_of = draw_prompt(processor, rng)
        columns = torch.where(things >= 0, column_of[things.clamp(min=0)], -1)
        loss = total_loss(model, shown, text, boxes, columns, places)
        training.learn(loss, model.parameters(), optimiser, rate)
        if step % 20 == 0:
            progress.update(bar, completed=step, description=f"training, loss {loss.item():.3f}")
    progress.update(bar, completed=steps)
    return model.eval()


def draw_batch(
    pictures: Pictures, processor: GroundingDinoProcessor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns random pictures as the model's input, half of them mirrored, their boxes in centre form, their things."""
    chosen = torch.randint(len(pictures.pixels), (BATCH,))
    near, far = pictures.boxes[chosen].split(2, -1)
    boxes = torch.cat([(near + far) / 2, far - near], -1)
    shown = light_up(pictures.pixels[chosen], processor)
    mirrored = torch.rand(BATCH) < 0.5
    shown = torch.where(mirrored[:, None, None, None], shown.flip(-1), shown)
    boxes[..., 0] = torch.where(mirrored[:, None], 1 - boxes[..., 0], boxes[..., 0])
    return shown, boxes, pictures.things[chosen]


def total_loss(
    model: GroundingDinoForObjectDetection,
    shown: torch.Tensor,
    text: Any,
    boxes: torch.Tensor,
    columns: torch.Tensor,
    places: torch.Tensor,
) -> torch.Tensor:
    """Loss of the encoder's and of each decoder layer's boxes; `columns` as for `detection_loss`, -1 for no thing."""
    tokens = text["input_ids"].shape[1]
    output = model(pixel_values=shown, **{name: values.expand(BATCH, -1) for name, values in text.items()})
    away = (places - boxes[:, :, None, :2]).abs().sum(-1)
    nearest = nn.functional.one_hot(away.argmin(-1), len(places)).bool()
    stands = stands_at(places, boxes, columns) | nearest & (columns >= 0)[:, :, None]
    found = output.enc_outputs_coord_logits.sigmoid()
    loss = detection_loss(output.enc_outputs_class[..., :tokens], found, stands, boxes, columns)
    share = overlaps(output.init_reference_points, boxes)
    most = nn.functional.one_hot(share.argmax(-1), share.shape[-1]).bool()
    stands = ((share > 0.5) | most) & (columns >= 0)[:, :, None]
    # The model returns the last layer's answers; these are how it gets them, for each layer.
    reference = output.init_reference_points
    for layer in range(model.config.decoder_layers):
        state = output.intermediate_hidden_states[:, layer]
        logits = state @ output.encoder_last_hidden_state_text.transpose(-1, -2)
        found = (model.bbox_embed[layer](state) + torch.special.logit(reference, eps=1e-5)).sigmoid()
        loss = loss + detection_loss(logits, found, stands, boxes, columns)
        reference = output.intermediate_reference_points[:, layer]
    return loss


def evaluate(model: Path, clips: int, progress: Progress) -> dict[str, Any]:
    """Looks for the world's sixteen things in the middle frames of real MP4 clips with held-out seeds, as a run does.

    Args:
        model: what a profile's row would name.
        clips: how many; ten a seed from 100 upwards.
        progress: shows how far it is.

    Returns:
        Shares of the things that are found by name, and by name with a box that overlaps the truth by half; share of
        the items that are true; false items a picture; mean overlap of the boxes found; CPU seconds a frame.
    """
    handler = Objects(name="objects", model=str(model), vocabulary=THINGS, device="cpu")
    detector = handler.load()
    scenes = training.held_out_scenes(clips)
    things, items_said, shares, seconds = 0, 0, [], 0.0
    wrong = []
    for scene, frame in training.as_a_run_sees_them(scenes, handler.view, progress):
        started = time.process_time()
        (items,) = handler.predict([Example(scene.clip_id, frame)], detector)
        seconds += time.process_time() - started
        truth = dict(zip(scene.sources, thing_boxes(scene), strict=True))
        surest = {item.text: item.box for item in reversed(items) if item.box is not None}
        things += len(truth)
        items_said += len(items)
        shares += [box_overlap(surest[name], truth[name]) for name in truth if name in surest]
        if sorted(item.text for item in items) != sorted(truth):
            said = [f"{item.text} {item.score:.2f}" for item in items]
            wrong.append({"clip_id": scene.clip_id, "said": said, "true": list(truth)})
    return {
        **training.measured_on(scenes),
        "things": things,
        "found": round(len(shares) / things, 4),
        "found_with_box": round(sum(share >= 0.5 for share in shares) / things, 4),
        "precision": round(len(shares) / max(items_said, 1), 4),
        "false_items_per_picture": round((items_said - len(shares)) / len(scenes), 4),
        "mean_box_overlap": round(float(np.mean(shares)) if shares else 0.0, 4),
        "pictures_all_right": round(1 - len(wrong) / len(scenes), 4),
        "cpu_seconds_per_frame": round(seconds / len(scenes), 4),
        "wrong": wrong,
    }


def main(arguments: list[str] | None = None) -> None:
    """The command line: ``python -m demo.train_objects --help``."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.train_objects",
        description="Trains the demo's small Grounding DINO on pictures of the demo world and measures it on held-out "
        "clips. On one CPU thread this takes about half an hour.",
        epilog="DIR then holds the model, as a profile's row may name it, and DIR.json: how many of the clips' "
        "things it finds by their right names and in their right places, and how much else it says.",
    )
    sizes = {
        "scenes": (6000, "scenes to learn from"),
        "looks": (2000, "steps of the backbone alone"),
        "steps": (2500, f"steps of {BATCH} pictures"),
        "clips": (200, "held-out clips to measure on"),
    }

    def trained(options: argparse.Namespace, progress: Progress) -> None:
        processor = make_processor()
        pictures = draw_pictures(options.scenes, processor, progress)
        seen = look(pictures, processor, options.looks, progress)
        training.save_pretrained(options.out, train(pictures, processor, seen, options.steps, progress), processor)

    training.command(parser, arguments, OUT, sizes, trained, evaluate)


if __name__ == "__main__":
    main()
