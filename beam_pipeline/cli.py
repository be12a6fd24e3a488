"""The ``earshot`` command."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from beam_pipeline.config import ConfigError, Profile, load_profile, profile_names

DESCRIPTION = "Turn video clips into a dataset of audio captions."

RUN_EPILOG = """\
sources of clips (--clips):
  a folder or glob            every media file is one clip
  AudioSet's segments CSV     with --media, and --class-labels to turn mids into names
  VGGSound's CSV              with --media
  Earshot's own CSV or JSONL  columns clip_id, uri, video_id, start_s, end_s, labels, split, source

examples:
  earshot run --profile demo --clips my_videos/ --output out/
  earshot run --profile demo --clips vggsound.csv --media '/data/vgg/{video_id}_{start:06d}.mp4' --output out/
  earshot run --profile demo --clips clips.csv --output out/ \\
      --direct_num_workers=2 --direct_running_mode=multi_processing

Every other option is handed to Beam.
"""


def parser() -> argparse.ArgumentParser:
    """The command line. `run` leaves what it does not know to Beam."""
    top = argparse.ArgumentParser(prog="earshot", description=DESCRIPTION, allow_abbrev=False)
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument("--verbose", action="store_true", help="show what Beam and the models log, and stack traces")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    profiles = f"a profile ({', '.join(profile_names())}) or the path of a .toml file"

    run = commands.add_parser(
        "run",
        help="caption a set of clips",
        description="Caption a set of clips and publish captions.avro, rejected.avro, failed.avro and manifest.json.",
        epilog=RUN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[shared],
        allow_abbrev=False,
    )
    run.add_argument("--profile", required=True, help=profiles)
    run.add_argument("--clips", required=True, metavar="SOURCE", help="where the clips are listed; see below")
    run.add_argument("--output", required=True, metavar="DIR", help="each run writes a new folder below DIR/runs")
    run.add_argument("--media", default="", metavar="TEMPLATE", help="where a listed clip's file is; see below")
    run.add_argument("--source-format", default="auto", choices=("auto", "media", "audioset", "vggsound", "earshot"))
    run.add_argument("--class-labels", default="", metavar="CSV", help="AudioSet's class_labels_indices.csv")
    run.add_argument("--limit", type=int, metavar="N", help="only the first N clips")
    run.add_argument("--shards", type=_count, default=1, metavar="N", help="files per dataset; 0: the runner chooses")

    demo = commands.add_parser(
        "demo",
        help="make a small world of clips and caption it",
        description="Make clips of a drawn world with known sounds, caption them, and show captions beside the truth.",
        parents=[shared],
        allow_abbrev=False,
    )
    demo.add_argument("--count", type=int, default=48, metavar="N", help="how many clips (default: 48)")
    demo.add_argument("--seed", type=int, default=7, help="which world (default: 7)")
    demo.add_argument("--output", default="out/demo", metavar="DIR", help="default: out/demo")

    caption = commands.add_parser(
        "caption",
        help="caption files of your own, here and now",
        description="Caption media files and print each caption with the cues it rests on. Nothing is kept.",
        parents=[shared],
        allow_abbrev=False,
    )
    caption.add_argument("files", nargs="+", metavar="FILE", help="video or audio files")
    caption.add_argument("--profile", default="demo", help=f"default: demo; {profiles}")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0 done, 1 the run failed, 2 something to put right first."""
    options, rest = parser().parse_known_args(argv)
    verbose = getattr(options, "verbose", False)
    _quiet_libraries(verbose)
    from beam_pipeline.run import RunError
    from beam_pipeline.show import errors
    from model_handlers.weights import ModelError
    from transforms.ingest import SourceError

    try:
        if rest and options.command != "run":
            raise ConfigError(f"unknown option {rest[0]}")
        return {"run": _run, "demo": _demo, "caption": _caption}[options.command](options, rest)
    except (ConfigError, SourceError, ModelError) as error:
        if verbose:
            raise
        errors.print(f"earshot: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 2
    except RunError as error:
        if verbose:
            raise
        errors.print(f"earshot: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        errors.print("earshot: stopped; nothing of this run was published", style="red")
        return 130


def _run(options: argparse.Namespace, flags: list[str]) -> int:
    from beam_pipeline.run import run
    from beam_pipeline.show import captions_table, console, summary
    from transforms.ingest import ClipSource

    source = ClipSource(
        options.clips,
        kind=options.source_format,
        media=options.media,
        class_labels=options.class_labels,
        limit=options.limit,
    )
    profile = load_profile(options.profile)
    own = [name.replace("_", "-") for name in vars(options)]
    result = run(profile, source, options.output, flags, shards=options.shards, own_options=own)
    first = [caption for caption, _ in zip(result.read("captions"), range(10), strict=False)]
    if first:
        console.print(captions_table(first, "The first captions"))
    summary(result)
    return _status(result.manifest["counts"])


def _demo(options: argparse.Namespace, _: list[str]) -> int:
    from beam_pipeline.run import run
    from beam_pipeline.show import captions_table, console, summary
    from demo.world import read_truth, write_world_shown
    from transforms.ingest import ClipSource

    world = Path(options.output) / f"world-{options.seed}-{options.count}"
    write_world_shown(options.seed, options.count, world)
    result = run(load_profile("demo"), ClipSource(str(world / "clips.csv")), options.output)
    truths = {truth["clip_id"]: truth["caption"] for truth in read_truth(world)}
    captions = sorted(result.read("captions"), key=lambda caption: caption.clip.clip_id)
    console.print(captions_table(captions, "Captions", truths))
    summary(result)
    return _status(result.manifest["counts"])


def _caption(options: argparse.Namespace, _: list[str]) -> int:
    from beam_pipeline.run import run
    from beam_pipeline.show import notice, one_clip
    from transforms.ingest import ClipSource

    profile: Profile = load_profile(options.profile)
    status = 0
    with tempfile.TemporaryDirectory(prefix="earshot-") as folder:
        source = ClipSource.of_files(options.files)
        result = run(profile, source, folder)
        outcomes = [outcome for name in ("captions", "rejected", "failed") for outcome in result.read(name)]
        order = {os.path.abspath(file): place for place, file in enumerate(options.files)}
        for outcome in sorted(outcomes, key=lambda o: order.get(os.path.abspath(o.clip.uri), 0)):
            one_clip(outcome)
        status = _status(result.manifest["counts"])
    notice(profile.notice)
    return status


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(f"{number} is less than 0")
    return number


def _status(counts: dict[str, int]) -> int:
    """A run in which nothing but failures came out is a failed run."""
    return 1 if counts["clips_in"] and counts["failed"] == counts["clips_in"] else 0


def _quiet_libraries(verbose: bool) -> None:
    """Keeps the terminal for the user: libraries speak up only when something is wrong."""
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR)
    if not verbose:
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # what a job failed of is said once, by `main`
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")


if __name__ == "__main__":
    sys.exit(main())
