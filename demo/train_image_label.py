"""Trains the demo's CLIP: a dual encoder of the real architecture, small enough to be shipped.

It learns which of the world's sixteen things, each in the sentence "a photo of a {label}", are in a picture. Training
uses world seeds from 1000 upwards; the figures in ``image_label.json`` are measured on seeds from 100, on MP4 files
written, decoded and labelled as a run does it.

    python -m demo.train_image_label --help
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast

from demo import training
from demo.train_image_caption import draw_pictures
from demo.train_image_caption import make_processor as make_caption_processor
from demo.world import SOURCES
from model_handlers.base import Example
from model_handlers.image_label import ImageLabel, unit

OUT = Path(__file__).parent / "models" / "image_label"
TEMPLATE = "a photo of a {label}"
SIDE = 64  # pixels of the square that a frame is squeezed to
BATCH = 32
PEAK_RATE, WARM_UP = 1e-3, 0.05


def make_processor() -> CLIPProcessor:
    """Returns the processor: frames to 64 × 64, and one token a word for the words that the labels' sentences use."""
    words = sorted({word for name in SOURCES for word in TEMPLATE.replace("{label}", name).split()})
    ids = {token: number for number, token in enumerate(("<|startoftext|>", "<|unknown|>", *words, "<|endoftext|>"))}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="<|unknown|>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    ends = [(token, ids[token]) for token in ("<|startoftext|>", "<|endoftext|>")]
    tokenizer.post_processor = TemplateProcessing(single="<|startoftext|> $A <|endoftext|>", special_tokens=ends)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="<|unknown|>",
        model_max_length=16,
    )
    return CLIPProcessor(CLIPImageProcessor(size={"height": SIDE, "width": SIDE}, do_center_crop=False), fast)


def make_model(processor: CLIPProcessor) -> CLIPModel:
    """Returns a CLIP with random weights that fits `processor`; call `torch.manual_seed` before."""
    tokenizer = processor.tokenizer
    text = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "max_position_embeddings": 16,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": 8,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))


def train(
    model: CLIPModel, processor: CLIPProcessor, pixels: Tensor, things: Tensor, steps: int, bar: Progress
) -> None:
    """Trains by the softmax over all labels, whose target is shared evenly by the things in the picture.

    A helper reads the things off the mean of the vision transformer's tokens, and is dropped in the end.

    Args:
        model: is changed.
        processor: its processor.
        pixels: uint8, shape (pictures, 3, 64, 64).
        things: 1 where a thing is in the picture, float32, shape (pictures, 16).
        steps: batches of 32.
        bar: shows how far it is.
    """
    helper = nn.Linear(model.config.vision_config.hidden_size, len(SOURCES))
    optimiser = torch.optim.AdamW([*model.parameters(), *helper.parameters()], PEAK_RATE, weight_decay=0.02)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps, pct_start=WARM_UP)
    mean, std = (torch.tensor(getattr(processor.image_processor, f"image_{what}")) for what in ("mean", "std"))
    sentences = [TEMPLATE.replace("{label}", name) for name in SOURCES]
    tokens = processor.tokenizer(sentences, padding=True, return_tensors="pt")
    model.train()
    for _ in bar.track(range(steps), description="training"):
        chosen = torch.randint(len(pixels), (BATCH,))
        light = torch.empty(2, BATCH, 1, 1, 1).uniform_(-0.1, 0.1)
        shown = pixels[chosen] / 255 * (1 + light[0]) + light[1]
        shown = (shown + 0.02 * torch.randn_like(shown)).clamp(0, 1)
        seen = model.vision_model((shown - mean[:, None, None]) / std[:, None, None])
        images = unit(model.visual_projection(seen.pooler_output))
        logits = images @ unit(model.get_text_features(**tokens).pooler_output).T * model.logit_scale.exp()
        wanted = things[chosen]
        loss = -(log_softmax(logits, 1) * wanted / wanted.sum(1, keepdim=True)).sum(1).mean()
        loss = loss + 5 * binary_cross_entropy_with_logits(helper(seen.last_hidden_state.mean(1)), wanted)
        training.learn(loss, model.parameters(), optimiser, rate)
        with torch.no_grad():
            model.logit_scale.clamp_(max=4.6)  # a factor of 100, as in CLIP's own training
    model.eval()


def evaluate(out: Path, clips: int, bar: Progress) -> dict[str, Any]:
    """Returns how often the first label is in the picture, on MP4 clips of seeds that training never saw."""
    handler = ImageLabel(name="image_label", model=str(out), labels=tuple(SOURCES), template=TEMPLATE, device="cpu")
    labeller, right = handler.load(), 0
    scenes = training.held_out_scenes(clips)
    for scene, frame in training.as_a_run_sees_them(scenes, handler.view, bar):
        ((first, *_),) = handler.predict([Example(scene.clip_id, frame)], labeller)
        right += first.text in scene.sources
    return {**training.measured_on(scenes), "first_right": round(right / len(scenes), 4)}


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.train_image_label", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    sizes = {
        "scenes": (3000, "scenes to learn from"),
        "steps": (5000, f"batches of {BATCH} pictures; the learning rate needs 100 to rise and fall"),
        "clips": (200, "held-out clips to measure on"),
    }

    def trained(options: argparse.Namespace, bar: Progress) -> None:
        torch.manual_seed(0)
        processor = make_processor()
        model = make_model(processor)
        pictures = draw_pictures(options.scenes, make_caption_processor(), bar)
        train(model, processor, pictures.pixels, pictures.things, options.steps, bar)
        training.save_pretrained(options.out, model, processor)

    training.command(parser, arguments, OUT, sizes, trained, evaluate, least={"steps": 100})


if __name__ == "__main__":
    main()
