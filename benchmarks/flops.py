"""How much arithmetic each cue of the profile auto_acd is for one 10 s clip, and how many bytes of weights it reads.

Counted, not measured: the published architectures at full size pass once over inputs of the right shapes under
`torch.utils.flop_counter`, most of them with tensors that have no content. A multiplication with an addition is two
operations. Attention, convolutions and matrix products count; the rest (normalisation, activations, the front ends'
Fourier transforms) is little beside them and is left out.

    python -m benchmarks.flops            # a table
    python -m benchmarks.flops --toml     # the block for benchmarks/measured.toml
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet50
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    ClapAudioConfig,
    ClapAudioModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
)

from model_handlers.nets.cnn14 import Cnn14
from model_handlers.nets.effb2_trm import EffB2Trm, EffB2TrmConfig
from model_handlers.nets.synchformer import Synchformer, SynchformerConfig
from model_handlers.objects import VOCABULARY
from model_handlers.synchronisation import FPS, SEGMENT_FRAMES, draw_evaluations, segment_starts

SECONDS = 10
SAMPLES = 32_000 * SECONDS
FRAME = (750, 1333)  # a frame of 16:9 as Grounding DINO sees it: short side 800 at most, long side 1333 at most
CAPTION_TOKENS = 15  # of an image caption; 30 at most, and COCO's captions have about ten words
BEAMS, WORDS = 3, 20  # of the audio caption's search


@dataclass(frozen=True)
class Load:
    """What a cue's model has to do.

    Attributes:
        parameters: of the whole model.
        flops: operations for one clip.
        read_once: bytes of weights that a batch reads from the GPU's memory, whatever its size.
        read_again: those that it reads again for each word that it writes, all words together.
    """

    parameters: int
    flops: int
    read_once: int
    read_again: int = 0


def counted(compute: Callable[[], Any]) -> int:
    """The operations of a computation."""
    with FlopCounterMode(display=False) as counter:
        compute()
    return counter.get_total_flops()


def parameters(module: nn.Module) -> int:
    """How many there are, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def image_caption() -> Load:
    """BLIP-2 with OPT-2.7b, in half precision: a pass over 32 visual tokens, and one for each word."""
    config = Blip2Config.from_dict(
        {
            "text_config": {
                **{"model_type": "opt", "hidden_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 32},
                **{"ffn_dim": 10_240, "word_embed_proj_dim": 2560, "vocab_size": 50_304},
            },
            "image_token_index": 50_265,
        }
    )
    model = Blip2ForConditionalGeneration(config).eval()
    language = model.language_model
    tokens = config.num_query_tokens + 1
    ids = torch.full((1, tokens + CAPTION_TOKENS), config.image_token_index)
    vision = counted(lambda: model.vision_model(torch.empty(1, 3, 224, 224)))
    seen = torch.empty(1, 257, config.vision_config.hidden_size)
    query = counted(lambda: model.qformer(query_embeds=model.query_tokens, encoder_hidden_states=seen))
    # With a cache each token passes once, so all of them cost what one pass over all of them costs.
    words = counted(lambda: language(input_ids=ids))
    return Load(
        parameters(model), vision + query + words, 2 * parameters(model), 2 * CAPTION_TOKENS * parameters(language)
    )


def objects() -> Load:
    """Grounding DINO base, as many passes as the vocabulary takes."""
    swin = {"model_type": "swin", "embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32]}
    swin |= {"window_size": 12, "image_size": 384, "out_indices": [2, 3, 4]}
    config = GroundingDinoConfig(backbone_config=swin)
    model = GroundingDinoForObjectDetection(config).eval()
    tokens = sum(len(name.split()) + 1 for name in VOCABULARY)  # at least: rare words are several tokens
    passes = math.ceil(tokens / (config.max_text_len - 2))
    ids = torch.ones(1, min(tokens + 2, config.max_text_len), dtype=torch.long)
    pixels = torch.zeros(1, 3, *FRAME)
    once = counted(lambda: model(pixel_values=pixels, input_ids=ids, attention_mask=torch.ones_like(ids)))
    return Load(parameters(model), passes * once, passes * 4 * parameters(model))


def image_label() -> Load:
    """CLIP ViT-L/14's picture half; its text half works once a worker."""
    size = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    model = CLIPVisionModelWithProjection(CLIPVisionConfig(**size, patch_size=14, projection_dim=768)).eval()
    return _one_pass(model, torch.empty(1, 3, 224, 224))


def place() -> Load:
    """Places365's ResNet-50."""
    return _one_pass(resnet50(num_classes=365).eval(), torch.empty(1, 3, 224, 224))


def audio_tags() -> Load:
    """PANNs Cnn14, 32 kHz."""
    return _one_pass(Cnn14(classes=527, width=64).eval(), torch.empty(1, SAMPLES))


def audio_caption() -> Load:
    """EffB2-Trm: one pass of the encoder; the decoder begins anew for each word, as the reference does."""
    model = EffB2Trm(EffB2TrmConfig()).eval()
    frames = SECONDS * 100 + 1  # a mel frame each 10 ms
    heard = torch.zeros(1, 64, frames)
    flops = counted(lambda: model.encoder(heard))
    features = torch.zeros(BEAMS, math.ceil(frames / 32), 1408)
    for written in range(1, WORDS + 1):
        words = torch.zeros(BEAMS, written, dtype=torch.long)
        flops += counted(lambda words=words: model.decoder(words, features))
    again = 4 * (WORDS - 1) * parameters(model.decoder)
    return Load(parameters(model), flops, 4 * parameters(model), again)


def clap() -> Load:
    """LAION's CLAP, the sound half."""
    model = ClapAudioModelWithProjection(ClapAudioConfig()).eval()
    return _one_pass(model, torch.empty(1, 1, 1001, 64))


def synchronisation() -> Load:
    """Synchformer, five evaluations: segments that windows share are computed once, on average over 32 clips."""
    model = Synchformer(SynchformerConfig()).eval()
    frames = torch.empty(1, SEGMENT_FRAMES, 224, 224, 3, dtype=torch.uint8)
    samples = torch.empty(1, SEGMENT_FRAMES * 640)  # 16 kHz at 25 frames a second
    picture = counted(lambda: model.video_features(frames))
    sound = counted(lambda: model.audio_features(samples))
    windows, per_window = 5, 14
    video, audio = model.video_features(frames), model.audio_features(samples)
    fused = counted(lambda: model.fuse(_windows(video, windows, per_window), _windows(audio, windows, per_window)))
    segments = _segments()
    return Load(parameters(model), round(segments[0] * picture + segments[1] * sound) + fused, 4 * parameters(model))


def _segments(clips: int = 32) -> tuple[float, float]:
    """How many different segments of picture and of sound a 10 s clip's evaluations need, on average."""
    counts = [0, 0]
    for clip in range(clips):
        draws = draw_evaluations(str(clip), SECONDS * FPS)
        for which, starts in enumerate(([d.video_start for d in draws], [d.audio_start for d in draws])):
            counts[which] += len({start for at in starts for start in segment_starts(at)})
    return counts[0] / clips, counts[1] / clips


def _windows(features: Tensor, windows: int, segments: int) -> Tensor:
    return features.new_empty(windows, segments, *features.shape[1:])


def _one_pass(model: nn.Module, seen: Tensor) -> Load:
    return Load(parameters(model), counted(lambda: model(seen)), 4 * parameters(model))


CUES: dict[str, Callable[[], Load]] = {
    build.__name__: build
    for build in (image_caption, objects, image_label, place, audio_tags, audio_caption, clap, synchronisation)
}


# Code that looks at values needs tensors with content: these are computed, with random weights. Others need at least a
# real device's name, as autocast does.
_COMPUTED, _ON_CPU = ("objects", "audio_caption"), ("audio_tags", "synchronisation")


def count(name: str) -> Load:
    """What the model of one cue has to do for a clip."""
    where: Any = torch.device("meta")
    if name in _COMPUTED:
        where = nullcontext()
    elif name in _ON_CPU:
        where = FakeTensorMode(allow_non_fake_inputs=True)
    # Attention as matrix products: the counter knows no fused kernel of CPUs.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), where:
        return CUES[name]()


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.flops", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--toml", action="store_true", help="the block for benchmarks/measured.toml")
    options = parser.parse_args(arguments)
    loads = {name: count(name) for name in CUES}
    if options.toml:
        for name, load in loads.items():
            read = f"read_once_gb = {load.read_once / 1e9:.3f}, read_again_gb = {load.read_again / 1e9:.3f}"
            print(f"{name} = {{ parameters_m = {load.parameters / 1e6:.1f}, gflop = {load.flops / 1e9:.1f}, {read} }}")
        return
    table = Table("cue", "parameters, M", "GFLOP a clip", "GB of weights a batch", "GB again, for words")
    for name, load in loads.items():
        figures = (load.parameters / 1e6, load.flops / 1e9, load.read_once / 1e9, load.read_again / 1e9)
        table.add_row(name, *(f"{figure:,.1f}" for figure in figures))
    Console().print(table)


if __name__ == "__main__":
    main()
