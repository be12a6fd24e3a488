"""Writes the spec of the flex template: the image, and each parameter with what it means and what it may look like.

    python deploy/dataflow/template.py --image REGION-docker.pkg.dev/…@sha256:… --output gs://bucket/templates/earshot.json

Parameters follow from the options of ``earshot run``, so they cannot drift; Dataflow refuses a launch whose values do
not match (https://cloud.google.com/dataflow/docs/guides/templates/configuring-flex-templates).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apache_beam.io.filesystems import FileSystems

if __package__ in (None, ""):  # run as a program
    sys.path.insert(0, str(Path(__file__).parents[2]))
from deploy.dataflow.launch import run_options

_IMAGE = r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+(@sha256:[0-9a-f]{64}|:[\w.-]+)"
_FILE = r"(gs://[^\s*?\[\]]+|/opt/earshot/\S+)"
# What options that take text may look like. A run elsewhere sees buckets and the image, and no other disk.
FORMS = {
    "profile": r"[a-z0-9_]+|/opt/earshot/profiles/[\w.-]+\.toml",
    "preset": r"[a-z0-9_]+|/opt/earshot/profiles/[\w.-]+\.toml",
    "models": r"gs://\S+|/opt/earshot/models",
    "clips": r"gs://\S+",
    "output": r"gs://[^\s*?\[\]]+",
    "media": r"gs://\S+",
    "class_labels": _FILE,
}
NUMBERS = {"limit": r"[1-9]\d*", "shards": r"\d+", "budget": r"\d+(\.\d+)?"}
# Of Beam's options those that differ from run to run; the rest is in the preset, or in the request that launches a job.
BEAMS = {
    "sdk_container_image": (
        _IMAGE,
        "the image that workers run, the same as the launcher's; default: what the template was written with",
    ),
    "max_num_workers": (r"[1-9]\d*", "machines at once, at most; default: the preset's"),
}


def parameters() -> list[dict[str, Any]]:
    """The template's parameters, as Dataflow's ``ParameterMetadata``."""
    own = [_parameter(name, option.help or "", _form(name, option), option.required) for name, option in _options()]
    return own + [_parameter(name, text, form, False) for name, (form, text) in BEAMS.items()]


def spec(image: str) -> dict[str, Any]:
    """The template's spec, as Dataflow's ``ContainerSpec``. Raises `ValueError` where `image` is no image's name."""
    if not re.fullmatch(_IMAGE, image):
        raise ValueError(f"--image {image}: not of the form registry/…/name@sha256:<64 digits> or …:tag")
    return {
        "image": image,
        "sdkInfo": {"language": "PYTHON"},
        "metadata": {
            "name": "Earshot",
            "description": "Turns video clips into a dataset of audio captions.",
            "parameters": parameters(),
        },
        "defaultEnvironment": {"sdkContainerImage": image},
    }


def _options() -> list[tuple[str, argparse.Action]]:
    return sorted(run_options().items(), key=lambda option: not option[1].required)


def _form(name: str, option: argparse.Action) -> str:
    if option.nargs == 0:
        return "true|false"
    if option.choices:
        return "|".join(map(re.escape, map(str, option.choices)))
    return {**FORMS, **NUMBERS}[name]


def _parameter(name: str, text: str, form: str, required: bool) -> dict[str, Any]:
    shown = text.removesuffix("; see below") or f"as --{name.replace('_', '-')} of earshot run"
    return {
        "name": name,
        "label": name.replace("_", " ").capitalize(),
        "helpText": shown[0].upper() + shown[1:] + ".",
        "isOptional": not required,
        "regexes": [f"^({form})$"],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    command = argparse.ArgumentParser(prog="python deploy/dataflow/template.py", description=__doc__.split("\n")[0])
    command.add_argument(
        "--image", required=True, help="by its digest, so that next week's launch runs what was tested"
    )
    command.add_argument("--output", required=True, help="where to, as gs://… or a path")
    given = command.parse_args(argv)
    try:
        content = json.dumps(spec(given.image), indent=2)
    except ValueError as error:
        command.error(str(error))
    with FileSystems.create(given.output, "application/json", compression_type="uncompressed") as file:
        file.write(content.encode())
    print(f"wrote {given.output}")


if __name__ == "__main__":
    main()
