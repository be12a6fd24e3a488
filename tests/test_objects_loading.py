"""Which folders are a Grounding DINO, and what is said of those that are not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from demo.train_objects import THINGS
from demo.world import make_scene, render_frame
from model_handlers.base import Example
from model_handlers.objects import Objects
from model_handlers.weights import ModelError, local_path

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the demo's model that a test may spoil."""
    return shutil.copytree(local_path("pkg://demo/models/objects"), tmp_path / "model")


def finder(model: Path) -> Objects:
    return Objects(name="objects", model=str(model), vocabulary=THINGS, device="cpu")


@pytest.mark.parametrize("file", ["config.json", "processor_config.json", "tokenizer.json", "model.safetensors"])
def test_folder_that_lacks_a_file_is_refused_by_name(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(ModelError, match=rf"lacks .*{file}.*save_pretrained"):
        finder(folder).load()


def test_folder_in_the_layout_of_the_hub_is_loaded(folder: Path) -> None:
    example = Example("a", render_frame(make_scene(150, 0), 5.0))
    expected = finder(folder).predict([example], finder(folder).load())
    assert expected != [()]
    # The published repositories are older than processor_config.json.
    image = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    (folder / "processor_config.json").unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(image | {"processor_class": "GroundingDinoProcessor"}))
    assert finder(folder).predict([example], finder(folder).load()) == expected


def _cut_short(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def _without_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.text_projection.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _not_json(folder: Path) -> None:
    (folder / "config.json").write_text("<html>404</html>")


def _another_architecture(folder: Path) -> None:
    AutoConfig.for_model("owlv2").save_pretrained(folder)


@pytest.mark.parametrize("spoil", [_cut_short, _without_a_tensor, _not_json, _another_architecture])
def test_model_that_is_not_whole_stops_the_run_with_a_message(folder: Path, spoil: Any) -> None:
    spoil(folder)
    with pytest.raises(ModelError, match=rf"(?s){folder}.*(get the files\s+again|save_pretrained)"):
        finder(folder).load()


def test_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    file = folder / "tokenizer.json"
    settings = json.loads(file.read_text())
    vocabulary = settings["model"]["vocab"]
    vocabulary["."], vocabulary["dog"] = vocabulary["dog"], vocabulary["."]
    file.write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="not 1012"):
        finder(folder).load()
