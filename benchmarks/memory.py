"""What the published models take of a GPU's memory, counted without a GPU: where the figures of `Footprint` come from.

    python -m benchmarks.memory [CUE …]

Each network is made at its full size, with random weights, in single precision, and run once on a CPU. Counted are its
parameters, and the bytes of all tensors that are alive at the peak of the pass, beside the parameters. What a
GPU's kernels need as they work is not among them. Most networks run on torch's fake tensors, which have shapes and no
content; four look at values as they go, and run on real ones (the detector takes three minutes and 4 GB).
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model_handlers.synchronisation import SEGMENTS_AT_ONCE

Pass = tuple[torch.nn.Module, Callable[[int], Any]]  # a network, and a pass through it with so many clips


class Peak(TorchDispatchMode):
    """Adds up the bytes of the tensors that operations make, while something holds them; not a network's own."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        own = (*network.parameters(), *network.buffers())
        self.held = {tensor.untyped_storage()._cdata for tensor in own}
        self.now = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return made

    def _add(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.held:
            return
        self.held.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self.held.discard(key)
        self.now -= size


def image_caption() -> Pass:
    """BLIP-2 with OPT 2.7B: 32 tokens of the image, and 32 words."""
    from transformers import Blip2Config, Blip2ForConditionalGeneration, OPTConfig

    opt = OPTConfig(hidden_size=2560, num_hidden_layers=32, ffn_dim=10_240, num_attention_heads=32, vocab_size=50_304)
    text = {**opt.to_dict(), "word_embed_proj_dim": 2560}
    network = Blip2ForConditionalGeneration(Blip2Config(text_config=text))

    def run(clips: int) -> None:
        seen = network.vision_model(pixel_values=torch.zeros(clips, 3, 224, 224)).last_hidden_state
        queries = network.query_tokens.expand(clips, -1, -1)
        asked = network.qformer(query_embeds=queries, encoder_hidden_states=seen).last_hidden_state
        network.language_model(inputs_embeds=network.language_projection(asked).repeat(1, 2, 1), use_cache=True)

    return network, run


def objects() -> Pass:
    """Grounding DINO base: a frame of 800 by 1333 pixels, and as many tokens as it takes."""
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

    swin = {"model_type": "swin", "embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32]}
    swin |= {"window_size": 12, "image_size": 384, "out_indices": [2, 3, 4]}
    network = GroundingDinoForObjectDetection(GroundingDinoConfig(backbone_config=swin))

    def run(clips: int) -> None:
        ids = torch.full((clips, 250), 2000)
        ids[:, 0], ids[:, -1] = 101, 102
        network(
            pixel_values=torch.zeros(clips, 3, 800, 1333),
            pixel_mask=torch.ones(clips, 800, 1333, dtype=torch.long),
            input_ids=ids,
            token_type_ids=torch.zeros_like(ids),
            attention_mask=torch.ones_like(ids),
        )

    return network, run


def image_label() -> Pass:
    """CLIP ViT-L/14."""
    from transformers import CLIPConfig, CLIPModel

    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    network = CLIPModel(CLIPConfig(text_config=text, vision_config={**vision, "patch_size": 14}, projection_dim=768))
    return network, lambda clips: network.get_image_features(pixel_values=torch.zeros(clips, 3, 224, 224))


def place() -> Pass:
    """ResNet-50."""
    from torchvision.models import resnet50

    network = resnet50(num_classes=365)
    return network, lambda clips: network(torch.zeros(clips, 3, 224, 224))


def audio_tags() -> Pass:
    """PANNs Cnn14, 10 s."""
    from model_handlers.nets.cnn14 import Cnn14

    network = Cnn14(classes=527, width=64)
    return network, lambda clips: network(torch.zeros(clips, 320_000))


def audio_caption() -> Pass:
    """EffB2-Trm, 10 s and three beams."""
    from model_handlers.nets.effb2_trm import EffB2Trm, EffB2TrmConfig

    network = EffB2Trm(EffB2TrmConfig())
    return network, lambda clips: network.write(torch.zeros(clips, 160_000), 3, 20)


def audio_classifier() -> Pass:
    """AST, 10.24 s."""
    from transformers import ASTConfig, ASTForAudioClassification

    network = ASTForAudioClassification(ASTConfig(num_labels=527))
    return network, lambda clips: network(torch.zeros(clips, 1024, 128))


def clap() -> Pass:
    """The sound half of CLAP (HTSAT tiny), 10 s."""
    from transformers import ClapAudioModelWithProjection, ClapConfig

    network = ClapAudioModelWithProjection(ClapConfig().audio_config)
    heard = {"is_longer": torch.zeros(1, 1, dtype=torch.bool)}
    return network, lambda clips: network(input_features=torch.zeros(clips, 1, 1001, 64), **heard)


def clap_text() -> Pass:
    """The text half of CLAP, 64 tokens."""
    from transformers import ClapConfig, ClapTextModelWithProjection

    network = ClapTextModelWithProjection(ClapConfig().text_config)
    return network, lambda clips: network(
        input_ids=torch.full((clips, 64), 5), attention_mask=torch.ones(clips, 64, dtype=torch.long)
    )


def synchronisation() -> Pass:
    """Synchformer: as many segments of the picture as go through at a time, whatever the batch."""
    from model_handlers.nets.synchformer import Synchformer, SynchformerConfig

    network = Synchformer(SynchformerConfig())
    segments = SEGMENTS_AT_ONCE, 16, 224, 224, 3
    return network, lambda clips: network.video_features(torch.zeros(segments, dtype=torch.uint8))


def separation() -> Pass:
    """Hybrid Demucs: 10 s of stereo at 44.1 kHz, four sources."""
    from torchaudio.models import hdemucs_high

    network = hdemucs_high(sources=["drums", "bass", "other", "vocals"])
    return network, lambda clips: network(torch.zeros(clips, 2, 441_000))


REAL = {"objects", "clap", "audio_caption", "separation"}
CUES: dict[str, Callable[[], Pass]] = {
    build.__name__: build
    for build in (
        *(image_caption, objects, image_label, place, audio_tags, audio_caption, audio_classifier),
        *(clap, clap_text, synchronisation, separation),
    )
}


def measure(name: str, clips: int) -> tuple[float, float]:
    """Returns millions of parameters, and MB (10^6 bytes) of other tensors at the peak of a pass."""
    with nullcontext() if name in REAL else FakeTensorMode(allow_non_fake_inputs=True):
        network, run = CUES[name]()
        network.eval()
        with torch.inference_mode(), Peak(network) as peak:
            run(clips)
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6, peak.most / 1e6


def main(names: list[str]) -> None:
    """Prints a table."""
    table = Table("cue", "network", "parameters, M", "1 clip, MB", "4 clips, MB")
    for name in names or list(CUES):
        parameters, one = measure(name, 1)
        four = "" if name in ("objects", "synchronisation") else f"{measure(name, 4)[1]:.0f}"
        table.add_row(name, (CUES[name].__doc__ or "").rstrip("."), f"{parameters:.1f}", f"{one:.0f}", four)
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
