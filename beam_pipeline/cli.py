"""The ``earshot`` command."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence

from beam_pipeline.arguments import parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0 done, 1 the run failed, 2 something to put right first."""
    argv = sys.argv[1:] if argv is None else argv
    options, rest = parser(argv).parse_known_args(argv)
    verbose = getattr(options, "verbose", False)
    _quiet_libraries(verbose)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may know fewer characters than clips have
    try:
        return _done(options, rest, verbose)
    except KeyboardInterrupt as stopped:
        kept = str(stopped) or "; nothing of this run was published, and what it computed is kept for the next"
        print(f"earshot: stopped{kept if options.command in ('run', 'demo') else ''}", file=sys.stderr)
        return 130


def _done(options: argparse.Namespace, rest: list[str], verbose: bool) -> int:
    """Runs the command of `options`; what went wrong is one line, unless stack traces are wanted."""
    from beam_pipeline.commands import COMMANDS  # seconds, so not before the arguments are known to be right
    from beam_pipeline.config import ConfigError
    from beam_pipeline.run import RunError
    from beam_pipeline.show import errors, plain
    from model_handlers.weights import ModelError
    from transforms.ingest import SourceError

    try:
        if rest and options.command not in ("run", "plan"):
            raise ConfigError(f"unknown option {rest[0]}")
        return COMMANDS[options.command](options, rest)
    except (ConfigError, SourceError, ModelError, RunError) as error:
        if verbose:
            raise
        errors.print(f"[red]earshot: {plain(str(error))}[/]", highlight=False, soft_wrap=True)
        return 1 if isinstance(error, RunError) else 2


def _quiet_libraries(verbose: bool) -> None:
    """Keeps the terminal for the user: libraries speak up only when something is wrong."""
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR)
    if not verbose:
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # what a job failed of is said once, by `main`
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_HUB_VERBOSITY", "critical")
        os.environ.setdefault("TQDM_DISABLE", "1")


if __name__ == "__main__":
    sys.exit(main())
