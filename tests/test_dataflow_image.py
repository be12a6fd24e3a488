"""The image of Dataflow's workers and the flex template, as far as they can be checked without building them."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.cloud import dataflow
from google.protobuf.json_format import ParseDict

from beam_pipeline.arguments import parser
from beam_pipeline.options import beam_options
from deploy.dataflow.launch import arguments, run_options
from deploy.dataflow.template import BEAMS, FORMS, NUMBERS, parameters, spec

ROOT = Path(__file__).parent.parent
IMAGE = "us-central1-docker.pkg.dev/my-lab/earshot/worker@sha256:" + "0123456789abcdef" * 4
DOCKERFILE = (ROOT / "deploy/dataflow/Dockerfile").read_text(encoding="utf-8")


def argument(name: str) -> str:
    """What a build argument is by default."""
    [value] = re.findall(rf"^ARG {name}=(.*)$", DOCKERFILE, re.MULTILINE)
    return value


def locked(package: str) -> str:
    [version] = re.findall(rf"^{package}==([^ \\]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    return version


def test_the_image_has_the_python_and_the_beam_of_whoever_launches() -> None:
    assert argument("PYTHON") == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert argument("BEAM") == importlib.metadata.version("apache-beam") == locked("apache-beam")
    assert "FROM apache/beam_python${PYTHON}_sdk:${BEAM} AS beam" in DOCKERFILE
    assert "COPY --from=beam /opt/apache/beam /opt/apache/beam" in DOCKERFILE
    assert DOCKERFILE.rstrip().endswith('ENTRYPOINT ["/opt/apache/beam/boot"]')
    assert f"python{argument('PYTHON').replace('.', '')}-template-launcher-base" in DOCKERFILE


def test_the_base_is_of_the_cuda_that_torch_was_built_with() -> None:
    assert argument("CUDA") == locked("cuda-toolkit")
    assert "FROM nvcr.io/nvidia/cuda:${CUDA}-base-" in DOCKERFILE


def test_packages_are_the_locked_ones_with_their_hashes() -> None:
    [uv] = re.findall(r"uv==([\d.]+)", DOCKERFILE)
    assert f"uv=={uv}" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "--require-hashes" in DOCKERFILE
    for package in ("apache-beam", "av", "torch", "torchaudio", "torchvision", "transformers"):
        assert importlib.metadata.version(package).split("+")[0] == locked(package)
    # What Dataflow's workers need beside: Beam's extra gcp, and the secret with the key.
    for package in ("google-cloud-storage", "google-cloud-secret-manager", "google-cloud-dataflow-client"):
        assert locked(package)


def test_what_is_copied_is_there_and_goes_to_the_builder() -> None:
    sent = (ROOT / "deploy/dataflow/Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    named = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = [source.replace("${PROFILES}", argument("PROFILES")) for line in named for source in line.split()]
    assert len(sources) > 8
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(f"!{part}" in sent for part in (source, "deploy/dataflow")), source
    assert "!out" not in sent  # nor anything else that is large or private


def test_what_the_template_runs_is_in_the_image() -> None:
    [launcher] = re.findall(r"FLEX_TEMPLATE_PYTHON_PY_FILE=(\S+)", DOCKERFILE)
    assert launcher == "/opt/earshot/launch.py"
    assert "COPY deploy/dataflow/launch.py launch.py" in DOCKERFILE
    assert "WORKDIR /opt/earshot" in DOCKERFILE


def test_every_option_of_a_run_is_a_parameter_with_a_form() -> None:
    texts = {name for name, option in run_options().items() if option.nargs != 0 and not option.choices}
    assert texts == {*FORMS, *NUMBERS}
    assert [parameter["name"] for parameter in parameters()[:3]] == ["profile", "clips", "output"]
    assert {parameter["name"] for parameter in parameters()} == {*run_options(), *BEAMS}
    assert {parameter["name"] for parameter in parameters() if not parameter["isOptional"]} == {
        "profile",
        "clips",
        "output",
    }
    for parameter in parameters():
        assert re.fullmatch(r"[a-z][a-z_]*", parameter["name"])
        assert len(parameter["helpText"]) > 15
        assert len(parameter["regexes"]) == 1


# name → what may be given for it, and what may not
VALUES = {
    "profile": (
        ["auto_acd", "/opt/earshot/profiles/mine.toml"],
        ["mine.toml", "../x.toml", "", "auto acd", "gs://b/p.toml"],
    ),
    "preset": (["l4", "/opt/earshot/profiles/big.toml"], ["L4!", "l4 t4"]),
    "clips": (["gs://b/clips.csv", "gs://b/*.mp4"], ["clips.csv", "/data/clips.csv", "gs://"]),
    "output": (["gs://b/out"], ["out", "gs://b/*"]),
    "media": (["gs://b/{video_id}_{start:06d}.mp4"], ["/data/{video_id}.mp4"]),
    "models": (["gs://b/models", "/opt/earshot/models"], ["models", "/root/models"]),
    "class_labels": (["gs://b/labels.csv"], ["labels.csv"]),
    "source_format": (["auto", "audioset"], ["csv", "autoo"]),
    "limit": (["1", "500"], ["0", "-1", "many"]),
    "shards": (["0", "16"], ["-1", "1.5"]),
    "budget": (["25", "0.5"], ["$5", "-1", "1e9"]),
    "retry_failed": (["true", "false"], ["yes", ""]),
    "sdk_container_image": ([IMAGE, "gcr.io/p/earshot:1.0"], ["earshot", "gcr.io/p/earshot", "gcr.io/p/e@sha256:0"]),
    "max_num_workers": (["40"], ["0", "a"]),
}


def test_forms_take_what_the_command_takes_and_nothing_else() -> None:
    forms = {parameter["name"]: parameter["regexes"][0] for parameter in parameters()}
    assert set(VALUES) <= set(forms)
    for name, (good, bad) in VALUES.items():
        assert [value for value in good if not re.search(forms[name], value)] == [], name
        assert [value for value in bad if re.search(forms[name], value)] == [], name


def test_parameters_become_the_command_that_a_person_would_type() -> None:
    given = ["--profile=auto_acd", "--clips=gs://b/c.csv", "--output=gs://b/out", "--source_format=earshot"]
    rest = ["--preset=l4", "--retry_failed=true", f"--sdk_container_image={IMAGE}", "--template_location=gs://b/t.json"]
    command = arguments([*given, *rest, "--project=p", "--region=r", "--temp_location=gs://b/t"])
    options, flags = parser(command).parse_known_args(command)
    assert (options.command, options.profile, options.source_format) == ("run", "auto_acd", "earshot")
    assert (options.preset, options.retry_failed, options.verbose) == ("l4", True, True)
    known: dict[str, Any] = beam_options(flags).get_all_options()
    assert (known["runner"], known["sdk_container_image"]) == ("DataflowRunner", IMAGE)
    assert known["template_location"] == "gs://b/t.json"
    assert "--retry-failed" not in arguments([*given, "--retry_failed=false"])
    with pytest.raises(ValueError, match="retry_failed is 'yes'"):
        arguments([*given, "--retry_failed=yes"])


def test_the_spec_is_what_dataflow_reads() -> None:
    read = dataflow.ContainerSpec()
    ParseDict(spec(IMAGE), read._pb)  # refuses what it does not know
    assert read.image == read.default_environment.sdk_container_image == IMAGE
    assert read.sdk_info.language == dataflow.SDKInfo.Language.PYTHON
    assert len(read.metadata.parameters) == len(parameters())
    assert all(parameter.regexes for parameter in read.metadata.parameters)


def test_the_command_writes_the_spec_and_refuses_what_is_no_image(tmp_path: Path) -> None:
    program = [sys.executable, str(ROOT / "deploy/dataflow/template.py"), "--output", str(tmp_path / "spec.json")]
    subprocess.run([*program, "--image", IMAGE], check=True, capture_output=True)
    assert json.loads((tmp_path / "spec.json").read_text()) == spec(IMAGE)
    refused = subprocess.run([*program, "--image", "earshot"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "no form" in refused.stderr or "not of the form" in refused.stderr
