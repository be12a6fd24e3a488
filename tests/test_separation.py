"""Taking sound apart: the separator by itself. Networks are torchaudio's, small and random."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchaudio.models import HDemucs, hdemucs_high

from model_handlers.base import Example
from model_handlers.separation import PUBLISHED_SOURCES, Separation, Separator, chunks
from model_handlers.speech import Speech
from model_handlers.views import Audio, Stems, StemsView
from model_handlers.weights import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")

RATE = 8_000
NETWORK = {"sources": ["vocals", "rest"], "audio_channels": 2, "channels": 4, "nfft": 1024, "depth": 5}
NETWORK |= {"dconv_lstm": 5, "dconv_attn": 5, "dconv_depth": 1}


def make_separator(folder: Path, rate: int = RATE, **changes: Any) -> Path:
    """A random network in a folder, as `Separator` reads it."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    network = {**NETWORK, **changes}
    save_file({k: v.contiguous() for k, v in HDemucs(**network).state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"rate": rate, "network": network}))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_separator(tmp_path_factory.mktemp("separator"))


def row(folder: Path, **changes: Any) -> Separator:
    return Separator(name="separation", model=str(folder), device="cpu", **{"rate": RATE, **changes})


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


@pytest.mark.parametrize("seconds", [0.01, 0.4, 2.0, 10.0, 12.3, 25.0])
def test_the_two_parts_are_as_long_as_the_clip_and_add_up_to_it(folder: Path, seconds: float) -> None:
    handler = row(folder)
    clip = noise(seconds)
    (stems,) = handler.separate([clip], handler.load(), RATE)
    assert stems.vocals.shape == stems.rest.shape == clip.shape
    assert stems.vocals.dtype == np.float32
    assert np.abs(stems.vocals + stems.rest - clip).max() < 1e-5
    assert np.abs(stems.vocals).max() > 1e-3


def test_the_vocals_are_what_the_network_itself_says(folder: Path) -> None:
    handler = row(folder)
    model, clip = handler.load(), noise(2.0) + np.float32(0.2)  # its mean is taken off and put back
    wave = torch.from_numpy(clip)
    normal = (wave - wave.mean()) / wave.std(correction=0)
    with torch.inference_mode():
        sources = model.net(normal.expand(1, 2, -1))[0] * wave.std(correction=0) + wave.mean()
    (stems,) = handler.separate([clip], model, RATE)
    assert np.allclose(stems.vocals, sources[0].mean(0).numpy(), atol=1e-5)


def test_stems_have_the_rate_that_is_asked_for(folder: Path) -> None:
    handler = row(folder)
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE).astype(np.float32)
    (stems,) = handler.separate([tone], handler.load(), 16_000)
    assert stems.vocals.shape == (48_000,)
    expected = 0.1 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 16_000)
    assert np.abs((stems.vocals + stems.rest - expected)[800:-800]).max() < 1e-3


def test_clips_are_taken_apart_alike_alone_and_together(folder: Path) -> None:
    handler = row(folder)
    model = handler.load()
    clips = [noise(2.0, 0), noise(3.0, 1), 10 * noise(2.0, 2), noise(12.0, 3)]
    together = handler.separate(clips, model, 16_000)
    for clip, stems in zip(clips, together, strict=True):
        (alone,) = handler.separate([clip], model, 16_000)
        assert np.allclose(alone.vocals, stems.vocals, atol=1e-5)


def test_long_clips_are_heard_in_chunks_that_leave_no_seam(folder: Path) -> None:
    seen: list[tuple[int, ...]] = []
    handler = row(folder, chunk_s=2.0, overlap_s=0.5)
    model = handler.load()

    class Echo(torch.nn.Module):
        """Answers with what it hears, so that chunks have to add up to the clip."""

        sources, audio_channels = ("rest", "vocals"), 2

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, heard: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(heard.shape))
            return torch.stack([torch.zeros_like(heard), heard], 1)

    clip = noise(11.3)
    (stems,) = handler.separate([clip], replace(model, net=Echo()), RATE)  # type: ignore[arg-type]
    assert np.allclose(stems.vocals, clip, atol=1e-5)
    assert len(seen) == 8
    assert max(shape[2] for shape in seen) == 2 * RATE


def test_chunks_cover_a_clip_and_overlap() -> None:
    assert chunks(100, 100, 10) == [(0, 100)]
    assert chunks(5, 100, 10) == [(0, 5)]
    assert chunks(101, 100, 10) == [(0, 100), (90, 101)]
    assert chunks(190, 100, 10) == [(0, 100), (90, 190)]
    assert chunks(250, 100, 0) == [(0, 100), (100, 200), (200, 250)]


def test_silence_stays_silent(folder: Path) -> None:
    handler = row(folder)
    (stems,) = handler.separate([np.zeros(2 * RATE, np.float32)], handler.load(), RATE)
    assert np.abs(stems.vocals).max() < 1e-6
    assert np.abs(stems.rest).max() < 1e-6


def test_the_published_layout_is_read_and_pickled_classes_are_refused(tmp_path: Path) -> None:
    # As https://download.pytorch.org/torchaudio/models/hdemucs_high_trained.pt: a state dict and nothing else.
    torch.manual_seed(0)
    net = hdemucs_high(sources=list(PUBLISHED_SOURCES))
    torch.save(net.state_dict(), tmp_path / "published.pt")
    handler = Separator(name="separation", model=str(tmp_path / "published.pt"), device="cpu")
    model = handler.load()
    assert (model.rate, model.net.sources) == (44_100, ["drums", "bass", "other", "vocals"])
    clip = np.random.default_rng(0).normal(0, 0.1, 44_100).astype(np.float32)
    (stems,) = handler.separate([clip], model, 16_000)
    assert stems.vocals.shape == (16_000,)
    torch.save({"klass": HDemucs, "kwargs": {}, "state": net.state_dict()}, tmp_path / "pickled.th")
    with pytest.raises(ModelError, match=r"pickled.th.*[Ww]eights"):
        replace(handler, model=str(tmp_path / "pickled.th")).load()


def test_what_does_not_fit_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="hears 8000 Hz; set rate = 8000"):
        row(folder, rate=44_100).load()
    with pytest.raises(ModelError, match="tells drums, rest apart, but no vocals"):
        row(make_separator(tmp_path / "drums", sources=["drums", "rest"])).load()
    (tmp_path / "drums" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        row(tmp_path / "drums").load()
    with pytest.raises(ModelError, match=r"separation: .*nothing.*hdemucs_high_trained"):
        row(tmp_path / "nothing").load_model().get()


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"chunk_s": 0.5}, {"overlap_s": 6.0}, {"overlap_s": -1.0}])
def test_a_row_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"separation: "):
        row(Path("x"), **wrong)


def test_a_cue_of_a_stem_shows_its_separator_in_view_and_fingerprint(folder: Path, tmp_path: Path) -> None:
    separator = row(folder)
    whole = Speech(name="speech", model=str(folder))
    vocals = replace(whole, stem="vocals", separator=separator)
    assert whole.view == Audio(16_000)
    assert vocals.view == Stems(separator.fingerprint(), Audio(RATE), 16_000)
    assert vocals.view == replace(vocals, stem="rest").view
    other = make_separator(tmp_path / "other", channels=8)
    changed = [
        whole,
        vocals,
        replace(vocals, stem="rest"),
        replace(vocals, separator=replace(separator, chunk_s=5.0)),
        replace(vocals, separator=replace(separator, model=str(other))),
    ]
    assert len({handler.fingerprint() for handler in changed}) == len(changed)
    faster = replace(vocals, separator=replace(separator, batch_size=3, device="auto"))
    assert faster.fingerprint() == vocals.fingerprint()
    assert replace(whole, separator=separator).fingerprint() == whole.fingerprint()


def test_a_cue_of_a_stem_without_a_separator_has_no_view() -> None:
    with pytest.raises(ValueError, match="no separator"):
        _ = Speech(name="speech", model="x", stem="vocals").view


def test_a_clip_that_cannot_be_taken_apart_fails_alone(folder: Path) -> None:
    separation = Separation(separator=row(folder, batch_size=4), rates=(16_000,))
    broken = noise(1.0)
    broken[7] = np.nan
    batch = [
        (Example("good", noise(1.0), "0+1"), ("speech",)),
        (Example("broken", broken, "1+1"), ("speech", "sound")),
        (Example("empty", broken[:0], "2+1"), ("speech",)),
        (Example("other", noise(2.0), "3+1"), ("sound",)),
    ]
    found = separation.run_inference(batch, separation.load_model())
    assert [one.clip_id for one in found] == ["good", "broken", "empty", "other"]
    assert [one.subject for one in found] == ["0+1", "1+1", "2+1", "3+1"]
    assert [one.cues for one in found] == [cues for _, cues in batch]
    assert [bool(one.error) for one in found] == [False, True, True, False]
    assert "no finite numbers" in found[1].error
    assert [sorted(one.stems) for one in found] == [[16_000], [], [], [16_000]]
    assert isinstance(found[0].stems[16_000], StemsView)
    assert not any(one.retryable for one in found)


@dataclass(kw_only=True)
class Tight(Separator):
    """Has memory for two clips at a time."""

    sizes: ClassVar[list[int]] = []

    def separate_at(
        self, mixtures: Sequence[np.ndarray], model: Any, rates: Sequence[int]
    ) -> list[dict[int, StemsView]]:
        self.sizes.append(len(mixtures))
        if len(mixtures) > 2:
            raise RuntimeError("CUDA out of memory")
        return super().separate_at(mixtures, model, rates)


def test_a_batch_that_is_too_much_for_memory_is_halved(folder: Path) -> None:
    tight = Tight(name="separation", model=str(folder), device="cpu", rate=RATE, batch_size=8)
    separation = Separation(separator=tight, rates=(RATE,))
    batch = [(Example(str(n), noise(1.0, n)), ("speech",)) for n in range(8)]
    found = separation.run_inference(batch, separation.load_model())
    assert [one.error for one in found] == [""] * 8
    assert tight.sizes == [8, 4, 2, 2, 4, 2, 2]


def test_stems_at_one_rate_are_the_same_whatever_other_rates_are_wanted(folder: Path) -> None:
    handler = row(folder)
    clips, model = [noise(1.0), noise(1.5), noise(1.0, 3)], handler.load()
    several = handler.separate_at(clips, model, (RATE, 16_000, 22_050))
    for rate in (RATE, 16_000, 22_050):
        for alone, stems in zip(handler.separate(clips, model, rate), several, strict=True):
            assert np.array_equal(alone.vocals, stems[rate].vocals)
            assert np.array_equal(alone.rest, stems[rate].rest)


def test_checking_a_profiles_models_says_how_loud_the_parts_are(folder: Path) -> None:
    handler = row(folder)
    (answer,) = handler.run_inference([Example("c", noise(1.0))], handler.load_model())
    assert [item.text.split()[0] for item in answer.items] == ["vocals", "rest"]
    assert all(item.text.endswith("dBFS") for item in answer.items)
