"""The ``earshot`` command."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from beam_pipeline.config import ConfigError, Profile, load_profile, profile_names
from model_handlers.views import View

if TYPE_CHECKING:
    from transforms.ingest import ClipSource

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

MODELS_EPILOG = """\
examples:
  earshot models fetch --profile auto_acd --to models/
  earshot models check --profile auto_acd --models models/
  earshot models fetch --profile auto_acd --to gs://bucket/models
  earshot run --profile auto_acd --models gs://bucket/models --clips clips.csv --output gs://bucket/out
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
    placed = "the place that `earshot models fetch` filled: a folder, or gs://…; default: the network"
    plan = commands.add_parser(
        "plan",
        help="say what a run would have to do, cue by cue",
        description="Say what a run with these options would have to do: what the dataset's store knows, what is left "
        "to compute, and how long that took when it was last done. Opens no media and loads no model.",
        epilog=RUN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[shared],
        allow_abbrev=False,
    )
    for command in (run, plan):
        command.add_argument("--profile", required=True, help=profiles)
        command.add_argument("--models", default="", metavar="PLACE", help=placed)
        command.add_argument("--clips", required=True, metavar="SOURCE", help="where the clips are listed; see below")
        command.add_argument(
            "--output", required=True, metavar="DIR", help="the dataset's folder; a run adds a version"
        )
        command.add_argument("--media", default="", metavar="TEMPLATE", help="where a listed clip's file is; see below")
        command.add_argument(
            "--source-format", default="auto", choices=("auto", "media", "audioset", "vggsound", "earshot")
        )
        command.add_argument("--class-labels", default="", metavar="CSV", help="AudioSet's class_labels_indices.csv")
        command.add_argument("--limit", type=int, metavar="N", help="only the first N clips")
        command.add_argument("--retry-failed", action="store_true", help="compute again what failed for good as well")
    plan.add_argument("--json", action="store_true", help="for machines")
    run.add_argument(
        "--budget",
        type=_dollars,
        metavar="DOLLARS",
        help="what captions may cost, by the prices in the profile; what is left over waits for the next run",
    )
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
    caption.add_argument("--models", default="", metavar="PLACE", help=placed)

    diff = commands.add_parser(
        "diff",
        help="compare two versions of a dataset",
        description="Say which clips were added or removed, got another caption or ended otherwise, and why.",
        parents=[shared],
        allow_abbrev=False,
    )
    diff.add_argument("dataset", metavar="DIR", help="the dataset's folder, as given to `earshot run --output`")
    diff.add_argument("old", nargs="?", type=int, metavar="A", help="default: the version published before B")
    diff.add_argument("new", nargs="?", type=int, metavar="B", help="default: the current version")
    diff.add_argument("--examples", type=_count, default=5, metavar="N", help="clips shown of each kind (default: 5)")
    diff.add_argument("--json", action="store_true", help="for machines")

    gc = commands.add_parser(
        "gc",
        help="remove what no version of a dataset needs",
        description="Say what no version of a dataset needs, and with --apply remove it; many small files of the store "
        "are merged. A later run computes again what was removed, if it needs it.",
        parents=[shared],
        allow_abbrev=False,
    )
    gc.add_argument("dataset", metavar="DIR", help="the dataset's folder, as given to `earshot run --output`")
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

    models = commands.add_parser(
        "models",
        help="bring a profile's models to one place, and try them out",
        description="Bring the models that a profile names to one place, and try each out on one clip.",
        epilog=MODELS_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    steps = models.add_subparsers(dest="step", required=True, metavar="STEP")
    fetch = steps.add_parser(
        "fetch",
        help="download what is not there yet",
        description="Download the models of a profile. A fetch that was stopped is taken up where it was.",
        parents=[shared],
        allow_abbrev=False,
    )
    fetch.add_argument("--profile", required=True, help=profiles)
    fetch.add_argument("--to", required=True, metavar="PLACE", help="a folder, or gs://bucket/folder")
    check = steps.add_parser(
        "check",
        help="load each model and show it one clip",
        description="Load each model of a profile and show it one clip of the demo world.",
        parents=[shared],
        allow_abbrev=False,
    )
    check.add_argument("--profile", required=True, help=profiles)
    check.add_argument("--models", default="", metavar="PLACE", help=placed)
    check.add_argument("--device", default="", choices=("auto", "cpu", "cuda"), help="instead of the rows' own")
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
        if rest and options.command not in ("run", "plan"):
            raise ConfigError(f"unknown option {rest[0]}")
        commands = {
            "run": _run,
            "plan": _plan,
            "demo": _demo,
            "caption": _caption,
            "models": _models,
            "diff": _diff,
            "gc": _gc,
        }
        return commands[options.command](options, rest)
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
        kept = "; nothing of this run was published, and what it computed is kept for the next"
        errors.print(
            f"earshot: stopped{kept if options.command in ('run', 'demo') else ''}", style="red", soft_wrap=True
        )
        return 130


def _run(options: argparse.Namespace, flags: list[str]) -> int:
    from beam_pipeline.run import foresee, run
    from beam_pipeline.show import captions_table, console, plan_table, summary
    from transforms import versions

    profile, source = _profile(options), _source(options)
    own = [name.replace("_", "-") for name in vars(options)]
    if "://" not in options.output and versions.numbers(options.output):  # else nothing is known, or it takes long
        console.print(plan_table(foresee(profile, source, options.output, flags, options.retry_failed, own)))
    result = run(
        profile,
        source,
        options.output,
        flags,
        retry_failed=options.retry_failed,
        budget_dollars=options.budget,
        shards=options.shards,
        own_options=own,
    )
    first = [caption for caption, _ in zip(result.read("captions"), range(10), strict=False)]
    if first:
        console.print(captions_table(first, "The first captions"))
    summary(result)
    return _status(result.manifest["counts"])


def _plan(options: argparse.Namespace, flags: list[str]) -> int:
    from beam_pipeline.run import foresee
    from beam_pipeline.show import console, plan_table

    own = [name.replace("_", "-") for name in vars(options)]
    found = foresee(_profile(options), _source(options), options.output, flags, options.retry_failed, own)
    if options.json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        console.print(plan_table(found))
    return 0


def _source(options: argparse.Namespace) -> ClipSource:
    from transforms.ingest import ClipSource

    return ClipSource(
        options.clips,
        kind=options.source_format,
        media=options.media,
        class_labels=options.class_labels,
        limit=options.limit,
    )


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

    profile = _profile(options)
    status = 0
    with tempfile.TemporaryDirectory(prefix="earshot-") as folder:
        source = ClipSource.of_files(options.files)
        result = run(profile, source, folder)
        outcomes = [outcome for name in ("captions", "rejected", "failed") for outcome in result.read(name)]
        order = {os.path.abspath(file): place for place, file in enumerate(options.files)}
        for outcome in sorted(outcomes, key=lambda o: order.get(os.path.abspath(o.clip.uri), 0)):
            one_clip(outcome)
        status = _status(result.manifest["counts"])
    notice(profile.notices())
    return status


def _models(options: argparse.Namespace, _: list[str]) -> int:
    from beam_pipeline.models import check, checked_table, downloads_shown, fetch, fetched_table
    from beam_pipeline.show import console, errors

    if options.step == "fetch":
        with downloads_shown() as progress:
            fetched = list(fetch(load_profile(options.profile), options.to, progress))
        console.print(fetched_table(fetched, options.to))
        return _wrong({result.text: result.state for result in fetched if not result.ok})
    profile = _profile(options)
    checked = []
    with tempfile.TemporaryDirectory(prefix="earshot-") as folder:
        for result in check(profile, _ClipFiles(Path(folder)), options.device):
            checked.append(result)
            errors.print(f"{result.name}: {'ok' if result.ok else 'failed'}", style="dim", highlight=False)
    console.print(checked_table(checked))
    return _wrong({result.name: result.state for result in checked if not result.ok})


def _diff(options: argparse.Namespace, _: list[str]) -> int:
    from beam_pipeline.compare import compare, comparison_shown

    found = compare(options.dataset, options.old, options.new, options.examples)
    if options.json:
        print(json.dumps(asdict(found), indent=2))
    else:
        comparison_shown(found)
    return 0


def _gc(options: argparse.Namespace, _: list[str]) -> int:
    from beam_pipeline.collect import collect, plan, plan_shown

    todo = plan(options.dataset, options.keep, options.older_than)
    unread = collect(todo) if options.apply else []
    plan_shown(todo, applied=options.apply, unread=unread)
    return 0


def _wrong(found: dict[str, str]) -> int:
    """Prints what is wrong, a line each; returns the exit status."""
    from beam_pipeline.show import errors

    for name, what in found.items():
        line = " ".join((what if name in what else f"{name}: {what}").split())
        errors.print(f"earshot: {line}", style="red", markup=False, highlight=False, soft_wrap=True)
    return 2 if found else 0


class _ClipFiles:
    """One clip of the demo world: an MP4, and for a decoder that reads no MP4 its sound as WAV."""

    def __init__(self, folder: Path):
        from demo.world import make_scene

        self.folder, self.scene = folder, make_scene(7, 0)

    def __call__(self, view: View) -> Path:
        from demo.world import synthesise_audio, write_clip

        path = self.folder / ("clip.wav" if getattr(view, "decoder", "") == "tensorflow-io" else "clip.mp4")
        if path.exists():
            return path
        if path.suffix == ".mp4":
            write_clip(self.scene, path)
            return path
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 44_100, 0, "NONE", ""))
            file.writeframes((synthesise_audio(self.scene, 44_100).clip(-1, 1) * 32_767).astype("<i2").tobytes())
        return path


def _profile(options: argparse.Namespace) -> Profile:
    """The profile, with its models where `--models` says."""
    from beam_pipeline.models import check_place

    profile = load_profile(options.profile)
    if not options.models:
        return profile
    check_place(options.models)
    place = options.models if "://" in options.models else os.path.abspath(os.path.expanduser(options.models))
    return replace(profile, models=place)  # workers may have another current folder


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
        os.environ.setdefault("HF_HUB_VERBOSITY", "critical")
        os.environ.setdefault("TQDM_DISABLE", "1")


if __name__ == "__main__":
    sys.exit(main())
