"""The ``earshot`` command's arguments.

Beam and torch take seconds to import, so nothing here does until the command that needs them is the one that was given:
``earshot --help`` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from beam_pipeline.export import command as export
from beam_pipeline.report import command as report
from beam_pipeline.review import command as review
from beam_pipeline.shipped import shipped

DESCRIPTION = "Turn video clips into a dataset of audio captions."

RUN_EPILOG = """\
sources of clips (--clips):
  a folder or glob            every media file is one clip
  WebDataset shards           a .tar, a glob or folder of them, or 'shards-{000000..000123}.tar' (deploy/STORAGE.md)
  AudioSet's segments CSV     with --media, and --class-labels to turn mids into names
  VGGSound's CSV              with --media
  Earshot's own CSV or JSONL  columns clip_id, uri, video_id, start_s, end_s, labels, split, source

examples:
  earshot run --profile demo --clips my_videos/ --output out/
  earshot run --profile demo --clips vggsound.csv --media '/data/vgg/{video_id}_{start:06d}.mp4' --output out/
  earshot run --profile demo --clips clips.csv --output out/ \\
      --direct_num_workers=2 --direct_running_mode=multi_processing
  earshot run --profile demo --clips 'gs://bucket/shards-{000..123}.tar' --output gs://bucket/out/
  earshot run --profile auto_acd --clips gs://bucket/clips.csv --output gs://bucket/out --preset l4 \\
      --runner=DataflowRunner --project=… --region=… --temp_location=gs://bucket/tmp --sdk_container_image=…

Every other option is handed to Beam.
"""

MODELS_EPILOG = """\
examples:
  earshot models fetch --profile auto_acd --to models/
  earshot models check --profile auto_acd --models models/
  earshot models fetch --profile auto_acd --to gs://bucket/models
  earshot run --profile auto_acd --models gs://bucket/models --clips clips.csv --output gs://bucket/out
"""


PROFILE = f"a profile ({', '.join(shipped('profiles'))}) or the path of a .toml file"
PRESET = f"machines of Dataflow, and where their GPUs go: {', '.join(shipped('presets'))}, or the path of a .toml file"
PLACE = "the place that `earshot models fetch` filled: a folder, or gs://…; default: the network"
DATASET = "the dataset's folder, as given to `earshot run --output`"


def parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The command line for `argv`. `run` and `plan` leave what they do not know to Beam."""
    top = argparse.ArgumentParser(prog="earshot", description=DESCRIPTION, allow_abbrev=False)
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument("--verbose", action="store_true", help="show what Beam and the models log, and stack traces")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    given = next((word for word in argv if not word.startswith("-")), "")
    for name, (said, add) in COMMANDS.items():
        command = commands.add_parser(name, help=said, parents=[shared], allow_abbrev=False)
        if name == given:
            add(command)
    return top


def _run(run: argparse.ArgumentParser) -> None:
    run.description = "Caption a set of clips and publish captions.avro, rejected.avro, failed.avro and manifest.json."
    _job(run)
    run.add_argument(
        "--budget",
        type=_dollars,
        metavar="DOLLARS",
        help="what captions may cost, by the prices in the profile; what is left over waits for the next run",
    )
    run.add_argument("--no-report", action="store_true", help="do not make report.html at the end")
    run.add_argument("--shards", type=_count, default=1, metavar="N", help="files per dataset; 0: the runner chooses")


def _plan(plan: argparse.ArgumentParser) -> None:
    plan.description = (
        "Say what a run with these options would have to do: what the dataset's store knows, what is left to compute, "
        "and how long that took when it was last done. Opens no media and loads no model."
    )
    _job(plan)
    plan.add_argument("--json", action="store_true", help="for machines")


def _job(command: argparse.ArgumentParser) -> None:
    """What `run` and `plan` share."""
    command.epilog, command.formatter_class = RUN_EPILOG, argparse.RawDescriptionHelpFormatter
    command.add_argument("--profile", required=True, help=PROFILE)
    command.add_argument("--models", default="", metavar="PLACE", help=PLACE)
    command.add_argument("--clips", required=True, metavar="SOURCE", help="where the clips are listed; see below")
    command.add_argument("--output", required=True, metavar="DIR", help="the dataset's folder; a run adds a version")
    command.add_argument("--media", default="", metavar="TEMPLATE", help="where a listed clip's file is; see below")
    command.add_argument(
        "--source-format", default="auto", choices=("auto", "media", "shards", "audioset", "vggsound", "earshot")
    )
    command.add_argument("--class-labels", default="", metavar="CSV", help="AudioSet's class_labels_indices.csv")
    command.add_argument("--limit", type=int, metavar="N", help="only the first N clips")
    command.add_argument("--retry-failed", action="store_true", help="compute again what failed for good as well")
    command.add_argument("--preset", default="", metavar="NAME", help=PRESET)


def _demo(demo: argparse.ArgumentParser) -> None:
    demo.description = (
        "Make clips of a drawn world with known sounds, caption them, and show captions beside what was put in."
    )
    demo.add_argument("--count", type=int, default=48, metavar="N", help="how many clips (default: 48)")
    demo.add_argument("--seed", type=int, default=7, help="which world (default: 7)")
    demo.add_argument("--output", default="out/demo", metavar="DIR", help="default: out/demo")
    demo.add_argument(
        "--profile", default="demo", help="default: demo; one with a cue *speech*: clips with speech and music as well"
    )
    demo.add_argument("--no-report", action="store_true", help="do not make report.html at the end")


def _caption(caption: argparse.ArgumentParser) -> None:
    caption.description = "Caption media files and print each caption with the cues it rests on. Nothing is kept."
    caption.add_argument("files", nargs="+", metavar="FILE", help="video or audio files")
    caption.add_argument("--profile", default="demo", help=f"default: demo; {PROFILE}")
    caption.add_argument("--models", default="", metavar="PLACE", help=PLACE)


def _diff(diff: argparse.ArgumentParser) -> None:
    diff.description = "Say which clips were added or removed, got another caption or ended otherwise, and why."
    diff.add_argument("dataset", metavar="DIR", help=DATASET)
    diff.add_argument("old", nargs="?", type=int, metavar="A", help="default: the version published before B")
    diff.add_argument("new", nargs="?", type=int, metavar="B", help="default: the current version")
    diff.add_argument("--examples", type=_count, default=5, metavar="N", help="clips shown of each kind (default: 5)")
    diff.add_argument("--json", action="store_true", help="for machines")


def _status(status: argparse.ArgumentParser) -> None:
    status.description = (
        "Print the summary of a published version from its manifest alone: how many clips ended how and why, what each "
        "step took, and which run made it of what. It may be of any engine, and in a bucket."
    )
    status.add_argument("dataset", metavar="DIR", help=DATASET)
    status.add_argument("version", nargs="?", type=int, metavar="N", help="default: the current version")
    status.add_argument("--json", action="store_true", help="for machines")


def _show(show: argparse.ArgumentParser) -> None:
    show.description = (
        "Print what became of one clip: its caption, the cues it rests on with their confidences, answers that did not "
        "pass the checks, questions, and what it cost; or why it was rejected, or failed."
    )
    show.epilog = "An id that begins with a hyphen needs -- before it: earshot show out/ -- -abc_000010"
    show.add_argument("dataset", metavar="DIR", help=DATASET)
    show.add_argument("clip_id", metavar="CLIP_ID", help="as its source lists it, or as a report shows it")
    show.add_argument("version", nargs="?", type=int, metavar="N", help="default: the current version")
    show.add_argument("--json", action="store_true", help="for machines")


def _gc(gc: argparse.ArgumentParser) -> None:
    gc.description = (
        "Say what no version of a dataset needs, and with --apply remove it; many small files of the store are merged. "
        "A later run computes again what was removed, if it needs it."
    )
    gc.add_argument("dataset", metavar="DIR", help=DATASET)
    gc.add_argument(
        "--keep", type=int, metavar="N", help="only the N latest versions, and the current one; default: all"
    )
    gc.add_argument(
        "--older-than",
        type=float,
        default=7.0,
        metavar="DAYS",
        help="what is younger and in no version may belong to a run under way, and stays (default: 7)",
    )
    gc.add_argument("--apply", action="store_true", help="do it; without, nothing is changed")


def _calibrate(calibrate: argparse.ArgumentParser) -> None:
    from beam_pipeline.calibrate import add_arguments

    calibrate.description = (
        "Find the similarity of caption and sound below which captions are best dropped, by what people said of some."
    )
    add_arguments(calibrate)


def _models(models: argparse.ArgumentParser) -> None:
    models.description = "Bring the models that a profile names to one place, and try each out on one clip."
    models.epilog, models.formatter_class = MODELS_EPILOG, argparse.RawDescriptionHelpFormatter
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument("--verbose", action="store_true")
    steps = models.add_subparsers(dest="step", required=True, metavar="STEP")
    fetch = steps.add_parser(
        "fetch",
        help="download what is not there yet",
        description="Download the models of a profile. A fetch that was stopped is taken up where it was.",
        parents=[shared],
        allow_abbrev=False,
    )
    fetch.add_argument("--profile", required=True, help=PROFILE)
    fetch.add_argument("--to", required=True, metavar="PLACE", help="a folder, or gs://bucket/folder")
    check = steps.add_parser(
        "check",
        help="load each model and show it one clip",
        description="Load each model of a profile and show it one clip of the demo world.",
        parents=[shared],
        allow_abbrev=False,
    )
    check.add_argument("--profile", required=True, help=PROFILE)
    check.add_argument("--models", default="", metavar="PLACE", help=PLACE)
    check.add_argument("--device", default="", choices=("auto", "cpu", "cuda"), help="instead of the rows' own")


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(f"{number} is less than 0")
    return number


def _dollars(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError(f"{number} is no amount")
    return number


# What each command is, in the order of a dataset's life, and what adds its arguments.
COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "demo": ("make a small world of clips and caption it", _demo),
    "caption": ("caption files of your own, here and now", _caption),
    "models": ("bring a profile's models to one place, and try them out", _models),
    "plan": ("say what a run would have to do, cue by cue", _plan),
    "run": ("caption a set of clips", _run),
    "status": ("say what a version of a dataset holds", _status),
    "report": ("make one page of a dataset, to look at and listen to", report.add_arguments),
    "show": ("say all that is known of one clip", _show),
    "review": ("listen to clips and judge their captions", review.add_arguments),
    "calibrate": ("find the similarity below which captions are dropped", _calibrate),
    "export": ("write a dataset as a training reads it", export.add_arguments),
    "diff": ("compare two versions of a dataset", _diff),
    "gc": ("remove what no version of a dataset needs", _gc),
}
