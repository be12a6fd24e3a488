"""``earshot review``: a local page on which a person listens to clips and judges their captions."""

from __future__ import annotations

import argparse
import getpass
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from beam_pipeline.dataset import Dataset


COUNT = 1000  # captions, as many as Auto-ACD had checked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("dataset", metavar="DIR", help="the dataset's folder, as given to `earshot run --output`")
    parser.add_argument(
        "-n",
        "--count",
        type=int,
        default=COUNT,
        metavar="N",
        help=f"captions to judge, drawn in proportion to sources and splits (default: {COUNT})",
    )
    parser.add_argument(
        "--rater",
        default="",
        metavar="NAME",
        help="who judges (default: your name on this machine); raters judge the same clips, in orders of their own",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument(
        "--include-rejected",
        action="store_true",
        help="draw from rejected captions too, so that `earshot calibrate` sees what is below the threshold",
    )
    parser.add_argument(
        "--reviews",
        metavar="FOLDER",
        help="where the reviews are kept, a file each rater (default: DIR/reviews); on this machine's disk",
    )
    parser.add_argument("--version", type=int, metavar="V", help="of the dataset (default: the current one)")
    parser.add_argument("--port", type=int, metavar="P", help="of the page (default: 8420, or the next that is free)")
    parser.add_argument(
        "--no-open", action="store_true", help="do not open the page in the browser: open its address yourself"
    )
    parser.add_argument(
        "--figures",
        action="store_true",
        help="print what all reviews of the version come to, beside the papers' figures, and end",
    )
    parser.add_argument("--json", action="store_true", help="with --figures: for machines")


def main(options: argparse.Namespace) -> int:
    """Runs the command with the options of `add_arguments`; returns its exit status. Raises `ConfigError`."""
    from beam_pipeline.config import ConfigError
    from beam_pipeline.dataset import Dataset

    if options.count < 1:
        raise ConfigError(f"-n {options.count}: take at least one caption")
    if options.json and not options.figures:
        raise ConfigError("--json goes with --figures")
    drawn = {
        "-n": options.count != COUNT,
        "--rater": options.rater,
        "--seed": options.seed,
        "--include-rejected": options.include_rejected,
    }
    if options.figures and (of_the_draw := [name for name, is_given in drawn.items() if is_given]):
        raise ConfigError(f"--figures are of all reviews of a version's captions; leave out {', '.join(of_the_draw)}")
    dataset = Dataset.open(options.dataset, options.version)
    folder = _folder(options)
    return _figures(options, dataset, folder) if options.figures else _review(options, dataset, folder)


def default_rater() -> str:
    """The user's name as a rater's; empty where there is none that will do."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        return ""
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:32]


def _folder(options: argparse.Namespace) -> str:
    from beam_pipeline.config import ConfigError
    from beam_pipeline.review.ratings import reviews_folder

    folder = options.reviews or reviews_folder(options.dataset)
    if "://" in folder and not options.figures:
        raise ConfigError(
            f"{folder}: reviews are added to a file line by line, which no object store can; "
            "name a folder on this machine with --reviews"
        )
    return folder


def _figures(options: argparse.Namespace, dataset: Dataset, folder: str) -> int:
    from beam_pipeline.review.figures import review_figures
    from beam_pipeline.review.ratings import counted_in, read_reviews
    from beam_pipeline.review.table import figures_table, printable
    from beam_pipeline.show import console, plain

    counted = counted_in(dataset, read_reviews(folder))
    found = review_figures(counted.reviews)
    if options.json:
        said = {"version": dataset.version, **asdict(found), "left_out": counted.left_out}
        print(json.dumps(said, indent=2))
        return 0
    printable()
    if found.reviews:
        console.print(figures_table(found, f"What raters say of version {dataset.version}"))
    else:
        console.print(
            f"{plain(folder)}: no review of a caption that version {dataset.version} has",
            highlight=False,
            soft_wrap=True,
        )
    for why, number in counted.left_out.items():
        console.print(f"left out, {plain(why)}: {number}", highlight=False, soft_wrap=True)
    return 0


def _review(options: argparse.Namespace, dataset: Dataset, folder: str) -> int:
    import asyncio
    import secrets

    from beam_pipeline.config import ConfigError
    from beam_pipeline.excerpts import Excerpts
    from beam_pipeline.review.ratings import check_folder, check_rater
    from beam_pipeline.review.sample import drawn_once
    from beam_pipeline.review.server import HOST, bound, serve
    from beam_pipeline.review.session import Sample, Session
    from beam_pipeline.show import said

    rater = check_rater(options.rater or default_rater())
    check_folder(rater, folder)
    drawn = drawn_once(dataset, Path(folder, "samples"), options.count, options.seed, options.include_rejected)
    if not drawn:
        raise ConfigError(f"{options.dataset}, version {dataset.version}: it has no captions to judge")
    sample = Sample(options.dataset, dataset.version, options.seed, tuple(drawn))
    session = Session(sample, rater, Path(folder))
    state, token = session.state(), secrets.token_urlsafe(24)
    found = bound(options.port)
    url = f"http://{HOST}:{found.getsockname()[1]}/?token={token}"

    def judged() -> str:
        return f"{session.count()} of {state['total']} caption{'s' if state['total'] != 1 else ''} judged"

    def ready() -> None:
        said(f"{judged()} by {rater}; saved in {session.file}")
        said(f"open {url}\nCtrl-C ends the server; the same command goes on where you were")
        if not options.no_open:
            _open(url)

    with Excerpts(processes=2) as excerpts:
        asyncio.run(serve(session, excerpts, token, found, ready))
    again = " ".join(["earshot review", *_given(options, rater)])
    said(f"\n{judged()} by {rater}; go on with: {again}")
    return 0


def _open(url: str) -> None:
    """Opens the page in a browser; one that takes the terminal until it is left holds up nobody."""
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def _given(options: argparse.Namespace, rater: str) -> list[str]:
    """The command's options that say which review it is, as a shell takes them."""
    import shlex

    given = [options.dataset, "-n", str(options.count), "--rater", rater]
    if options.seed:
        given += ["--seed", str(options.seed)]
    if options.include_rejected:
        given += ["--include-rejected"]
    if options.reviews:
        given += ["--reviews", options.reviews]
    if options.version is not None:
        given += ["--version", str(options.version)]
    return [shlex.quote(each) for each in given]
