"""EffB2-Trm: an EfficientNet-B2 hears, a two-layer Transformer writes.

Xu et al., "Efficient Audio Captioning with Encoder-Level Knowledge Distillation" (Interspeech 2024, arXiv:2407.14329).
A module of our own that strictly loads the published checkpoint (`wsntxxn/effb2-trm-audiocaps-captioning`).
"""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from model_handlers.nets.efficientnet import EfficientNet
from model_handlers.weights import ModelError

RATE = 16_000
N_FFT = 512  # 32 ms, and the window's length
HOP = 160  # 10 ms
MELS = 64
FLOOR, RANGE_DB = 1e-10, 120.0
DOWNSAMPLING = 32  # mel frames to one of the encoder's steps
PAD, START, END = 0, 1, 2
POSITIONS = 100
HEAD_WIDTH = 64
PREFIX = "model.model."
# Of training by distillation, and of a mel extractor that is computed here; whatever else is unknown is an error.
UNUSED = ("model.stdnt_proj.", "model.tchr_proj.", "model.logit_scale", "model.model.encoder.melspec_extractor.")


@dataclass(frozen=True)
class EffB2TrmConfig:
    """Sizes, by their names in the published ``config.json``, whose values are the defaults.

    Attributes:
        vocab_size: words.
        decoder_emb_dim: width of the decoder; it has a head for each 64 and inner layers of four times the width.
        decoder_n_layers: its layers.
        width_coefficient: of the encoder; not in the published file, where it is B2's.
        depth_coefficient: likewise.
    """

    vocab_size: int = 4981
    decoder_emb_dim: int = 256
    decoder_n_layers: int = 2
    width_coefficient: float = 1.1
    depth_coefficient: float = 1.2

    @classmethod
    def from_json(cls, path: Path) -> EffB2TrmConfig:
        """Reads what it knows of a ``config.json``; raises `ModelError` where that is no JSON."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: cannot be read ({error})") from error
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})


@lru_cache(maxsize=1)
def _mel_filters() -> Tensor:
    filters = mel_filter_bank(N_FFT // 2 + 1, MELS, 0.0, RATE / 2, RATE, norm=None, mel_scale="htk")
    return torch.from_numpy(filters).float()


def log_mel(audio: Tensor) -> Tensor:
    """Returns log-mel spectrograms in dB, shape (clips, 64, samples // 160 + 1), of 16 kHz mono (clips, samples).

    Power spectrum, Hann window of 32 ms, hop 10 ms, HTK mels from 0 to 8 kHz without area normalisation, not below
    -100 dB, nor 120 dB below the clip's own loudest band. In single precision whatever the network's. Raises
    `ValueError` where a clip is too short to be framed (256 samples, 16 ms).
    """
    if audio.shape[-1] <= N_FFT // 2:
        raise ValueError(f"the clip has {audio.shape[-1]} samples; the model needs more than {N_FFT // 2}")
    with torch.autocast(audio.device.type, enabled=False):
        window = torch.hann_window(N_FFT, device=audio.device)
        spectrum = torch.stft(audio, N_FFT, HOP, N_FFT, window, center=True, pad_mode="reflect", return_complex=True)
        power = torch.view_as_real(spectrum).square().sum(-1)
        mel = _mel_filters().to(audio.device).T @ power
        level = 10 * torch.log10(mel.clamp(min=FLOOR))
        return level.maximum(level.amax((1, 2), keepdim=True) - RANGE_DB)


class Encoder(nn.Module):
    """Log-mel spectrograms (clips, 64, frames) → features (clips, steps, width), a step for each 0.32 s."""

    outputs: int

    def __init__(self, width: float, depth: float):
        super().__init__()
        net = EfficientNet(width, depth)
        self.backbone = nn.ModuleDict({"eff_net": net})
        self.outputs = net.outputs

    def forward(self, mel: Tensor) -> Tensor:
        features = self.backbone["eff_net"](mel[:, None]).mean(2).transpose(1, 2)
        # What the padding added at the end is not listened to.
        return features[:, : max(1, mel.shape[2] // DOWNSAMPLING)]


class Positions(nn.Module):
    """Sinusoidal positions, kept as a parameter because the checkpoint holds them; Vaswani et al. (2017), 3.5."""

    def __init__(self, width: int):
        super().__init__()
        angles = torch.outer(torch.arange(POSITIONS), torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / width)))
        waves = torch.stack((angles.sin(), angles.cos()), 2).flatten(1)
        self.pe = nn.Parameter(waves[:, None], requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pe[: x.shape[1], 0]


class Decoder(nn.Module):
    """Words so far and features → logits of the next word after each of them, (clips, words, vocabulary)."""

    def __init__(self, vocabulary: int, width: int, layers: int, features: int, dropout: float):
        super().__init__()
        self.word_embedding = nn.Embedding(vocabulary, width)
        self.pos_encoder = Positions(width)
        layer = nn.TransformerDecoderLayer(width, max(1, width // HEAD_WIDTH), 4 * width, dropout, batch_first=True)
        self.model = nn.TransformerDecoder(layer, layers)
        self.classifier = nn.Linear(width, vocabulary, bias=False)
        self.classifier.weight = self.word_embedding.weight
        self.attn_proj = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Dropout(dropout), nn.LayerNorm(width))

    def forward(self, words: Tensor, features: Tensor) -> Tensor:
        x = self.pos_encoder(self.word_embedding(words) * math.sqrt(self.word_embedding.embedding_dim))
        ahead = torch.ones(words.shape[1], words.shape[1], dtype=torch.bool, device=words.device).triu(1)
        return self.classifier(
            self.model(x, self.attn_proj(features), tgt_mask=ahead, tgt_key_padding_mask=words == PAD)
        )


@dataclass
class Beams:
    """One clip's search: the sentences that have ended, as (words, mean log-probability of a word)."""

    ended: list[tuple[list[int], float]] = field(default_factory=list)
    searching: bool = True


class EffB2Trm(nn.Module):
    """Encoder and decoder.

    Args:
        config: the sizes.
        dropout: of the decoder, in training.
    """

    def __init__(self, config: EffB2TrmConfig, dropout: float = 0.2):
        super().__init__()
        self.encoder = Encoder(config.width_coefficient, config.depth_coefficient)
        features = self.encoder.outputs
        self.decoder = Decoder(config.vocab_size, config.decoder_emb_dim, config.decoder_n_layers, features, dropout)

    def write(self, audio: Tensor, beams: int = 3, most: int = 20) -> list[tuple[list[int], float]]:
        """Returns for each clip of 16 kHz mono (clips, samples) its words' numbers, and their mean log-probability.

        The reference's beam search: of the sentences that ended, the one likeliest by word; the mean counts the end
        token. The search stops when exactly as many have ended as there are beams, or after `most` words.
        """
        features = self.encoder(log_mel(audio))
        clips, vocabulary = len(audio), self.decoder.word_embedding.num_embeddings
        memory = features.repeat_interleave(beams, 0)
        words = torch.full((clips * beams, 1), START, device=audio.device)
        scores = torch.zeros(clips, beams, device=audio.device)
        searches = [Beams() for _ in range(clips)]
        for count in range(1, most + 1):
            logits = self.decoder(words, memory)[:, -1].float()
            total = scores[..., None] + logits.log_softmax(1).view(clips, beams, vocabulary)
            if count == 1:
                total = total[:, :1]  # all beams are alike yet
            scores, chosen = total.flatten(1).topk(beams)
            rows = (chosen // vocabulary + torch.arange(clips, device=audio.device)[:, None] * beams).flatten()
            words = torch.cat((words[rows], (chosen % vocabulary).flatten()[:, None]), 1)
            ends = (chosen % vocabulary == END) | (count == most)
            for clip, search in enumerate(searches):
                if not search.searching:
                    continue
                for beam in torch.nonzero(ends[clip]).flatten().tolist():
                    sentence = words[clip * beams + beam, 1:].tolist()
                    search.ended.append((sentence, float(scores[clip, beam]) / count))
                search.searching = len(search.ended) != beams
            if not any(search.searching for search in searches):
                break
            scores = scores - 1000 * ends  # what has ended is not continued
        return [max(search.ended, key=lambda sentence: sentence[1]) for search in searches]


def load_effb2_trm(folder: Path) -> EffB2Trm:
    """Loads ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``, on the CPU and ready for inference.

    Raises:
        ModelError: a file is missing or cannot be read, or its tensors are not exactly this model's.
    """
    path = next((folder / n for n in ("model.safetensors", "pytorch_model.bin") if (folder / n).is_file()), None)
    if path is None or not (folder / "config.json").is_file():
        raise ModelError(f"{folder} lacks config.json, or model.safetensors or pytorch_model.bin")
    try:
        loads = path.suffix == ".safetensors"
        state = load_file(path) if loads else torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read ({type(error).__name__}: {str(error)[:200]})") from error
    model = EffB2Trm(EffB2TrmConfig.from_json(folder / "config.json"))
    kept = {key: value for key, value in state.items() if not key.startswith(UNUSED)}
    if foreign := sorted(key for key in kept if not key.startswith(PREFIX)):
        raise ModelError(f"{path}: not an EffB2-Trm: unexpected {foreign[0]}")
    kept = {key.removeprefix(PREFIX): value for key, value in kept.items()}
    kept.setdefault("decoder.classifier.weight", kept.get("decoder.word_embedding.weight", torch.empty(0)))
    try:
        model.load_state_dict(kept)
    except RuntimeError as error:
        raise ModelError(f"{path}: not an EffB2-Trm of this size: {str(error)[:400]}") from error
    return model.eval()
