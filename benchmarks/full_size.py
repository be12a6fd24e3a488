"""Writes the published architectures at full size with random weights, and a profile that names them.

Random weights say nothing of a clip, but they take the time and the memory that trained ones take: for measuring a
machine without a network. Then: ``python -m benchmarks.cues --profile DIR/full_size.toml``

    python -m benchmarks.full_size DIR
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torchvision.models import resnet50
from transformers import (
    BertTokenizerFast,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    PreTrainedTokenizerFast,
)

from model_handlers.nets.cnn14 import Cnn14
from model_handlers.nets.effb2_trm import PREFIX, EffB2Trm, EffB2TrmConfig
from model_handlers.nets.synchformer import Synchformer, SynchformerConfig
from model_handlers.objects import VOCABULARY


def audio_tags(folder: Path) -> str:
    """PANNs Cnn14 with 527 classes, 80.8 M parameters."""
    torch.save({"model": Cnn14(classes=527, width=64).state_dict()}, folder / "Cnn14.pth")
    with (folder / "class_labels_indices.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("index", "mid", "display_name"))
        writer.writerows((index, f"/m/{index}", f"class {index}") for index in range(527))
    return 'handler = "audio_tags:AudioTags", batch_size = 16'


def synchronisation(folder: Path) -> str:
    """Synchformer, 237.5 M parameters."""
    torch.save(Synchformer(SynchformerConfig()).state_dict(), folder / "synchformer.pth")
    return 'handler = "synchronisation:Synchronisation", batch_size = 1'


def place(folder: Path) -> str:
    """Places365 ResNet-50, 24.3 M parameters."""
    state = {f"module.{name}": tensor for name, tensor in resnet50(num_classes=365).state_dict().items()}
    torch.save({"arch": "resnet50", "state_dict": state}, folder / "resnet50_places365.pth.tar")
    (folder / "categories_places365.txt").write_text("".join(f"/p/place_{n} {n}\n" for n in range(365)))
    (folder / "IO_places365.txt").write_text("".join(f"/p/place_{n} {n % 2 + 1}\n" for n in range(365)))
    return 'handler = "place:Place", batch_size = 32'


def image_label(folder: Path) -> str:
    """CLIP ViT-L/14, 428 M parameters, over ImageNet's thousand names."""
    specials = ("<|startoftext|>", "<|endoftext|>")
    words = {token: index for index, token in enumerate((*(f"word{n}" for n in range(49_406)), *specials))}
    tokenizer = Tokenizer(WordLevel(words, unk_token=specials[1]))
    tokenizer.pre_tokenizer = Whitespace()
    ids = [(special, words[special]) for special in specials]
    tokenizer.post_processor = TemplateProcessing(single=f"{specials[0]} $A {specials[1]}", special_tokens=ids)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=specials[0],
        eos_token=specials[1],
        pad_token=specials[1],
        model_max_length=77,
    )
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "vocab_size": 49_408}
    vision = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
    }
    text |= {"bos_token_id": 49_406, "eos_token_id": 49_407, "pad_token_id": 49_407}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=768)).save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessor(), fast).save_pretrained(folder)
    return 'handler = "image_label:ImageLabel", batch_size = 16'


def objects(folder: Path) -> str:
    """Grounding DINO base (Swin-B, BERT base), 233 M parameters, asked for Earshot's vocabulary."""
    words = sorted({word for name in VOCABULARY for word in name.split()})
    tokens = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
    tokens |= {word: 2000 + number for number, word in enumerate(words)}
    named = {index: token for token, index in tokens.items()}
    listed = "\n".join(named.get(index, f"[unused{index}]") for index in range(30_522))
    (folder / "vocab.txt").write_text(listed, encoding="utf-8")
    swin = {"model_type": "swin", "embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32]}
    swin |= {"window_size": 12, "image_size": 384, "out_indices": [2, 3, 4]}
    model = GroundingDinoForObjectDetection(GroundingDinoConfig(backbone_config=swin))
    model.save_pretrained(folder)
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
    GroundingDinoProcessor(GroundingDinoImageProcessor(), tokenizer).save_pretrained(folder)
    return 'handler = "objects:Objects", batch_size = 4'


def audio_caption(folder: Path) -> str:
    """EffB2-Trm, 11.5 M parameters, with a vocabulary of 4981 words. It never ends a sentence before its 20 words."""
    config = EffB2TrmConfig()
    state = {f"{PREFIX}{name}": tensor for name, tensor in EffB2Trm(config).state_dict().items()}
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps({"vocab_size": config.vocab_size}), encoding="utf-8")
    specials = ("<pad>", "<start>", "<end>", "<unk>")
    words = (*specials, *(f"word{n}" for n in range(config.vocab_size - len(specials))))
    tokenizer = Tokenizer(WordLevel({token: index for index, token in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    pad, start, end, unknown = specials
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, bos_token=start, eos_token=end, unk_token=unknown
    ).save_pretrained(folder)
    return 'handler = "audio_caption:AudioCaption", batch_size = 16'


BUILDERS: dict[str, Callable[[Path], str]] = {
    build.__name__: build for build in (objects, image_label, place, audio_tags, audio_caption, synchronisation)
}


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.full_size", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cue", action="append", choices=BUILDERS, help="only this one; may be given more than once")
    options = parser.parse_args(arguments)
    console, rows = Console(), []
    torch.manual_seed(0)
    for name in options.cue or BUILDERS:
        folder = (options.folder / name).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        with console.status(name):
            rows.append(f'{name} = {{ {BUILDERS[name](folder)}, model = "{folder}" }}')
    profile = options.folder / "full_size.toml"
    text = 'description = "Full-size models with random weights, for measuring."\n\n[cues]\n' + "\n".join(rows)
    profile.write_text(
        text + '\n\n[caption]\nhandler = "template_writer:TemplateWriter"\nscene = ""\n', encoding="utf-8"
    )
    console.print(f"wrote {profile}", highlight=False)


if __name__ == "__main__":
    main()
