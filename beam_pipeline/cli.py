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
from typing import TYPE_CHECKING, Any

from beam_pipeline import calibrate, one_clip
from beam_pipeline.arguments import parser
from beam_pipeline.config import ConfigError, Profile, load_profile
from model_handlers.views import View

if TYPE_CHECKING:
    from transforms.ingest import ClipSource


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
            "status": _summary,
            "show": lambda options, _: one_clip.main(options),
            "gc": _gc,
            "calibrate": lambda options, _: calibrate.main(options),
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
    except KeyboardInterrupt as stopped:
        kept = str(stopped) or "; nothing of this run was published, and what it computed is kept for the next"
        errors.print(
            f"earshot: stopped{kept if options.command in ('run', 'demo') else ''}", style="red", soft_wrap=True
        )
        return 130


def _run(options: argparse.Namespace, flags: list[str]) -> int:
    from beam_pipeline.options import beam_options, is_awaited
    from beam_pipeline.run import foresee, launch, run
    from beam_pipeline.show import captions_table, console, handed_over, plan_table, summary
    from transforms import versions

    profile, source = _profile(options), _source(options)
    own = [name.replace("_", "-") for name in vars(options)]
    if "://" not in options.output and versions.numbers(options.output):  # else nothing is known, or it takes long
        found = foresee(profile, source, options.output, flags, options.retry_failed, own, options.preset)
        console.print(plan_table(found))
    given: dict[str, Any] = {
        "retry_failed": options.retry_failed,
        "budget_dollars": options.budget,
        "shards": options.shards,
        "own_options": own,
        "preset": options.preset,
    }
    if not is_awaited(beam_options(flags, own)):
        handed_over(launch(profile, source, options.output, flags, **given))
        return 0
    result = run(profile, source, options.output, flags, **given)
    first = [caption for caption, _ in zip(result.read("captions"), range(10), strict=False)]
    if first:
        console.print(captions_table(first, "The first captions"))
    summary(result)
    return _status(result.manifest["counts"])


def _plan(options: argparse.Namespace, flags: list[str]) -> int:
    from beam_pipeline.run import foresee
    from beam_pipeline.show import console, plan_table

    own = [name.replace("_", "-") for name in vars(options)]
    found = foresee(
        _profile(options), _source(options), options.output, flags, options.retry_failed, own, options.preset
    )
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

    profile = load_profile(options.profile)
    occasions = "speech" in profile.cues  # somebody has to speak for it
    world = Path(options.output) / f"{'occasions' if occasions else 'world'}-{options.seed}-{options.count}"
    write_world_shown(options.seed, options.count, world, occasions=occasions)
    result = run(profile, ClipSource(str(world / "clips.csv")), options.output)
    truths = {truth["clip_id"]: truth["caption"] for truth in read_truth(world)}
    captions = sorted(result.read("captions"), key=lambda caption: caption.clip.clip_id)
    console.print(captions_table(captions, "Captions", truths))
    summary(result)
    return _status(result.manifest["counts"])


def _caption(options: argparse.Namespace, _: list[str]) -> int:
    from beam_pipeline.one_clip import one_clip as shown
    from beam_pipeline.run import run
    from beam_pipeline.show import notice
    from transforms.ingest import ClipSource
    from transforms.publish import QA

    profile = _profile(options)
    status = 0
    with tempfile.TemporaryDirectory(prefix="earshot-") as folder:
        source = ClipSource.of_files(options.files)
        result = run(profile, source, folder)
        outcomes = [outcome for name in ("captions", "rejected", "failed") for outcome in result.read(name)]
        pairs = list(result.read(QA)) if QA in result.manifest["files"] else []
        order = {os.path.abspath(file): place for place, file in enumerate(options.files)}
        for outcome in sorted(outcomes, key=lambda o: order.get(os.path.abspath(o.clip.uri), 0)):
            shown(outcome, [pair for pair in pairs if pair.clip_id == outcome.clip.clip_id])
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


def _summary(options: argparse.Namespace, _: list[str]) -> int:
    from beam_pipeline.status import status, status_shown

    found = status(options.dataset, options.version)
    if options.json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        status_shown(found)
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
