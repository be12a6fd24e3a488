"""A submission to Dataflow without Google: the real runner uploads and posts the job, and what it sent is looked at."""

from __future__ import annotations

import base64
import bz2
import json
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics.monitoring_infos import extract_distribution
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import RunnerResult

from beam_pipeline.cli import main
from beam_pipeline.config import ConfigError, Profile, load_profile
from beam_pipeline.pipeline import Run, build
from beam_pipeline.run import Result, RunError, launch, run
from demo.world import make_scene, write_scenes
from model_handlers.views import Header
from tests.conftest import SEED
from tests.dataflow_service import JOB_ID, Service, dataflow, run_here
from tests.datasets import records
from tests.gcs import BUCKET
from transforms import versions
from transforms.decoder import Decoder
from transforms.ingest import ClipSource
from transforms.media import Limits

CANARY = "sk-canary-3f1d9be07a5c44e2"
SECRET = "projects/test-project/secrets/openai/versions/latest"
IMAGE = "us-central1-docker.pkg.dev/test-project/earshot/worker@sha256:" + "0" * 64
L4 = {
    common_urns.resource_hints.ACCELERATOR.urn: (
        b"type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver"
    ),
    common_urns.resource_hints.MIN_RAM_BYTES.urn: b"32000000000",
}
# The composites of the Auto-ACD set that show clips to models: one for each view that a model looks at.
WITH_GPU = {
    f"{view} cues/show"
    for view in ("frame", "audio 16000 Hz", "audio 32000 Hz", "audio 48000 Hz", "AV 256 to 224 px 25 fps 16000 Hz")
}
# Bytes of an element, at most, that crosses from one kind of worker to another. The smallest view, a frame of 320 by
# 240 pixels, takes 230,400.
SMALL = 20_000


def upload(path: str, content: bytes) -> str:
    with FileSystems.create(path, compression_type="uncompressed") as file:
        file.write(content)
    return path


def full_size() -> Profile:
    """The published set of cues, whose writer's key is in Secret Manager."""
    profile = load_profile("auto_acd")
    return replace(profile, caption={**profile.caption, "key_secret": SECRET})


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with dataflow(tmp_path_factory.mktemp("dataflow")) as service, pytest.MonkeyPatch.context() as patch:
        service.use(patch)
        patch.setenv("OPENAI_API_KEY", CANARY)
        yield service


@pytest.fixture(scope="module")
def flags(cloud: Service) -> list[str]:
    return [*cloud.flags(), f"--sdk_container_image={IMAGE}", "--no_wait_until_finish"]


@pytest.fixture(scope="module")
def listed(cloud: Service) -> ClipSource:
    text = f"clip_id,uri,start_s,end_s\na,gs://{BUCKET}/videos/a.mp4,0,10\n"
    return ClipSource(upload(f"gs://{BUCKET}/clips.csv", text.encode()))


@pytest.fixture(scope="module")
def job(cloud: Service, flags: list[str], listed: ClipSource) -> dict[str, Any]:
    """The Auto-ACD set, handed to Dataflow with the preset l4."""
    launched = launch(full_size(), listed, f"gs://{BUCKET}/auto_acd", flags, preset="l4")
    assert (launched.job, launched.version) == (JOB_ID, 1)
    return cloud.jobs[-1]


@pytest.fixture(scope="module")
def staged(cloud: Service, job: dict[str, Any]) -> beam_runner_api_pb2.Pipeline:
    return cloud.pipeline(job)


def steps(pipeline: beam_runner_api_pb2.Pipeline) -> list[beam_runner_api_pb2.PTransform]:
    """What is run; composites only hold steps."""
    return [step for step in pipeline.components.transforms.values() if not step.subtransforms]


def hints(pipeline: beam_runner_api_pb2.Pipeline, step: beam_runner_api_pb2.PTransform) -> dict[str, bytes]:
    return dict(pipeline.components.environments[step.environment_id].resource_hints) if step.environment_id else {}


def opened(contents: list[bytes]) -> bytes:
    """All of them in a row, and after them the pickles in them, which Beam compresses (bzip2, as base64)."""
    joined = b"\n".join(contents)
    pickled = re.findall(rb"QlpoO[\w+/]+={0,2}", joined)
    assert len(pickled) > 50
    return b"\n".join([joined, *(bz2.decompress(base64.b64decode(text)) for text in pickled)])


def crossings(pipeline: beam_runner_api_pb2.Pipeline) -> dict[str, tuple[str, str]]:
    """What passes from steps of some hints to steps of others: by id, which output of which step, and to which step.

    Grouping belongs to the runner and has no environment, so what goes in there or comes out does not count.
    """
    made = {out: (step, tag) for step in steps(pipeline) for tag, out in step.outputs.items()}
    found = {}
    for step in steps(pipeline):
        for taken in step.inputs.values():
            maker, tag = made[taken]
            known = maker.environment_id and step.environment_id
            if known and hints(pipeline, maker) != hints(pipeline, step):
                found[taken] = (f"{maker.unique_name}[{tag}]", step.unique_name)
    return found


def test_the_request_says_which_machines_and_which_image(job: dict[str, Any]) -> None:
    [pool] = job["environment"]["workerPools"]
    assert pool["machineType"] == "n2-standard-2"
    assert pool["diskSizeGb"] == 100
    assert pool["numThreadsPerWorker"] == 8
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 40
    assert {image["containerImage"] for image in pool["sdkHarnessContainerImages"]} == {IMAGE}
    assert job["type"] == 1  # JOB_TYPE_BATCH: right fitting is for batch jobs


def test_a_worker_runs_one_process_whose_threads_share_the_models(job: dict[str, Any]) -> None:
    environment = job["environment"]
    assert "no_use_multiple_sdk_containers" in environment["experiments"]
    assert "use_multiple_sdk_containers" not in environment["experiments"]
    assert not environment.get("serviceOptions")  # worker_accelerator would give every worker a GPU
    assert "flexResourceSchedulingGoal" not in environment


def test_there_are_exactly_two_kinds_of_workers(job: dict[str, Any], staged: beam_runner_api_pb2.Pipeline) -> None:
    used = {step.environment_id for step in staged.components.transforms.values()} - {""}
    kinds = [dict(staged.components.environments[name].resource_hints) for name in used]
    assert sorted(kinds, key=len) == [{}, L4]
    [pool] = job["environment"]["workerPools"]
    assert {image["environmentId"] for image in pool["sdkHarnessContainerImages"]} == used


def test_a_gpu_is_where_models_run_and_nowhere_else(staged: beam_runner_api_pb2.Pipeline) -> None:
    composites = {"/".join(step.unique_name.split("/")[:2]) for step in steps(staged) if hints(staged, step) == L4}
    assert composites == WITH_GPU
    for step in steps(staged):
        inside = any(step.unique_name.startswith(f"{name}/") for name in WITH_GPU)
        if step.environment_id:
            assert hints(staged, step) == (L4 if inside else {}), step.unique_name


def test_only_clip_references_go_to_the_gpus_and_only_findings_and_costs_come_back(
    staged: beam_runner_api_pb2.Pipeline,
) -> None:
    views = {name.removesuffix("/show") for name in WITH_GPU}
    there = {(f"{view}/lacking[None]", f"{view}/show/spread clips/AddRandomKeys") for view in views}
    back = {(f"{view}/show/all findings[None]", "all cues") for view in views}
    costs = {(f"{view}/show/decode/ParDo(DecodeView)[costs]", "all costs") for view in views}
    assert set(crossings(staged).values()) == there | back | costs


def test_no_secret_leaves_this_machine(cloud: Service, job: dict[str, Any]) -> None:
    private = json.loads(cloud.key_file.read_text())["private_key"].split("\n")[1]
    sent = opened([*(body for _, _, body in cloud.requests), *cloud.staged().values()])
    assert job["name"].encode() in sent
    assert SECRET.encode() in sent  # the name of the secret, so that workers can read it: so they are looked into
    assert CANARY.encode() not in sent
    assert private.encode() not in sent


def test_no_code_is_staged_because_the_image_holds_it(cloud: Service, job: dict[str, Any]) -> None:
    prefix = job["environment"]["tempStoragePrefix"].removeprefix(f"storage.googleapis.com/{BUCKET}/")
    assert {name.removeprefix(f"{prefix}/") for name in cloud.staged() if name.startswith(prefix)} == {
        "pipeline.pb",
        "submission_environment_dependencies.txt",  # what is installed where the job was built, for comparison
    }


# A few of the demo's cues, whose models are real and small, written of by a template.
SMALL_PROFILE = """
description = "a few of the demo's cues"
[cues]
labels = { handler = "dataset_labels:DatasetLabels" }
media = { handler = "media_info:MediaFacts" }
place = { handler = "place:Place", model = "pkg://demo/models/place" }
loudness = { handler = "loudness:Loudness" }
audio_tags = { handler = "audio_tags:AudioTags", model = "pkg://demo/models/audio_tags" }
[filters.silence]
below_dbfs = -60.0
[caption]
handler = "template_writer:TemplateWriter"
scene = ""
[checks]
tries = 1
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    path = tmp_path_factory.mktemp("profiles") / "small.toml"
    path.write_text(SMALL_PROFILE)
    return load_profile(str(path))


@pytest.fixture(scope="module")
def clips(cloud: Service, tmp_path_factory: pytest.TempPathFactory) -> ClipSource:
    """Four clips of the demo world, one of them silent, in the bucket."""
    world = tmp_path_factory.mktemp("world")
    write_scenes([make_scene(SEED, index, fault="silent" if index == 3 else None) for index in range(4)], world)
    lines = []
    for path in sorted((world / "clips").glob("*.mp4")):
        uri = upload(f"gs://{BUCKET}/world/{path.name}", path.read_bytes())
        lines.append(json.dumps({"clip_id": path.stem, "uri": uri, "start_s": 0, "end_s": 10}))
    return ClipSource(upload(f"gs://{BUCKET}/world.jsonl", "\n".join(lines).encode()))


@pytest.fixture(scope="module")
def ran(
    cloud: Service, flags: list[str], small: Profile, clips: ClipSource
) -> tuple[beam_runner_api_pb2.Pipeline, RunnerResult]:
    """What was staged for Dataflow, and how it went on this machine, after whoever launched it had gone."""
    launch(small, clips, f"gs://{BUCKET}/launched", flags, preset="l4")
    staged = cloud.pipeline(cloud.jobs[-1])
    return staged, run_here(staged)


def test_the_staged_job_publishes_by_itself_what_a_local_run_publishes(
    ran: object, small: Profile, clips: ClipSource
) -> None:
    root = f"gs://{BUCKET}/launched"
    assert versions.current(root) == 1
    launched = Result(root, 1, versions.manifest(root, 1), {}, 0.0)
    local = run(small, clips, f"gs://{BUCKET}/local", quiet=True)
    assert launched.manifest["counts"] == {"clips_in": 4, "captions": 3, "rejected": 1, "failed": 0}
    assert launched.manifest["digest"] == local.manifest["digest"]
    assert records(launched) == records(local)


def test_clips_are_decoded_where_beam_gives_every_new_socket_a_timeout(tmp_path: Path) -> None:
    write_scenes([make_scene(SEED, 0)], tmp_path)
    [path] = (tmp_path / "clips").glob("*.mp4")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(60)  # as apache_beam.internal.gcp.auth does with the first credentials
    try:
        with Decoder(Limits()) as decoder:
            assert decoder.submit(path, 0.0, 10.0, Header()).result().duration_s == pytest.approx(10, abs=0.1)
    finally:
        socket.setdefaulttimeout(before)


def test_what_crosses_from_workers_to_workers_is_small(
    ran: tuple[beam_runner_api_pb2.Pipeline, RunnerResult],
) -> None:
    staged, result = ran
    sizes = {
        info.labels["PCOLLECTION"]: extract_distribution(info)
        for info in result.monitoring_infos()
        if info.urn == "beam:metric:sampled_byte_size:v1"
    }
    crossing = crossings(staged)
    assert len(crossing) == 6  # there, back and costs, of two views
    for pcollection, between in crossing.items():
        assert sizes[pcollection][3] < SMALL, between
    inside = [distribution[3] for pcollection, distribution in sizes.items() if pcollection not in crossing]
    assert max(inside) > 10 * SMALL  # the views, which stay where they were decoded: the measure sees them


def test_hints_cut_no_stage_in_which_clips_are_decoded_and_shown(small: Profile, clips: ClipSource) -> None:
    def shown(step: str) -> bool:
        return "cues/show/" in step and "all findings" not in step

    together, environments = [], []
    for given in ({}, {"accelerator": "type:nvidia-l4;count:1", "min_ram": "32GB"}):
        pipeline = beam.Pipeline(runner=FnApiRunner())
        build(pipeline, Run(small, clips, "", 1, {}, gpu_hints=given))
        _, stages = FnApiRunner().create_stages(pipeline.to_runner_api())
        names = [{step.unique_name for step in stage.transforms} for stage in stages]
        together.append([stage for stage in names if any("/decode/" in name for name in stage)])
        environments.append(len({stage.environment for stage in stages} - {None}))
    assert environments == [1, 2]
    plain, hinted = ({frozenset(n for n in stage if shown(n)) for stage in some} for some in together)
    assert len(plain) == 4
    assert plain == hinted


def test_a_template_is_described_and_not_started(
    cloud: Service, flags: list[str], small: Profile, clips: ClipSource
) -> None:
    before, root = len(cloud.jobs), f"gs://{BUCKET}/template"
    described = f"gs://{BUCKET}/launcher/job.json"
    launcher = [*(flag for flag in flags if not flag.startswith("--no_wait")), f"--template_location={described}"]
    launched = launch(small, clips, root, launcher, preset="l4")
    assert len(cloud.jobs) == before
    assert (launched.job, launched.version) == ("", 1)
    staged = cloud.pipeline(json.loads(cloud.staged()["launcher/job.json"]))
    assert any(hints(staged, step) for step in steps(staged))
    assert versions.numbers(root) == [1]


def test_a_number_is_not_given_away_once_the_job_may_have_been_handed_over(
    cloud: Service, flags: list[str], small: Profile, clips: ClipSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apache_beam.utils.retry.Clock.sleep", lambda *_: None)  # half a minute, between four tries
    nowhere = [*flags, "--dataflow_endpoint=http://localhost:9"]
    with pytest.raises(RunError):
        launch(small, clips, f"gs://{BUCKET}/refused", nowhere, preset="l4")
    assert versions.claim(f"gs://{BUCKET}/refused", "next") == 2


def test_whoever_waits_sees_the_jobs_end(
    cloud: Service,
    flags: list[str],
    small: Profile,
    clips: ClipSource,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    waiting = [flag for flag in flags if not flag.startswith("--no_wait")]
    monkeypatch.setattr(cloud, "state", "JOB_STATE_FAILED")
    with pytest.raises(RunError, match=r"State: FAILED, Error: Workflow failed\.; nothing was published"):
        run(small, clips, f"gs://{BUCKET}/failed", waiting, preset="l4")
    assert f"the job {JOB_ID} is run by DataflowRunner" in capfd.readouterr().err
    assert versions.current(f"gs://{BUCKET}/failed") is None


def test_the_command_hands_over_and_says_what_comes_of_it(
    cloud: Service, flags: list[str], clips: ClipSource, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    profile = tmp_path / "small.toml"
    profile.write_text(SMALL_PROFILE)
    place = ["--clips", clips.clips, "--output", f"gs://{BUCKET}/command"]
    assert main(["run", "--profile", str(profile), *place, "--preset", "l4", *flags]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert JOB_ID in said
    assert f"publishes gs://{BUCKET}/command/versions/1" in said


@pytest.mark.parametrize(("clips_at", "output"), [("/data/clips.csv", "gs://b/out"), ("gs://b/clips.csv", "out")])
def test_what_workers_could_not_reach_is_refused(flags: list[str], small: Profile, clips_at: str, output: str) -> None:
    with pytest.raises(ConfigError, match="no disk of this machine"):
        launch(small, ClipSource(clips_at), output, flags, preset="l4")


def test_a_writer_whose_key_no_worker_would_have_is_refused(flags: list[str], listed: ClipSource) -> None:
    with pytest.raises(ConfigError, match="key_secret"):
        launch(load_profile("auto_acd"), listed, f"gs://{BUCKET}/refused", flags, preset="l4")
