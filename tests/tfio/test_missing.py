"""Without tensorflow-io its decoder stops the run, for no clip is to blame; everything else works as ever."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from beam_pipeline.config import ConfigError, load_profile
from beam_pipeline.run import RunError, run
from model_handlers.views import Audio
from tests.media_files import write_clip
from transforms.decoder import Decoder
from transforms.ingest import ClipSource
from transforms.media import Limits
from transforms.tfio_audio import DecoderMissing

PROFILE = """
description = "Loudness alone."
[cues]
loudness = { handler = "loudness:Loudness", decoder = "%s" }
[caption]
handler = "template_writer:TemplateWriter"
tags = "loudness"
scene = ""
"""


@pytest.fixture
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where there is a module of that name that cannot be imported, ahead of the installed one if there is one."""
    (tmp_path / "tensorflow_io.py").write_text("raise ModuleNotFoundError(\"No module named 'tensorflow_io'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return write_clip(tmp_path / "clip.wav")


def profile(folder: Path, decoder: str) -> str:
    path = folder / "loudness.toml"
    path.write_text(PROFILE % decoder)
    return str(path)


def test_the_decoder_says_which_extra_to_install_and_goes_on_with_other_views(without: Path) -> None:
    with Decoder() as decoder:
        for _ in range(2):
            with pytest.raises(DecoderMissing, match=r"earshot-captions\[tfio\]"):
                decoder.submit(without, 0.0, None, Audio(16_000, "tensorflow-io")).result()
        assert isinstance(decoder.submit(without, 0.0, None, Audio(16_000)).result(), np.ndarray)
        assert len(decoder.pids()) == 1


def test_a_run_stops_and_publishes_nothing(without: Path, tmp_path: Path) -> None:
    limits = Limits(timeout_s=59.0)  # no other test's: children that were started with TensorFlow at hand are shared
    with pytest.raises(RunError) as caught:
        run(
            load_profile(profile(tmp_path, "tensorflow-io")),
            ClipSource(str(without)),
            str(tmp_path / "out"),
            limits=limits,
            quiet=True,
        )
    assert "tensorflow-io" in str(caught.value)
    assert "earshot-captions[tfio]" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert not list((tmp_path / "out").rglob("manifest.json"))


def test_a_decoder_that_there_is_not_is_an_error_of_the_profile(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'pyav' or 'tensorflow-io'"):
        load_profile(profile(tmp_path, "ffmpeg"))
