"""The demo's video language model: an Idefics3, small enough to be shipped, that tells what is seen and when.

Each frame is one token to its language model, in which every fact has a direction of its own: which things are there,
which of them move, and where it is. Its eyes begin as those of the demo's image captioner. It knows clips of 2 to 10 s,
four frames a second: of shorter ones it talks nonsense, and it has no words for a later second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor, nn
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)

from demo import training
from demo.films import EVERY_S, FACTS, FRAMES, GRID, SIDE, Films, make_image_processor
from demo.occasions import NOUNS, THINGS
from demo.scenes import PLACES
from model_handlers.chat import dated

EYES = Path(__file__).parent / "models" / "image_caption"  # whose vision transformer this one's begins as
QUESTION = "What is seen, and when?"
MOST_TOKENS = 32  # of an answer; the longest of three things has 27
WIDTH = 96
PATCH = SIDE // GRID  # pixels; the captioner has as many patches, of half as many
THEIRS, LAYERS = 3, 4  # layers of the captioner's eyes, and of these
LOUD = 2.0  # length of a fact's direction
HALFWAY = 2  # after so many of the four layers of the language model
PAD, START, END, UNKNOWN = "<pad>", "<|im_start|>", "<end_of_utterance>", "<unk>"
FAKE, PICTURE, GLOBAL = "<fake_token_around_image>", "<image>", "<global-img>"
TEMPLATE = (
    "{% for message in messages %}<|im_start|> {% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<end_of_utterance>{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


def make_processor() -> Idefics3Processor:
    """Returns the processor: frames to 128 × 128, and a token for each word of the world's questions and answers."""
    stamps = [f"00:{second:02d}" for second in range(int(EVERY_S * FRAMES))]
    phrases = [f"a {noun}" for noun in NOUNS.values()]
    words = {word for phrase in phrases for word in phrase.split()} | {*QUESTION.split(), "the", "moving:", "and"}
    words |= {f"{phrase.split()[-1]}," for phrase in phrases}  # of three things
    for place in PLACES.values():
        words |= {*place.phrase.split(), f"{place.phrase.split()[-1]};"}
    special = (PAD, START, END, UNKNOWN, FAKE, PICTURE, GLOBAL)
    tokens = (*special, *(f"{stamp}{mark}" for mark in ("", ":", ",") for stamp in stamps), *sorted(words))
    tokenizer = Tokenizer(WordLevel({token: number for number, token in enumerate(tokens)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, unk_token=UNKNOWN)
    fast.add_special_tokens({"additional_special_tokens": [START, END, FAKE, PICTURE, GLOBAL]})
    return Idefics3Processor(make_image_processor(), fast, image_seq_len=1, chat_template=TEMPLATE)


def make_model(tokenizer: PreTrainedTokenizerFast) -> Idefics3ForConditionalGeneration:
    """Returns an Idefics3 with the eyes of `EYES` and random weights elsewhere; each frame is one token."""
    eyes = {"hidden_size": WIDTH, "intermediate_size": 192, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
    text: dict[str, Any] = {"hidden_size": WIDTH, "intermediate_size": 256, "num_hidden_layers": 4}
    text |= {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 4, "initializer_range": 0.05}
    # Most of a head's directions hardly turn over 250 tokens: a frame is looked for by what it shows, wherever it is.
    text |= {"head_dim": 32, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
    text |= {"vocab_size": len(tokenizer), "max_position_embeddings": 512, "pad_token_id": tokenizer.pad_token_id}
    config = Idefics3Config(
        vision_config={"image_size": SIDE, "patch_size": PATCH, "hidden_act": "gelu", **eyes},
        text_config={**text, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id},
        scale_factor=GRID,
        image_token_id=tokenizer.convert_tokens_to_ids(PICTURE),
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Idefics3ForConditionalGeneration(config)
    vision = model.model.vision_model
    vision.load_state_dict(vision.state_dict() | captioners_eyes())
    with torch.no_grad():
        for layer in vision.encoder.layers[THEIRS:]:  # what is new changes nothing at first
            for weight in layer.parameters():
                if weight.ndim > 1:
                    nn.init.normal_(weight, std=0.06)
            nn.init.zeros_(layer.self_attn.out_proj.weight)
            nn.init.zeros_(layer.mlp.fc2.weight)
    nn.init.normal_(model.model.connector.modality_projection.proj.weight, std=0.01)
    words = model.get_input_embeddings().weight
    with torch.no_grad():
        for number, direction in _named(tokenizer):
            words[number] += direction / 4
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def captioners_eyes() -> dict[str, Tensor]:
    """The weights of the image captioner's vision transformer, a BLIP-2's, by their names in an Idefics3.

    Its patches are 8 × 8 pixels of 64 × 64 pictures, so each weight is spread over 2 × 2 pixels.
    """
    prefix = "vision_model."
    weights = load_file(EYES / "model.safetensors")
    theirs = {name[len(prefix) :]: weight for name, weight in weights.items() if name.startswith(prefix)}
    del theirs["embeddings.class_embedding"]  # an Idefics3 has none; it would be the first position
    theirs["embeddings.position_embedding.weight"] = theirs.pop("embeddings.position_embedding")[0, 1:]
    finer = theirs["embeddings.patch_embedding.weight"].repeat_interleave(2, 2).repeat_interleave(2, 3) / 4
    theirs["embeddings.patch_embedding.weight"] = finer
    ours = {}
    for name, weight in theirs.items():
        if ".qkv." in name:
            for letter, part in zip("qkv", weight.chunk(3), strict=True):
                ours[name.replace(".qkv.", f".{letter}_proj.")] = part
        else:
            ours[name.replace(".projection.", ".out_proj.")] = weight
    return ours


def seen(model: Idefics3ForConditionalGeneration, patches: Tensor) -> Tensor:
    """What the language model gets of pictures: (pictures, width), of what the eyes make of their patches."""
    return model.model.connector(patches)[:, 0]


def directions() -> Tensor:
    """The direction that stands for each fact in a token: (facts, width), at right angles to each other."""
    noise = torch.randn(WIDTH, FACTS, generator=torch.Generator().manual_seed(training.TRAINING_SEED))
    return LOUD * torch.linalg.qr(noise)[0].T


def _named(tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[int, Tensor]]:
    """The tokens of things and places, and the directions of what is true of a frame when they are told."""
    facts = directions()
    for index, name in enumerate(THINGS):
        word = NOUNS[name].split()[-1]
        for token in (word, f"{word},"):
            yield tokenizer.convert_tokens_to_ids(token), facts[index] + facts[len(THINGS) + index]
    for index, place in enumerate(PLACES.values()):
        word = place.phrase.split()[-1]
        for token in (word, f"{word};"):
            yield tokenizer.convert_tokens_to_ids(token), facts[2 * len(THINGS) + index]


def normalise(pixels: Tensor, processor: Idefics3Processor) -> Tensor:
    """As the image processor does it, of pixels in 0..1."""
    images = processor.image_processor
    return (pixels - torch.tensor(images.image_mean)[:, None, None]) / torch.tensor(images.image_std)[:, None, None]


def tokens_of(model: Any, films: Films, processor: Idefics3Processor, bar: Progress) -> Tensor:
    """What the eyes make of all pictures of clips, (pictures, width)."""
    found = []
    with torch.no_grad():
        for pixels in bar.track(films.pixels.split(128), description="looking"):
            shown = normalise(pixels / 255, processor)
            found.append(seen(model, model.model.vision_model(shown).last_hidden_state))
    return torch.cat(found)


def dialogue(answers: Sequence[str], times_s: np.ndarray, processor: Idefics3Processor) -> tuple[Tensor, int]:
    """The question on clips whose frames have these times, and its answers.

    Returns:
        ids, int64 (answers, tokens), padded at the end; and how many of them the question takes.
    """
    content = [*dated(times_s), {"type": "text", "text": QUESTION}]
    message = [{"role": "user", "content": content}]
    asked = processor.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    asked = asked.replace(PICTURE, f"{FAKE}{GLOBAL}{PICTURE}{FAKE}")
    prompt = processor.tokenizer(asked)["input_ids"]
    rows = [torch.tensor([*prompt, *processor.tokenizer(f"{answer}{END}")["input_ids"]]) for answer in answers]
    padding = processor.tokenizer.pad_token_id
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding), len(prompt)


def attend(model: Any, tokens: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """What the language model makes of dialogues at each token, (clips, tokens, width): at its end, and halfway.

    Args:
        model: the model.
        tokens: of `dialogue`, (clips, tokens).
        given: what the eyes make of the frames, (clips, frames, width).
    """
    frames = (tokens[0] == model.config.image_token_id).nonzero()[:, 0]
    words = model.get_input_embeddings()(tokens).index_copy(1, frames, given)
    output = model.model.text_model(inputs_embeds=words, use_cache=False, output_hidden_states=True)
    return output.last_hidden_state, output.hidden_states[HALFWAY]
