import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchaudio.transforms import MelSpectrogram

from model_handlers.nets.spectrogram_transformer import log_mel
from model_handlers.nets.synchformer import Synchformer, SynchformerConfig, load_synchformer, windows
from model_handlers.weights import ModelError

# Names and shapes of the official class (v-iashin/Synchformer, configs/sync.yaml), with the two it never uses.
OFFICIAL = {
    name: tuple(shape)
    for name, shape in json.loads((Path(__file__).parent / "data" / "synchformer_keys.json").read_text()).items()
}
UNUSED = {"vfeat_extractor.patch_embed.proj.weight", "vfeat_extractor.patch_embed.proj.bias"}
SMALL = SynchformerConfig(
    crop=32,
    video_patch=(8, 16, 16),
    mels=32,
    audio_patch=(16, 32),
    audio_stride=(16, 32),
    width=16,
    heads=2,
    video_depth=1,
    audio_depth=1,
    fusion_width=16,
    fusion_heads=2,
    fusion_depth=1,
)


def shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def write_small(folder: Path, state: dict) -> Path:
    torch.save(state, folder / "small.pt")
    (folder / "config.json").write_text(json.dumps(asdict(SMALL)))
    return folder


def test_published_size_has_exactly_the_official_tensors() -> None:
    with torch.device("meta"):
        model = Synchformer(SynchformerConfig())
    assert shapes(model) == {name: shape for name, shape in OFFICIAL.items() if name not in UNUSED}
    assert len(OFFICIAL) == 513
    assert sum(int(np.prod(shape)) for shape in OFFICIAL.values()) == 237_460_245


def test_state_dict_of_the_official_layout_loads_strictly() -> None:
    state = {name: torch.empty(shape, device="meta") for name, shape in OFFICIAL.items() if name not in UNUSED}
    with torch.device("meta"):
        model = Synchformer(SynchformerConfig())
    model.load_state_dict(state, assign=True)
    with pytest.raises(RuntimeError, match="off_head"):
        model.load_state_dict({name: t for name, t in state.items() if "off_head" not in name}, assign=True)


@pytest.mark.parametrize("wrapped", [True, False])
def test_checkpoint_loads_bare_or_under_model_and_without_its_unused_tensors(tmp_path: Path, wrapped: bool) -> None:
    torch.manual_seed(0)
    original = Synchformer(SMALL).eval()
    state = dict(original.state_dict()) | {name: torch.zeros(1) for name in UNUSED}
    loaded = load_synchformer(write_small(tmp_path, {"model": state} if wrapped else state))
    frames = torch.randint(0, 256, (1, 14, 16, 32, 32, 3), dtype=torch.uint8)
    audio = torch.rand(1, 14, 10_240) - 0.5
    with torch.inference_mode():
        assert torch.equal(loaded(frames, audio), original(frames, audio))


def test_checkpoint_of_another_size_is_a_model_error(tmp_path: Path) -> None:
    state = Synchformer(replace(SMALL, fusion_depth=2)).state_dict()
    with pytest.raises(ModelError, match=r"config\.json"):
        load_synchformer(write_small(tmp_path, dict(state)))


def test_checkpoint_that_holds_more_than_tensors_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not loaded"):
        load_synchformer(write_small(tmp_path, {"model": {}, "args": Path("x")}))


def test_folder_without_one_checkpoint_and_unknown_sizes_are_model_errors(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"0 \.pt or \.pth files"):
        load_synchformer(tmp_path)
    write_small(tmp_path, {}).joinpath("config.json").write_text('{"wdith": 3}')
    with pytest.raises(ModelError, match="wdith"):
        load_synchformer(tmp_path)
    (tmp_path / "small.pt").write_bytes(b"<html>not found</html>")
    with pytest.raises(ModelError):
        load_synchformer(tmp_path)


def test_segments_are_read_one_by_one_and_features_do_not_depend_on_neighbours() -> None:
    torch.manual_seed(0)
    model = Synchformer(SMALL).eval()
    frames = torch.randint(0, 256, (40, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        together = model.video_features(windows(frames, [0, 8, 24], 16))
        alone = model.video_features(windows(frames, [8], 16))
    assert together.shape == (3, 2, 16)
    torch.testing.assert_close(together[1:2], alone)
    with pytest.raises(ValueError, match="does not fit"):
        windows(frames, [25], 16)


def test_patch_projection_equals_the_convolution_whose_weights_it_has() -> None:
    torch.manual_seed(0)
    embedding = Synchformer(SMALL).vfeat_extractor.patch_embed_3d
    video = torch.rand(2, 3, 16, 32, 32)
    expected = embedding.proj(video).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embedding(video), expected, atol=1e-5, rtol=1e-5)


def test_log_mel_of_a_tone_and_of_silence() -> None:
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(10_240) / 16_000)
    mels = log_mel(torch.stack([tone, torch.zeros(10_240)]), 128, 66)
    assert mels.shape == (2, 66, 128)
    # Silence is log(1e-6), and the 66th step is a log-mel of 0, both normalised with AudioSet's mean and deviation.
    assert mels[1, 0, 0].item() == pytest.approx((np.log(1e-6) + 4.2677393) / (2 * 4.5689974), abs=1e-6)
    assert mels[:, 65].unique().tolist() == pytest.approx([4.2677393 / (2 * 4.5689974)])
    # 1 kHz lies at 1000.0 HTK mels of 2840.0; there are 129 steps of 22.0 from band edge to band edge.
    assert mels[0, 30].argmax().item() == round(1000.0 / (2840.0 / 129)) - 1


def test_log_mel_equals_torchaudio() -> None:
    audio = torch.rand(3, 10_240, generator=torch.Generator().manual_seed(0)) * 2 - 1
    reference = MelSpectrogram(sample_rate=16_000, n_fft=1024, win_length=400, hop_length=160, n_mels=128)
    expected = (torch.log(reference(audio) + 1e-6) + 4.2677393) / (2 * 4.5689974)
    torch.testing.assert_close(log_mel(audio, 128, 66)[:, :65], expected.transpose(1, 2), atol=1e-4, rtol=0)
