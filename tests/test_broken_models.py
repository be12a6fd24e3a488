"""A model folder with something wrong in it stops a run with a message that names the cue, whatever a library says."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from beam_pipeline.config import load_profile
from model_handlers.base import CueHandler
from model_handlers.weights import ModelError, check_whole, local_path, reading

pytestmark = pytest.mark.usefixtures("one_thread")

DEMO = {handler.name: handler for handler in load_profile("demo").handlers() if handler.model}
ROWS = [pytest.param(handler, id=name) for name, handler in DEMO.items()]
# File, key, a value of the wrong type; each makes a library raise something else.
WRONG_TYPES = [
    ("objects", "config.json", "backbone_config", {"model_type": "nonsense"}),  # KeyError
    ("objects", "config.json", "d_model", "wide"),  # huggingface_hub's StrictDataclassFieldValidationError
    ("objects", "tokenizer.json", "model", 3),  # tokenizers' bare Exception
    ("image_label", "config.json", "projection_dim", "wide"),
    ("image_label", "tokenizer.json", "model", 3),
    ("image_label", "processor_config.json", "image_processor", 3),  # AttributeError
    ("image_caption", "config.json", "vision_config", 3),
    ("image_caption", "tokenizer_config.json", "eos_token", 3),  # TypeError
    ("audio_caption", "tokenizer.json", "normalizer", 3),
    ("audio_caption", "config.json", "decoder_n_layers", "two"),
    ("synchronisation", "config.json", "width", "wide"),
]


def copy_of(handler: CueHandler, folder: Path) -> CueHandler:
    """The same on a copy of its model that a test may spoil."""
    shutil.copytree(local_path(handler.model), folder)
    return replace(handler, model=str(folder))


def check_refused(handler: CueHandler) -> None:
    with pytest.raises(ModelError) as caught:
        handler.load_model().get()
    message = str(caught.value)
    assert message.startswith(f"{handler.name}: ")
    assert message.count(f"{handler.name}: ") == 1
    assert handler.model in message
    assert handler.advice
    assert message.endswith(handler.advice)


@pytest.mark.parametrize("handler", ROWS)
def test_an_empty_folder_is_refused_by_the_cues_name(handler: CueHandler, tmp_path: Path) -> None:
    check_refused(replace(handler, model=str(tmp_path)))


@pytest.mark.parametrize("handler", ROWS)
def test_weights_that_break_off_are_refused_by_the_cues_name(handler: CueHandler, tmp_path: Path) -> None:
    spoilt = copy_of(handler, tmp_path / "model")
    largest = max((tmp_path / "model").iterdir(), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    check_refused(spoilt)


@pytest.mark.parametrize(("cue", "file", "key", "value"), WRONG_TYPES)
def test_a_value_of_the_wrong_type_is_refused_by_the_cues_name(
    cue: str, file: str, key: str, value: object, tmp_path: Path
) -> None:
    spoilt = copy_of(DEMO[cue], tmp_path / "model")
    content = json.loads((tmp_path / "model" / file).read_text())
    assert key in content
    (tmp_path / "model" / file).write_text(json.dumps(content | {key: value}))
    check_refused(spoilt)


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), Exception("x")], ids=repr)
def test_whatever_a_library_raises_over_a_file_says_which_file(error: Exception, tmp_path: Path) -> None:
    expected = f"BLIP-2 cannot be loaded from {tmp_path}.*{type(error).__name__}"
    with pytest.raises(ModelError, match=expected), reading(tmp_path, "BLIP-2"):
        raise error


def test_want_of_memory_is_not_blamed_on_the_files(tmp_path: Path) -> None:
    with pytest.raises(MemoryError), reading(tmp_path, "BLIP-2"):
        raise MemoryError


def test_missing_weights_are_named(tmp_path: Path) -> None:
    check_whole({"missing_keys": set()}, tmp_path, "BLIP-2")
    with pytest.raises(ModelError, match=r"not a whole BLIP-2 \(missing: head.weight\)"):
        check_whole({"missing_keys": {"head.weight"}}, tmp_path, "BLIP-2")
