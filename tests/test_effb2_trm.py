"""Our EffB2-Trm against the parts that the published one is made of, on identical random weights.

The published class (`captioning/models/hf_wrapper.py` of wsntxxn/AudioCaption) is not to be installed; what it is built
from is: torchaudio's spectrogram, `efficientnet_pytorch`, torch's Transformer. The list of keys is that class's.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from efficientnet_pytorch import EfficientNet, utils
from torch.nn.functional import linear

from model_handlers.nets.effb2_trm import (
    DOWNSAMPLING,
    END,
    RATE,
    START,
    UNUSED,
    EffB2Trm,
    EffB2TrmConfig,
    load_effb2_trm,
    log_mel,
)
from model_handlers.weights import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")

OFFICIAL = {
    name: tuple(shape)
    for name, shape in json.loads((Path(__file__).parent / "data" / "effb2_trm_keys.json").read_text()).items()
}
SMALL = EffB2TrmConfig(vocab_size=7, decoder_emb_dim=16, decoder_n_layers=1, width_coefficient=0.1)


def noise(seconds: float, clips: int = 1) -> torch.Tensor:
    samples = int(RATE * seconds)
    return 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(samples))


def small(seed: int = 0) -> EffB2Trm:
    """A small model that is less undecided than fresh weights are."""
    torch.manual_seed(seed)
    model = EffB2Trm(SMALL).eval()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            if parameter.dim() > 1 and parameter.requires_grad:
                parameter.normal_(0, 1.5 * parameter.shape[-1] ** -0.5)
    return model


def write(folder: Path, config: EffB2TrmConfig, state: dict[str, torch.Tensor]) -> Path:
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(asdict(config)))
    return folder


def published(model: EffB2Trm) -> dict[str, torch.Tensor]:
    """A state dict as the published file has it, with what only its training needed."""
    state = {f"model.model.{name}": tensor for name, tensor in model.state_dict().items()}
    return state | {name: torch.zeros(1) for name in OFFICIAL if name.startswith(UNUSED)}


@pytest.fixture(scope="module")
def reference() -> EfficientNet:
    """EfficientNet-B2 for one channel, as the published encoder has it, with random weights and statistics."""
    blocks, sizes = utils.get_model_params("efficientnet-b2", {"include_top": False})
    torch.manual_seed(0)
    net = EfficientNet(blocks_args=blocks, global_params=sizes)
    net._change_in_channels(1)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net.eval()


@pytest.mark.parametrize("seconds", [0.5, 3.3, 10.0])
def test_the_encoder_hears_what_the_published_one_hears(reference: EfficientNet, seconds: float) -> None:
    model = EffB2Trm(EffB2TrmConfig(decoder_emb_dim=64)).eval()
    missing, unexpected = model.encoder.backbone["eff_net"].load_state_dict(reference.state_dict(), strict=True)
    assert not missing
    assert not unexpected
    audio = noise(seconds)
    to_mel = torchaudio.transforms.MelSpectrogram(RATE, n_fft=512, win_length=512, hop_length=160, f_min=0, n_mels=64)
    mel = torchaudio.transforms.AmplitudeToDB(top_db=120)(to_mel(audio))
    with torch.inference_mode():
        theirs = reference.extract_features(mel[:, None]).mean(2).transpose(1, 2)
        theirs = theirs[:, : max(1, (audio.shape[1] // 160 + 1) // DOWNSAMPLING)]
        ours = model.encoder(log_mel(audio))
    assert theirs.std() > 1e-3
    torch.testing.assert_close(ours, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=0)


def test_the_spectrum_is_torchaudios_in_decibels() -> None:
    audio = noise(1.0)
    audio[:, 8000:] = 0  # silence: held at 120 dB below the loudest
    to_mel = torchaudio.transforms.MelSpectrogram(RATE, n_fft=512, win_length=512, hop_length=160, f_min=0, n_mels=64)
    theirs = torchaudio.transforms.AmplitudeToDB(top_db=120)(to_mel(audio))
    ours = log_mel(audio)
    assert ours.shape == (1, 64, 101)
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)


def test_a_tone_has_the_level_that_its_power_says() -> None:
    # Amplitude 1 at 1 kHz, in the middle of a bin (32 × 31.25 Hz): |X| = sum(window) / 2 = 128, in power 42.14 dB; the
    # mel filter's weight at 1 kHz takes the rest.
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(RATE) / RATE)[None]
    mel = log_mel(tone)[0, :, 50]
    edges = np.linspace(0, 2595 * math.log10(1 + 8000 / 700), 66)
    centres = 700 * (10 ** (edges / 2595) - 1)
    assert int(mel.argmax()) == int(np.abs(centres[1:-1] - 1000).argmin())
    assert 39 < float(mel.max()) < 44


def test_the_decoder_is_the_transformer_of_the_paper() -> None:
    model = small()
    decoder, layer = model.decoder, model.decoder.model.layers[0]
    words, features = torch.tensor([[START, 3, 4, 5]]), torch.randn(1, 6, model.encoder.outputs)

    def attention(of: torch.nn.MultiheadAttention, query: torch.Tensor, keys: torch.Tensor, causal: bool):
        width = query.shape[-1]
        q, k, v = (
            linear(x, of.in_proj_weight[n * width : (n + 1) * width], of.in_proj_bias[n * width : (n + 1) * width])
            for n, x in enumerate((query, keys, keys))
        )
        scores = q @ k.transpose(1, 2) / math.sqrt(width)  # one head
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores[0], dtype=torch.bool).triu(1), -math.inf)
        return of.out_proj(scores.softmax(-1) @ v)

    with torch.inference_mode():
        position, half = torch.arange(4)[:, None], torch.arange(8)
        angle = position / 10_000 ** (2 * half / 16)
        x = decoder.word_embedding(words) * 4
        x[..., 0::2] += angle.sin()
        x[..., 1::2] += angle.cos()
        memory = decoder.attn_proj[3](torch.relu(decoder.attn_proj[0](features)))
        x = layer.norm1(x + attention(layer.self_attn, x, x, True))
        x = layer.norm2(x + attention(layer.multihead_attn, x, memory, False))
        x = layer.norm3(x + layer.linear2(torch.relu(layer.linear1(x))))
        theirs = x @ decoder.word_embedding.weight.T
        torch.testing.assert_close(decoder(words, features), theirs, atol=1e-4, rtol=0)


def log_probability(model: EffB2Trm, sentence: tuple[int, ...], features: torch.Tensor) -> float:
    """Of the words, and of the end where the sentence has one; computed at once, without a search."""
    logits = model.decoder(torch.tensor([[START, *sentence[:-1]]]), features)
    return float(logits[0].log_softmax(1)[torch.arange(len(sentence)), list(sentence)].sum())


@pytest.mark.parametrize("seed", range(5))
def test_a_search_as_wide_as_the_vocabulary_finds_the_likeliest_of_all_short_sentences(seed: int) -> None:
    model, audio = small(seed), noise(1.0)
    words = range(SMALL.vocab_size)
    sentences = [(END,), *((one, two) for one, two in itertools.product(words, words) if one != END)]
    with torch.inference_mode():
        features = model.encoder(log_mel(audio))
        by_word = {s: log_probability(model, s, features) / len(s) for s in sentences}
        ((found, score),) = model.write(audio, beams=SMALL.vocab_size, most=2)
    best = max(by_word, key=lambda s: by_word[s])
    assert tuple(found) == best
    assert score == pytest.approx(by_word[best], abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_a_search_of_width_one_takes_the_likeliest_word_each_time(seed: int) -> None:
    model, audio = small(seed), noise(1.0)
    with torch.inference_mode():
        features, greedy = model.encoder(log_mel(audio)), [START]
        while greedy[-1] != END and len(greedy) <= 20:
            greedy.append(int(model.decoder(torch.tensor([greedy]), features)[0, -1].argmax()))
        ((found, _),) = model.write(audio, beams=1)
    assert found == greedy[1:]


def test_a_clip_is_captioned_alike_alone_and_among_others() -> None:
    model, audio = small(2), noise(1.0, clips=4)
    with torch.inference_mode():
        together = model.write(audio)
        alone = [model.write(clip[None])[0] for clip in audio]
    assert [words for words, _ in together] == [words for words, _ in alone]
    assert [score for _, score in together] == pytest.approx([score for _, score in alone], abs=1e-5)


def test_the_published_size_has_exactly_the_official_tensors() -> None:
    with torch.device("meta"):
        model = EffB2Trm(EffB2TrmConfig())
    ours = {f"model.model.{name}": tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert len(OFFICIAL) == 556
    assert ours == {name: shape for name, shape in OFFICIAL.items() if not name.startswith(UNUSED)}


def test_a_checkpoint_of_the_official_layout_loads_strictly(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = {name: torch.randn(shape) * 0.01 for name, shape in OFFICIAL.items() if "num_batches" not in name}
    state |= {name: torch.tensor(1) for name in OFFICIAL if "num_batches" in name}
    state["model.model.decoder.classifier.weight"] = state["model.model.decoder.word_embedding.weight"]
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 4981, "sample_rate": 16000, "tchr_dim": 768}))
    torch.save(state, tmp_path / "pytorch_model.bin")
    loaded = load_effb2_trm(tmp_path).state_dict()
    for name, tensor in loaded.items():
        assert torch.equal(tensor, state[f"model.model.{name}"])
    del state["model.model.encoder.backbone.eff_net._conv_head.weight"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"_conv_head\.weight"):
        load_effb2_trm(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model.model.decoder.head.weight": torch.zeros(1)}, "decoder.head.weight"),
        ({"encoder.weight": torch.zeros(1)}, "unexpected encoder.weight"),
        ({"model.model.decoder.word_embedding.weight": torch.zeros(9, 16)}, "not an EffB2-Trm of this size"),
    ],
)
def test_a_foreign_checkpoint_is_named(tmp_path: Path, change: dict[str, torch.Tensor], said: str) -> None:
    folder = write(tmp_path, SMALL, published(small()) | change)
    with pytest.raises(ModelError, match=said):
        load_effb2_trm(folder)


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"lacks config\.json"):
        load_effb2_trm(tmp_path)
    folder = write(tmp_path, SMALL, published(small()))
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json: cannot be read"):
        load_effb2_trm(folder)
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: cannot be read"):
        load_effb2_trm(folder)


def test_a_clip_too_short_to_be_framed_is_an_error() -> None:
    with pytest.raises(ValueError, match="256 samples"):
        log_mel(torch.zeros(1, 256))
