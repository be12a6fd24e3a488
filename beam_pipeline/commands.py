"""What each of the ``earshot`` command's commands does, once its arguments are known."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import wave
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from beam_pipeline import calibrate, one_clip
from beam_pipeline.config import ConfigError, Profile, load_profile
from beam_pipeline.export import command as export
from beam_pipeline.report import command as report
from beam_pipeline.review import command as review
from beam_pipeline.run import Result
from model_handlers.views import View
from transforms.ingest import ClipSource


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
    _report(result, options.no_report)
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


def whole_path(path: str) -> str:
    """A path that means the same from any folder, as records have to: what reads them may run elsewhere."""
    return path if not path or "://" in path else os.path.abspath(os.path.expanduser(path))


def _source(options: argparse.Namespace) -> ClipSource:
    return ClipSource(
        whole_path(options.clips),
        kind=options.source_format,
        media=whole_path(options.media),
        class_labels=whole_path(options.class_labels),
        limit=options.limit,
    )


def _demo(options: argparse.Namespace, _: list[str]) -> int:
    from beam_pipeline.run import run
    from beam_pipeline.show import captions_table, console, summary
    from demo.world import read_truth, write_world_shown

    profile = load_profile(options.profile)
    occasions = "speech" in profile.cues  # somebody has to speak for it
    world = Path(options.output) / f"{'occasions' if occasions else 'world'}-{options.seed}-{options.count}"
    write_world_shown(options.seed, options.count, world, occasions=occasions)
    result = run(profile, ClipSource(str(world / "clips.csv")), options.output)
    truths = {truth["clip_id"]: truth["caption"] for truth in read_truth(world)}
    captions = sorted(result.read("captions"), key=lambda caption: caption.clip.clip_id)
    console.print(captions_table(captions, "Captions", truths))
    summary(result)
    _report(result, options.no_report)
    return _status(result.manifest["counts"])


def _caption(options: argparse.Namespace, _: list[str]) -> int:
    from beam_pipeline.run import run
    from beam_pipeline.show import notice
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
            one_clip.one_clip(outcome, [pair for pair in pairs if pair.clip_id == outcome.clip.clip_id])
        status = _status(result.manifest["counts"])
    notice(profile.notices())
    return status


MOST_REPORTED = 200_000  # clips of a run that ends with a report: reading more takes minutes


def _report(result: Result, unwanted: bool) -> None:
    """Makes the page of what a run has published. A page that cannot be made costs no run."""
    from beam_pipeline.report.build import report
    from beam_pipeline.show import console, errors, plain

    if unwanted or result.unchanged:
        return
    if result.manifest["counts"]["clips_in"] > MOST_REPORTED:
        console.print(f"   report: earshot report {plain(result.root)} makes it", highlight=False, soft_wrap=True)
        return
    try:
        path = report(result.root, result.version)
    except ConfigError as error:
        errors.print(f"earshot: no report: {error}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(f"   report: {plain(path)}", highlight=False, soft_wrap=True)


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


# By name; each takes its options and, of `run` and `plan`, those that it leaves to Beam, and returns the exit status.
COMMANDS: dict[str, Callable[[argparse.Namespace, list[str]], int]] = {
    "run": _run,
    "plan": _plan,
    "demo": _demo,
    "caption": _caption,
    "models": _models,
    "diff": _diff,
    "status": _summary,
    "report": lambda options, _: report.main(options),
    "review": lambda options, _: review.main(options),
    "export": lambda options, _: export.main(options),
    "show": lambda options, _: one_clip.main(options),
    "gc": _gc,
    "calibrate": lambda options, _: calibrate.main(options),
}
