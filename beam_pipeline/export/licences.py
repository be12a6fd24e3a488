"""Under which licences the published models of the profiles stand, and where that is said.

Earshot downloads models; it does not know their licences, and a card on the Hub may change. What is here was looked up
in November 2026, in copies of the pages named; what nobody could look up says so. A model that is missing is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

UNKNOWN = "unknown: check"


@dataclass(frozen=True)
class Licence:
    """A model's licence.

    Attributes:
        name: an SPDX id, or the name that the publisher gives it.
        restricted: whether it allows research or non-commercial use only.
        source: where that is said.
    """

    name: str
    restricted: bool
    source: str


_HUB = "https://huggingface.co/"
LICENCES = {  # by name; what ends in * is how a name begins
    "pkg://demo/*": Licence("Apache-2.0", False, "Earshot's own"),
    "Salesforce/blip2-opt-2.7b": Licence(
        "MIT", False, f"{_HUB}Salesforce/blip2-opt-2.7b; it is built on OPT, whose own licence is for research: check"
    ),
    "IDEA-Research/grounding-dino-base": Licence(
        "Apache-2.0", False, "https://github.com/IDEA-Research/GroundingDINO (the code's; the weights' card not seen)"
    ),
    "openai/clip-vit-large-patch14": Licence(UNKNOWN, False, "the model's card could not be looked up"),
    "http://places2.csail.mit.edu/models_places365/*": Licence(
        "CC BY", False, "https://github.com/CSAILVision/places365 (no version of the licence is named)"
    ),
    "https://zenodo.org/records/3987831/*": Licence(UNKNOWN, False, "the record on Zenodo could not be looked up"),
    "wsntxxn/effb2-trm-audiocaps-captioning": Licence(
        "Apache-2.0", False, f"{_HUB}wsntxxn/effb2-trm-audiocaps-captioning"
    ),
    "laion/clap-htsat-unfused": Licence("Apache-2.0", False, f"{_HUB}laion/clap-htsat-unfused"),
    "https://github.com/hkchengrex/MMAudio/releases/download/v0.1/synchformer_state_dict.pth": Licence(
        UNKNOWN, False, "https://github.com/hkchengrex/MMAudio names none for this file"
    ),
    "openai/whisper-large-v3-turbo": Licence("MIT", False, f"{_HUB}openai/whisper-large-v3-turbo"),
    "nvidia/audio-flamingo-*": Licence(
        "NVIDIA OneWay Noncommercial License", True, f"{_HUB}nvidia/audio-flamingo-3-chat (one of its family)"
    ),
    "nvidia/music-flamingo-*": Licence(
        "non-commercial research only", True, f"{_HUB}nvidia/music-flamingo-hf (one of its family)"
    ),
    "Qwen/Qwen2.5-VL-7B-Instruct": Licence("Apache-2.0", False, f"{_HUB}Qwen/Qwen2.5-VL-7B-Instruct"),
    "https://download.pytorch.org/torchaudio/models/hdemucs_high_trained.pt": Licence(
        "scientific purposes only", True, "https://github.com/facebookresearch/demucs/issues/327 (Demucs' author)"
    ),
    # Not "gpt-*": the weights of gpt-oss are published, under a licence of their own.
    **dict.fromkeys(
        ("gpt-3.5*", "gpt-4*", "gpt-5*"),
        Licence("a service; its terms of use", False, "https://openai.com/policies"),
    ),
}


def licence_of(model: str) -> Licence:
    """What is known of a model's licence.

    Args:
        model: as a manifest names it: ``<hub id>@<commit>``, an address with a hash, a service's name, or a local
            folder, which is taken for the model that the end of its path names.
    """
    if "://" in model and not model.startswith("file://"):
        names = {model.partition("#")[0]}
    else:
        folder, slash, last = model.rpartition("/")
        name = folder + slash + last.partition("@")[0]
        names = {name, "/".join(PurePosixPath(name).parts[-2:])}
    return next(
        (known for pattern, known in LICENCES.items() if any(_is(name, pattern) for name in names)),
        Licence(UNKNOWN, False, "not in Earshot's list"),
    )


def _is(model: str, pattern: str) -> bool:
    return model.startswith(pattern[:-1]) if pattern.endswith("*") else model == pattern
