"""Trains the demo's image captioner: a BLIP-2 of the real architecture, small enough to be shipped.

Vision transformer, Q-Former and OPT are transformers' own, only narrow, and saved as any BLIP-2 is, so that
`model_handlers.image_caption` loads it as it loads the published one. It knows the demo world and nothing else.

    python -m demo.train_image_caption --out demo/models/image_caption
"""

from __future__ import annotations

import argparse
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from rich.progress import Progress
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    PreTrainedTokenizerFast,
)

from demo import training
from demo.world import PLACES, SOURCES, image_caption, render_frame
from model_handlers.base import Example
from model_handlers.image_caption import ImageCaption

OUT = Path(__file__).parent / "models" / "image_caption"

SIDE = 64  # pixels of the square that a frame is squeezed to
QUERIES = 8
FRAMES = 2  # pictures of each scene: one at any instant, one while something sounds
BATCH = 32
LOOKING = 0.3  # share of the steps in which only the vision transformer learns, as it comes pretrained in the paper
PEAK_RATE, WARM_UP = 1e-3, 100
# Standard deviation of the first weights; transformers' default for BLIP-2's vision, 1e-10, learns next to nothing.
SPREAD = 0.06


def make_processor() -> Blip2Processor:
    """Returns the processor: frames to 64 × 64, and one token a word for the words that the world's captions use.

    As in OPT, one token both begins and ends a text.
    """
    phrases = [source.phrase for source in SOURCES.values()] + [place.phrase for place in PLACES.values()]
    words = sorted({word for phrase in phrases for word in phrase.split()} | {"and"})
    ids = {token: number for number, token in enumerate(("<pad>", "</s>", "<unk>", *words))}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single="</s> $A", special_tokens=[("</s>", ids["</s>"])])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="</s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    return Blip2Processor(BlipImageProcessor(size={"height": SIDE, "width": SIDE}), fast, num_query_tokens=QUERIES)


def make_model(processor: Blip2Processor) -> Blip2ForConditionalGeneration:
    """Returns a BLIP-2 with random weights that fits `processor`; call `torch.manual_seed` before."""
    tokenizer = processor.tokenizer
    model = Blip2ForConditionalGeneration(
        Blip2Config(
            vision_config={
                "hidden_size": 96,
                "intermediate_size": 192,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "image_size": SIDE,
                "patch_size": 8,
                "initializer_range": SPREAD,
            },
            qformer_config={
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
                "vocab_size": 1,
                "initializer_range": SPREAD,
            },
            text_config={
                "model_type": "opt",
                "hidden_size": 64,
                "word_embed_proj_dim": 64,
                "ffn_dim": 128,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "dropout": 0.0,
                "max_position_embeddings": 64,
                "init_std": SPREAD,
                "vocab_size": len(tokenizer),
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": tokenizer.eos_token_id,
                "pad_token_id": tokenizer.pad_token_id,
            },
            num_query_tokens=QUERIES,
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        )
    )
    nn.init.normal_(model.query_tokens, std=SPREAD)  # transformers leaves them 0, that is, all alike
    return model


@dataclass(frozen=True)
class Pictures:
    """What is learnt from.

    Attributes:
        pixels: uint8, shape (pictures, 3, 64, 64).
        tokens: image placeholders, begin, words, end, padding; int64, shape (pictures, longest).
        things: 1 where a thing is in the picture, float32, shape (pictures, 16).
        places: index of the place, int64, shape (pictures,).
    """

    pixels: torch.Tensor
    tokens: torch.Tensor
    things: torch.Tensor
    places: torch.Tensor


def draw_pictures(scenes: int, processor: Blip2Processor, progress: Progress) -> Pictures:
    """Draws two pictures each of `scenes` scenes, spoilt a little as a video encoder and a camera would."""
    rng = np.random.default_rng(training.TRAINING_SEED)
    texts: list[str] = []
    pixels, things, places = [], [], []
    for scene in progress.track(training.training_scenes(scenes), total=scenes, description="drawing"):
        first = scene.events[0]
        sounding = first[int(rng.integers(len(first)))] + rng.uniform(0, 0.3)
        frames = [_spoil(render_frame(scene, t_s), rng) for t_s in (rng.uniform(0, scene.duration_s), sounding)]
        small = processor.image_processor(
            frames, do_rescale=False, do_normalize=False, input_data_format="channels_last", return_tensors="pt"
        )["pixel_values"]
        pixels.append(small.round().clamp(0, 255).to(torch.uint8))
        texts += [image_caption(scene)] * FRAMES
        things += [[float(name in scene.sources) for name in SOURCES]] * FRAMES
        places += [list(PLACES).index(scene.place)] * FRAMES
    tokenizer = processor.tokenizer
    words = tokenizer([f"{text} {tokenizer.eos_token}" for text in texts], padding=True, return_tensors="pt")[
        "input_ids"
    ]
    image = torch.full((len(texts), QUERIES), tokenizer.convert_tokens_to_ids("<image>"))
    return Pictures(torch.cat(pixels), torch.cat([image, words], 1), torch.tensor(things), torch.tensor(places))


def _spoil(frame: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Mirrors a frame or not, crops up to 6 % off each side and compresses it as JPEG."""
    image = Image.fromarray(frame)
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    near, far = rng.uniform(0, 0.06, (2, 2)) * image.size
    image = image.resize(image.size, Image.Resampling.BILINEAR, (*near, *(np.array(image.size) - far)))
    coded = io.BytesIO()
    image.save(coded, "JPEG", quality=int(rng.integers(30, 95)))
    return Image.open(coded).convert("RGB")


def train(pictures: Pictures, processor: Blip2Processor, steps: int, progress: Progress) -> Any:
    """Returns a trained model; the same pictures, steps and number of threads give the same weights.

    A helper reads things and places off the mean of the vision transformer's tokens, alone at first, beside the
    caption's cross-entropy later, and is dropped in the end: captions alone say too little of what there is to see.
    """
    torch.manual_seed(training.TRAINING_SEED)
    model = make_model(processor).train()
    helper = nn.Linear(model.config.vision_config.hidden_size, len(SOURCES) + len(PLACES))
    optimiser = torch.optim.AdamW([*model.parameters(), *helper.parameters()], lr=PEAK_RATE, weight_decay=0.02)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: training.half_cosine(step, steps, WARM_UP))
    mean = torch.tensor(processor.image_processor.image_mean)[:, None, None]
    std = torch.tensor(processor.image_processor.image_std)[:, None, None]
    pad = processor.tokenizer.pad_token_id
    bar = progress.add_task("training", total=steps)
    for step in range(steps):
        chosen = torch.randint(len(pictures.pixels), (BATCH,))
        light = torch.empty(2, BATCH, 1, 1, 1).uniform_(-0.1, 0.1)
        shown = pictures.pixels[chosen] / 255 * (1 + light[0]) + light[1]
        shown = (shown + 0.02 * torch.randn_like(shown)).clamp(0, 1)
        shown = (shown - mean) / std
        loss = torch.zeros(())
        if step < LOOKING * steps:
            seen = model.vision_model(shown).last_hidden_state
        else:
            tokens = pictures.tokens[chosen]
            labels = tokens.masked_fill(tokens == pad, -100)
            labels[:, : QUERIES + 1] = -100  # placeholders and the token that begins the text
            output = model(pixel_values=shown, input_ids=tokens, attention_mask=(tokens != pad).long(), labels=labels)
            seen, loss = output.vision_outputs.last_hidden_state, output.loss
        guess = helper(seen.mean(1))
        loss = loss + 5 * nn.functional.binary_cross_entropy_with_logits(
            guess[:, : len(SOURCES)], pictures.things[chosen]
        )
        loss = loss + 0.3 * nn.functional.cross_entropy(guess[:, len(SOURCES) :], pictures.places[chosen])
        training.learn(loss, model.parameters(), optimiser, rate)
        if step % 20 == 0:
            progress.update(bar, completed=step, description=f"training, loss {loss.item():.3f}")
    progress.update(bar, completed=steps)
    return model.eval()


def evaluate(model: Path, clips: int, progress: Progress) -> dict[str, Any]:
    """Captions the middle frames of real MP4 clips with held-out seeds by the production handler.

    Args:
        model: what a profile's row would name.
        clips: how many; ten a seed from 100 upwards.
        progress: shows how far it is.

    Returns:
        Shares of clips with the right place, with all things right, and with both.
    """
    handler = ImageCaption(name="image_caption", model=str(model))
    captioner = handler.load()
    scenes = training.held_out_scenes(clips)
    counts = {"place": 0, "things": 0, "both": 0}
    wrong = []
    for scene, frame in training.as_a_run_sees_them(scenes, handler.view, progress):
        (items,) = handler.predict([Example(scene.clip_id, frame)], captioner)
        said = items[0].text if items else ""
        right = {
            "place": said.endswith(PLACES[scene.place].phrase),
            "things": {n for n, source in SOURCES.items() if source.phrase in said} == set(scene.sources),
            "both": said == image_caption(scene),
        }
        for what, is_right in right.items():
            counts[what] += is_right
        if not right["both"]:
            wrong.append({"clip_id": scene.clip_id, "said": said, "true": image_caption(scene)})
    return {
        **training.measured_on(scenes),
        **{f"{what}_right": round(count / len(scenes), 4) for what, count in counts.items()},
        "wrong": wrong,
    }


def main(arguments: list[str] | None = None) -> None:
    """The command line: ``python -m demo.train_image_caption --help``."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.train_image_caption",
        description="Trains the demo's small BLIP-2 on pictures of the demo world and measures it on held-out clips. "
        "On one CPU thread this takes about twenty minutes.",
        epilog="DIR then holds the model, as a profile's row may name it, and DIR.json: the shares of held-out "
        "clips whose place, things, and both are captioned right.",
    )
    sizes = {
        "scenes": (5000, "scenes to learn from"),
        "steps": (7000, f"steps of {BATCH} pictures"),
        "clips": (200, "held-out clips to measure on"),
    }

    def trained(options: argparse.Namespace, progress: Progress) -> None:
        processor = make_processor()
        pictures = draw_pictures(options.scenes, processor, progress)
        training.save_pretrained(options.out, train(pictures, processor, options.steps, progress), processor)

    training.command(parser, arguments, OUT, sizes, trained, evaluate)


if __name__ == "__main__":
    main()
