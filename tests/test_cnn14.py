"""Our Cnn14 against the published code, on identical random weights."""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path
from types import ModuleType

import librosa
import numpy as np
import pytest
import torch

from model_handlers.nets.cnn14 import Cnn14, load_cnn14, mel_bands
from model_handlers.weights import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")

KERNEL = "spectrogram_extractor.stft.conv_imag.weight"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """panns_inference's models; on import the package reads its labels in HOME, and would download them."""
    home = tmp_path_factory.mktemp("home")
    (home / "panns_data").mkdir()
    (home / "panns_data" / "class_labels_indices.csv").write_text("index,mid,display_name\n0,/m/09x0r,Speech\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        return importlib.import_module("panns_inference.models")


@pytest.fixture(scope="module")
def published(reference: ModuleType) -> torch.nn.Module:
    """The published module at its full size, with random weights and random running statistics."""
    with pytest.MonkeyPatch.context() as patch:  # its own initialisation takes 17 s
        patch.setattr(reference, "init_layer", lambda layer: None)
        patch.setattr(torch.nn.Conv2d, "reset_parameters", lambda layer: None)
        patch.setattr(torch.nn.Linear, "reset_parameters", lambda layer: None)
        model = reference.Cnn14(32000, 1024, 320, 64, 50, 14000, 527).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                torch.nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            if isinstance(module, torch.nn.Linear):
                module.bias.normal_(0, 0.1)
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
        model.bn0.running_mean.fill_(-40)
        model.bn0.running_var.fill_(200)
        model.fc_audioset.weight.mul_(0.3)  # probabilities far from 0 and 1
    return model


@pytest.fixture(scope="module")
def checkpoint(published: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "Cnn14_mAP=0.431.pth"
    torch.save({"iteration": 600_000, "model": published.state_dict()}, path)
    return path


def noise(samples: int, clips: int = 2) -> torch.Tensor:
    envelope = torch.rand(clips, 1, generator=torch.Generator().manual_seed(1))
    return envelope * torch.randn(clips, samples, generator=torch.Generator().manual_seed(samples)).clamp(-1, 1)


def small(**sizes: int) -> Cnn14:
    torch.manual_seed(3)
    return Cnn14(classes=5, width=2, **sizes).eval()


def save(path: Path, state: dict[str, torch.Tensor], **more: object) -> Path:
    torch.save({"model": state, **more}, path)
    return path


def test_a_published_checkpoint_gives_the_published_answers(published: torch.nn.Module, checkpoint: Path) -> None:
    ours = load_cnn14(checkpoint)
    with torch.inference_mode():
        for samples in (9_920, 32_000, 47_777):
            audio = noise(samples)
            theirs = published(audio)["clipwise_output"]
            assert theirs.std() > 1e-3, "a saturated reference would prove nothing"
            torch.testing.assert_close(ours(audio), theirs, atol=1e-4, rtol=0)


def test_the_spectrum_is_that_of_the_published_front_end(published: torch.nn.Module) -> None:
    audio = noise(20_000)
    with torch.inference_mode():
        theirs = published.logmel_extractor(published.spectrogram_extractor(audio))
        torch.testing.assert_close(Cnn14(width=1).logmel_extractor(audio), theirs, atol=2e-3, rtol=0)


def test_mel_bands_are_librosas() -> None:
    for rate, window, mels, fmin, fmax in ((32_000, 1024, 64, 50, 14_000), (16_000, 512, 40, 0, 8_000)):
        theirs = librosa.filters.mel(sr=rate, n_fft=window, n_mels=mels, fmin=fmin, fmax=fmax).T
        np.testing.assert_allclose(mel_bands(rate, window, mels, fmin, fmax), theirs, atol=1e-7)


def test_one_module_serves_every_width_and_reads_it_from_the_file(tmp_path: Path) -> None:
    model = small()
    with torch.inference_mode():
        loaded = load_cnn14(save(tmp_path / "small.pth", model.state_dict()))
        assert loaded.fc1.in_features == 64
        assert torch.equal(loaded(noise(32_000)), model(noise(32_000)))


def test_the_mel_bands_of_the_checkpoint_are_used(tmp_path: Path) -> None:
    state = small().state_dict()
    state["logmel_extractor.melW"] = state["logmel_extractor.melW"] * 2
    loaded = load_cnn14(save(tmp_path / "loud.pth", state))
    with torch.inference_mode():
        louder = loaded.logmel_extractor(noise(32_000)) - small().logmel_extractor(noise(32_000))
    torch.testing.assert_close(louder, torch.full_like(louder, 3.0103), atol=1e-3, rtol=0)


@pytest.mark.parametrize("samples", [1, 320, 513, 9_919])
def test_short_clips_are_padded_with_silence(samples: int) -> None:
    model, audio = small(), noise(samples)
    padded = torch.nn.functional.pad(audio, (0, 9_920 - samples))
    with torch.inference_mode():
        assert torch.equal(model(audio), model(padded))


def test_a_clip_without_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no audio samples"):
        small()(torch.zeros(1, 0))


def test_numpy_counters_beside_the_weights_do_not_hinder(tmp_path: Path) -> None:
    state = small().state_dict()
    path = save(
        tmp_path / "counted.pth", state, iteration=np.int64(7), sampler={"queue": np.arange(3), "at": np.float64(1)}
    )
    assert load_cnn14(path).fc_audioset.out_features == 5


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    path = save(tmp_path / "code.pth", small().state_dict(), iteration=Malicious())
    with pytest.raises(ModelError, match="cannot be read"):
        load_cnn14(path)
    assert not (tmp_path / "ran").exists()


def test_a_state_that_does_not_fit_is_told_by_its_names(tmp_path: Path) -> None:
    state = small().state_dict()
    del state["bn0.bias"]
    state["att_block.att.weight"] = torch.zeros(1)
    state["fc1.bias"] = torch.zeros(3)
    with pytest.raises(ModelError, match=r"missing bn0\.bias, unexpected att_block\.att\.weight, fc1\.bias is \(3,\)"):
        load_cnn14(save(tmp_path / "other.pth", state))


def test_the_16_khz_variant_is_refused(tmp_path: Path) -> None:
    state = small(window=512, hop=160, rate=16_000).state_dict()
    with pytest.raises(ModelError, match=r"not the Cnn14 for 32 kHz: logmel_extractor\.melW is \(257, 64\)"):
        load_cnn14(save(tmp_path / "16k.pth", state))


def test_another_analysis_window_is_refused(tmp_path: Path, published: torch.nn.Module) -> None:
    kernel = published.state_dict()[KERNEL]
    good = save(tmp_path / "good.pth", {**small().state_dict(), KERNEL: kernel})
    assert load_cnn14(good).fc_audioset.out_features == 5
    bad = save(tmp_path / "bad.pth", {**small().state_dict(), KERNEL: kernel * 1.01})
    with pytest.raises(ModelError, match=r"conv_imag\.weight is not the DFT under a Hann window of 1024"):
        load_cnn14(bad)


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", pickle.dumps({"model": {}}, protocol=2), b"PK\x03\x04 cut off"]
)
def test_a_broken_download_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "Cnn14_mAP=0.431.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="Cnn14_mAP"):
        load_cnn14(path)


def test_a_bare_state_dict_is_told(tmp_path: Path) -> None:
    torch.save(small().state_dict(), tmp_path / "bare.pth")
    with pytest.raises(ModelError, match="under the key 'model'"):
        load_cnn14(tmp_path / "bare.pth")
