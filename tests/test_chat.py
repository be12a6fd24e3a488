"""Chat models by changing a row only. The models are tiny and random: what is shown is plumbing, not meaning."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    MusicFlamingoConfig,
    MusicFlamingoForConditionalGeneration,
    MusicFlamingoProcessor,
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    WhisperFeatureExtractor,
)

from model_handlers.base import Example
from model_handlers.chat import Chat
from model_handlers.speech import Speech
from model_handlers.weights import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
SPECIALS += ("<|video_pad|>", "<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part.type == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "initializer_range": 0.6,  # so wide that answers differ
}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each byte, and the special ones."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({letter: index for index, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.add_special_tokens({"additional_special_tokens": list(SPECIALS)})
    return fast


def make_seeing(folder: Path) -> Path:
    tokenizer = make_tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 8}
    vision |= {"out_hidden_size": 32, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 2, 2]}
    config = Qwen3VLConfig(
        text_config={**TEXT, "vocab_size": len(tokenizer), "rope_parameters": rope},
        vision_config=vision,
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    images = {"patch_size": 8, "size": {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}}
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**images), tokenizer, Qwen3VLVideoProcessor(**images), chat_template=TEMPLATE
    )
    processor.save_pretrained(folder)
    return folder


def make_hearing(folder: Path) -> Path:
    tokenizer = make_tokenizer()
    audio = {"num_mel_bins": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}
    audio |= {"d_model": 32, "max_source_positions": 1500}
    config = Qwen2AudioConfig(
        audio_config=audio,
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(tokenizer)},
        audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
    )
    torch.manual_seed(0)
    model = Qwen2AudioForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    Qwen2AudioProcessor(WhisperFeatureExtractor(16), tokenizer, chat_template=TEMPLATE).save_pretrained(folder)
    return folder


FLAMINGOS = {
    "general": (AudioFlamingo3Config, AudioFlamingo3ForConditionalGeneration, AudioFlamingo3Processor),
    "music": (MusicFlamingoConfig, MusicFlamingoForConditionalGeneration, MusicFlamingoProcessor),
}


def make_flamingo(folder: Path, kind: str) -> Path:
    tokenizer = make_tokenizer()
    tokens = {"audio": "<sound>", "audio_bos": "<|sound_bos|>", "audio_eos": "<|sound_eos|>"}
    tokenizer.add_special_tokens({"additional_special_tokens": [*SPECIALS, *tokens.values()]})
    marks = tokens if kind == "music" else {"audio": tokens["audio"]}
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in marks.items()}
    audio = {"model_type": "audioflamingo3_encoder", "num_mel_bins": 16, "num_hidden_layers": 1, "hidden_size": 32}
    audio |= {"num_attention_heads": 2, "intermediate_size": 64, "max_source_positions": 1500}
    config, model_class, processor = FLAMINGOS[kind]
    torch.manual_seed(0)
    text = {**TEXT, "model_type": "qwen2", "vocab_size": len(tokenizer)}
    model: Any = model_class(config(audio_config=audio, text_config=text, **ids))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    heard = WhisperFeatureExtractor(16, return_attention_mask=True)
    template = TEMPLATE.replace("<|audio_bos|><|AUDIO|><|audio_eos|>", tokens["audio"])
    processor(heard, tokenizer, chat_template=template).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_seeing(tmp_path_factory.mktemp("seeing"))


@pytest.fixture(scope="module")
def hearing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hearing(tmp_path_factory.mktemp("hearing"))


def row(folder: Path, **changes: Any) -> Chat:
    sees = "frame" if folder.name.startswith("seeing") else "audio"
    return Chat(name="chat", model=str(folder), **{"sees": sees, "max_new_tokens": 8, "device": "cpu", **changes})


def frames() -> list[Example]:
    rng = np.random.default_rng(0)
    shapes = ((48, 64), (64, 32), (40, 40))
    return [Example(f"c{n}", rng.integers(0, 256, (*s, 3), dtype=np.uint8)) for n, s in enumerate(shapes)]


def sounds() -> list[Example]:
    rng = np.random.default_rng(0)
    return [Example(f"c{n}", rng.normal(0, 0.1, size).astype(np.float32)) for n, size in enumerate((16_000, 40_000))]


def test_a_model_that_sees_answers_as_transformers_own_call_does(seeing: Path) -> None:
    handler = row(seeing, system="You caption.", question="What is this?")
    model = handler.load()
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "You caption."}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]},
    ]
    prompt = model.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    for example in frames():
        inputs = model.processor(text=[prompt], images=[Image.fromarray(example.view)], return_tensors="pt")
        written = model.model.generate(**inputs, max_new_tokens=8, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        (text,) = model.processor.tokenizer.batch_decode(written, skip_special_tokens=True)
        ((item,),) = handler.predict([example], model)
        assert item.text == " ".join(text.split())


def test_a_model_that_hears_answers_as_transformers_own_call_does(hearing: Path) -> None:
    handler = row(hearing)
    model = handler.load()
    for example in sounds():
        inputs = model.processor(
            text=[model.prompt], audio=[example.view], sampling_rate=16_000, return_tensors="pt", padding=True
        )
        written = model.model.generate(**inputs, max_new_tokens=8, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        (text,) = model.processor.tokenizer.batch_decode(written, skip_special_tokens=True)
        ((item,),) = handler.predict([example], model)
        assert item.text == " ".join(text.split())


@pytest.mark.parametrize("kind", ["seeing", "hearing"])
def test_clips_are_answered_alike_alone_and_together(kind: str, request: pytest.FixtureRequest) -> None:
    handler = row(request.getfixturevalue(kind))
    loaded = handler.load_model()
    batch = frames() if kind == "seeing" else sounds()
    together = handler.run_inference(batch, loaded)
    assert [answer.clip_id for answer in together] == [example.clip_id for example in batch]
    texts = set()
    for example, answer in zip(batch, together, strict=True):
        (alone,) = handler.run_inference([example], loaded)
        assert answer.error is None
        assert alone.items[0].text == answer.items[0].text
        assert alone.items[0].score == pytest.approx(answer.items[0].score, abs=2e-3)
        assert 0 < answer.items[0].score <= 1
        texts.add(answer.items[0].text)
    assert len(texts) > 1  # the answer depends on what is shown


def test_the_score_is_that_of_the_answers_own_tokens(seeing: Path) -> None:
    handler = row(seeing, max_new_tokens=1)
    model, (example, *_) = handler.load(), frames()
    inputs = model.processor(text=[model.prompt], images=[Image.fromarray(example.view)], return_tensors="pt")
    with torch.inference_mode():
        likeliest = model.model(**inputs).logits[0, -1].softmax(0).max()
    ((item,),) = handler.predict([example], model)
    assert item.score == pytest.approx(float(likeliest), abs=1e-3)


def test_a_model_that_takes_no_question_is_asked_none(hearing: Path) -> None:
    assert "Describe" in row(hearing).load().prompt
    prompt = row(hearing, question="").load().prompt
    assert prompt == "<|im_start|>user\n<|audio_bos|><|AUDIO|><|audio_eos|><|im_end|>\n<|im_start|>assistant\n"


def test_what_is_empty_or_broken_fails_alone(hearing: Path) -> None:
    handler, (good, other) = row(hearing), sounds()
    broken = good.view.copy()
    broken[5] = np.nan
    batch = [good, Example("empty", good.view[:0]), Example("broken", broken), other]
    errors = [answer.error for answer in handler.run_inference(batch, handler.load_model())]
    assert [error is None for error in errors] == [True, False, False, True]


def test_an_architecture_may_be_named_and_has_to_be_one_of_transformers(seeing: Path) -> None:
    named = row(seeing, architecture="Qwen3VLForConditionalGeneration").load()
    assert type(named.model) is Qwen3VLForConditionalGeneration
    for wrong in ("Qwen9", "AutoTokenizer", "logging", "CLIPModel"):
        with pytest.raises(ModelError, match=f"no generating model called '{wrong}'"):
            row(seeing, architecture=wrong).load()


def test_a_model_of_another_rate_or_of_no_sound_is_named(seeing: Path, hearing: Path) -> None:
    with pytest.raises(ModelError, match="hears 16000 Hz; set rate = 16000"):
        row(hearing, rate=48_000).load()
    with pytest.raises(ModelError, match="does not hear"):
        row(seeing, sees="audio").load()


def test_missing_weights_a_missing_template_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    folder = make_seeing(tmp_path / "seeing")
    state = load_file(folder / "model.safetensors")
    some = next(name for name in state if "embed_tokens" in name)
    save_file(
        {name: tensor for name, tensor in state.items() if name != some}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ModelError, match=r"not a whole Qwen3VL.*embed_tokens"):
        row(folder).load()
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    for name in ("chat_template.jinja", "chat_template.json"):
        (folder / name).unlink(missing_ok=True)
    for name in ("processor_config.json", "tokenizer_config.json"):
        path = folder / name
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "chat_template"}))
    with pytest.raises(ModelError, match="no chat template"):
        row(folder).load()
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match="cannot be loaded from"):
        row(folder).load()


@pytest.mark.parametrize("wrong", [{"sees": "smell"}, {"rate": 0}, {"max_new_tokens": 0}])
def test_a_row_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"ha(s|ve) to be"):
        Chat(name="chat", model="./nothing", **wrong)


@pytest.mark.parametrize("kind", FLAMINGOS)
def test_a_flamingo_hears_sounds_of_any_length_when_its_class_is_named(kind: str, tmp_path: Path) -> None:
    name = FLAMINGOS[kind][1].__name__
    handler = row(make_flamingo(tmp_path / "hearing", kind), architecture=name, question="What music is that?")
    model = handler.load()
    long = Example("long", np.random.default_rng(1).normal(0, 0.1, 16_000 * 35).astype(np.float32))
    together = handler.predict([*sounds(), long], model)
    alone = [handler.predict([example], model)[0] for example in (*sounds(), long)]
    assert [[item.text for item in items] for items in together] == [[item.text for item in items] for items in alone]
    assert len({items[0].text for items in together}) == 3


@pytest.mark.parametrize(
    ("handler", "fingerprint"),
    [
        (Chat(name="x", model="org/model", revision="a" * 40), "2fc42f35fc04a5d2"),
        (Chat(name="x", model="org/model", revision="a" * 40, sees="audio"), "1bd8afa4a69de1b7"),
        (Speech(name="x", model="org/model", revision="a" * 40), "bfed1af6bbce9e31"),  # of version 2
    ],
)
def test_what_has_no_effect_in_a_row_changes_no_fingerprint(handler: Chat | Speech, fingerprint: str) -> None:
    assert handler.fingerprint() == fingerprint  # as it was before there were videos and stems
    if isinstance(handler, Chat):
        assert replace(handler, every_s=2.0, most_frames=7, frames_as="images").fingerprint() == fingerprint
        video = replace(handler, sees="video")
        others = (replace(video, every_s=2.0), replace(video, most_frames=7), replace(video, frames_as="images"))
        assert len({row.fingerprint() for row in (handler, video, *others)}) == 5
