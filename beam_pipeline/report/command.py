"""``earshot report``: a version of a dataset as one page, to be looked at and listened to."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("dataset", metavar="DIR", help="the dataset's folder, as given to `earshot run --output`")
    parser.add_argument("version", nargs="?", type=int, metavar="VERSION", help="default: the current version")
    parser.add_argument("--clips", type=int, default=60, metavar="N", help="clips in the gallery (default: 60)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draw of those clips (default: 0)")
    parser.add_argument(
        "--output", default="", metavar="FILE", help="the page (default: report.html in the version's folder)"
    )
    parser.add_argument("--no-diff", action="store_true", help="do not compare it with the version before")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")


def main(options: argparse.Namespace) -> int:
    """Runs the command with the options of `add_arguments`; returns its exit status. Raises `ConfigError`."""
    from beam_pipeline.config import ConfigError
    from beam_pipeline.report.build import report

    if options.clips < 0:
        raise ConfigError(f"--clips {options.clips}: it has to be a number from 0 on")
    compared = not options.no_diff
    path = report(options.dataset, options.version, options.clips, options.seed, options.output, compared)
    print(path)
    if options.open:
        webbrowser.open(path if "://" in path else Path(path).resolve().as_uri())
    return 0
