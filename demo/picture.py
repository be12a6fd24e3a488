"""A picture of what a run makes of clips: their middle frames with caption or reason. The README shows one."""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model_handlers.views import MiddleFrame
from transforms.avro import read_avro
from transforms.media import Limits, MediaError, NoTrack, decode
from transforms.publish import OUTCOMES
from transforms.records import Caption, Failure, Rejection

WIDTH, HEIGHT, TEXT, GAP = 320, 240, 108, 12
INK, PAPER = "#1f2328", "#ffffff"
COLOURS = {Caption: "#1a7f37", Rejection: "#9a6700", Failure: "#cf222e"}


def tile(outcome: Caption | Rejection | Failure) -> Image.Image:
    """One clip: its middle frame, what became of it, and the sentence or reason."""
    image = Image.new("RGB", (WIDTH, HEIGHT + TEXT), PAPER)
    try:
        duration_s = None if outcome.clip.end_s is None else outcome.clip.end_s - outcome.clip.start_s
        frame = decode(outcome.clip.uri, outcome.clip.media_start_s, duration_s, MiddleFrame(), Limits())
        image.paste(Image.fromarray(np.asarray(frame)).resize((WIDTH, HEIGHT)), (0, 0))
    except (MediaError, NoTrack):
        ImageDraw.Draw(image).rectangle((0, 0, WIDTH, HEIGHT), fill="#d0d7de")
    match outcome:
        case Caption():
            word, text = "captioned", outcome.caption
        case Rejection():
            word, text = f"rejected: {outcome.reason}", outcome.evidence
        case Failure():
            word, text = f"failed: {outcome.step}", outcome.error.replace(outcome.clip.uri, "the file")
    draw = ImageDraw.Draw(image)
    draw.text((2, HEIGHT + 6), word, COLOURS[type(outcome)], ImageFont.load_default(15))
    body = "\n".join(textwrap.wrap(text, 44)[:4])
    draw.text((2, HEIGHT + 28), body, INK, ImageFont.load_default(14))
    return image


def picture(run: Path, columns: int, count: int) -> Image.Image:
    """The first clips of each outcome of the run in folder `run`: captions first, then rejections and failures."""
    files = json.loads((run / "manifest.json").read_text())["files"]
    chosen: list[Any] = []
    for name, record in OUTCOMES.items():
        found: list[Any] = sorted(
            read_avro([str(run / file) for file in files[name]], record), key=lambda o: o.clip.clip_id
        )
        chosen += found[: count - columns] if name == "captions" else _one_per_reason(found)
    tiles = [tile(outcome) for outcome in chosen[:count]]
    rows = -(-len(tiles) // columns)
    size = (columns * (WIDTH + GAP) + GAP, rows * (HEIGHT + TEXT + GAP) + GAP)
    sheet = Image.new("RGB", size, PAPER)
    for number, image in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(image, (GAP + column * (WIDTH + GAP), GAP + row * (HEIGHT + TEXT + GAP)))
    return sheet


def _one_per_reason(outcomes: list[Any]) -> list[Any]:
    reasons: dict[str, Rejection | Failure] = {}
    for outcome in outcomes:
        reasons.setdefault(outcome.reason if isinstance(outcome, Rejection) else outcome.step, outcome)
    return list(reasons.values())


def main() -> None:
    """The command line: ``python -m demo.picture RUN_FOLDER PICTURE.png``."""
    parser = argparse.ArgumentParser(prog="python -m demo.picture", description=__doc__)
    parser.add_argument("run", type=Path, help="a run's own folder, the one that holds manifest.json")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--count", type=int, default=12)
    options = parser.parse_args()
    picture(options.run, options.columns, options.count).save(options.picture, optimize=True)


if __name__ == "__main__":
    main()
