"""Chat models that are shown a few frames of a video with their times. The models are tiny and random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from model_handlers.base import Example
from model_handlers.chat import Chat
from model_handlers.views import Moments, MomentsView
from model_handlers.weights import ModelError
from tests.media_files import write_clip
from tests.test_chat import SPECIALS, TEMPLATE, TEXT, make_seeing, make_tokenizer
from transforms.media import decode

pytestmark = pytest.mark.usefixtures("one_thread")

WITH_VIDEO = TEMPLATE.replace(
    "{% elif part.type == 'audio' %}",
    "{% elif part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{% elif part.type == 'audio' %}",
)
PIXELS = {"patch_size": 8, "size": {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}}


def make_qwen3(folder: Path) -> Path:
    make_seeing(folder)
    (folder / "chat_template.jinja").write_text(WITH_VIDEO)
    return folder


def make_qwen2_5(folder: Path) -> Path:
    tokenizer = make_tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 8}
    vision |= {"out_hidden_size": 32, "window_size": 32, "fullatt_block_indexes": [0], "tokens_per_second": 2}
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 2, 2]}
    config = Qwen2_5_VLConfig(
        text_config={**TEXT, "vocab_size": len(tokenizer), "rope_parameters": rope},
        vision_config=vision,
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    return saved(
        folder,
        Qwen2_5_VLForConditionalGeneration,
        config,
        Qwen2_5_VLProcessor(
            Qwen2VLImageProcessor(**PIXELS), tokenizer, Qwen2VLVideoProcessor(**PIXELS), chat_template=WITH_VIDEO
        ),
    )


def make_idefics3(folder: Path) -> Path:
    """As SmolVLM is one, whose processor wants one package more: it takes pictures only."""
    tokenizer = make_tokenizer()
    marks = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    tokenizer.add_special_tokens({"additional_special_tokens": [*SPECIALS, *marks]})
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 8}
    config = Idefics3Config(
        text_config={**TEXT, "model_type": "llama", "vocab_size": len(tokenizer)},
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    size = {"longest_edge": 32}
    images = Idefics3ImageProcessor(size=size, max_image_size=size, do_image_splitting=False)
    template = TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<image>")
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=template)
    return saved(folder, Idefics3ForConditionalGeneration, config, processor)


def saved(folder: Path, kind: Any, config: Any, processor: Any) -> Path:
    torch.manual_seed(0)
    model = kind(config)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


KINDS = {"qwen3": make_qwen3, "qwen2_5": make_qwen2_5, "idefics3": make_idefics3}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: make(tmp_path_factory.mktemp(kind)) for kind, make in KINDS.items()}


def row(folder: Path, **changes: Any) -> Chat:
    return Chat(name="video", model=str(folder), **{"sees": "video", "max_new_tokens": 8, "device": "cpu", **changes})


def video(count: int, size: tuple[int, int] = (32, 48), every_s: float = 1.0, seed: int = 0) -> MomentsView:
    frames = np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    return MomentsView(frames, np.arange(count) * every_s)


def batch() -> list[Example]:
    """Videos of different lengths, sizes and paces; one has one frame only."""
    views = [video(4), video(7, (48, 32), 0.5, 1), video(1, seed=2), video(4, seed=3)]
    return [Example(f"c{n}", view) for n, view in enumerate(views)]


def test_the_view_is_what_the_row_asks_for() -> None:
    view = row(Path("x"), every_s=2.0, most_frames=8, short_side=224).view
    assert view == Moments(2.0, 8, 224)
    assert "seen" in row(Path("x")).told


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames_as", ["auto", "images"])
def test_videos_are_answered_alike_alone_and_together(folders: dict[str, Path], kind: str, frames_as: str) -> None:
    handler = row(folders[kind], frames_as=frames_as)
    loaded = handler.load_model()
    assert loaded.get().as_video == (frames_as == "auto" and kind != "idefics3")
    together = handler.run_inference(batch(), loaded)
    assert [answer.error for answer in together] == [None] * 4
    for example, answer in zip(batch(), together, strict=True):
        (alone,) = handler.run_inference([example], loaded)
        assert alone.items[0].text == answer.items[0].text
        assert alone.items[0].score == pytest.approx(answer.items[0].score, abs=2e-3)
    assert len({answer.items[0].text for answer in together}) > 1


@pytest.mark.parametrize("kind", ["qwen3", "qwen2_5"])
def test_a_video_is_given_as_transformers_own_call_gives_it(folders: dict[str, Path], kind: str) -> None:
    handler = row(folders[kind], every_s=0.5)
    model = handler.load()
    view = video(6, every_s=0.5)
    metadata = {"fps": 2.0, "frames_indices": list(range(6)), "total_num_frames": 6, "duration": 3.0}
    expected = model.processor(
        text=[model.prompt],
        videos=[view.frames],
        video_metadata=[metadata],
        do_sample_frames=False,
        return_tensors="pt",
    )
    given = handler._inputs(model, [view])
    assert given.keys() == expected.keys()
    for name in expected:
        assert torch.equal(torch.as_tensor(given[name]), torch.as_tensor(expected[name])), name


def test_the_models_are_told_when_each_frame_is_shown(folders: dict[str, Path]) -> None:
    late = MomentsView(video(4).frames, np.array([0.4, 2.0, 4.0, 6.0]))
    handler = row(folders["qwen3"])
    model = handler.load()
    said = model.processor.tokenizer.decode(handler._inputs(model, [late])["input_ids"][0])
    assert "<1.2 seconds>" in said  # Qwen3-VL looks at two at a time
    assert "<5.0 seconds>" in said
    handler = row(folders["qwen2_5"])
    assert handler._inputs(handler.load(), [video(4, every_s=2.0)])["second_per_grid_ts"].tolist() == [4.0]
    for kind in KINDS:
        handler = row(folders[kind], frames_as="images")
        model = handler.load()
        far = MomentsView(video(4).frames, np.array([0.4, 9.5, 61.0, 600.0]))
        said = model.processor.tokenizer.decode(handler._inputs(model, [far])["input_ids"][0])
        marks = [said.index(stamp) for stamp in ("00:00: <", "00:09: <", "01:01: <", "10:00: <")]
        assert marks == sorted(marks)
        assert said.index(handler.question) > marks[-1]


def test_pictures_with_times_are_what_transformers_own_call_makes_of_them(folders: dict[str, Path]) -> None:
    handler = row(folders["idefics3"], question="What is seen?")
    model, view = handler.load(), video(2)
    parts = [{"type": "text", "text": "00:00: "}, {"type": "image"}, {"type": "text", "text": "\n00:01: "}]
    parts += [{"type": "image"}, {"type": "text", "text": "\n"}, {"type": "text", "text": "What is seen?"}]
    prompt = model.processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
    images = [[Image.fromarray(frame) for frame in view.frames]]
    inputs = model.processor(text=[prompt], images=images, return_tensors="pt")
    written = model.model.generate(**inputs, max_new_tokens=8, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    (text,) = model.processor.tokenizer.batch_decode(written, skip_special_tokens=True)
    ((item,),) = handler.predict([Example("c", view)], model)
    assert item.text == " ".join(text.split())


def test_a_real_clip_is_described(folders: dict[str, Path], tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c.mp4", seconds=3.0)
    for kind in KINDS:
        handler = row(folders[kind], short_side=48)
        (answer,) = handler.run_inference([Example("c", decode(path, 0.0, None, handler.view))], handler.load_model())
        assert answer.error is None
        assert answer.items


def test_a_video_without_a_frame_fails_alone(folders: dict[str, Path]) -> None:
    handler = row(folders["qwen2_5"])
    good, other, *_ = batch()
    bad = Example("bad", MomentsView(video(1).frames[:0], np.zeros(0)))
    answers = handler.run_inference([good, bad, other], handler.load_model())
    assert [answer.error is None for answer in answers] == [True, False, True]


def test_a_model_that_takes_no_video_gets_pictures_or_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="takes no video; set frames_as = 'images'"):
        row(folders["idefics3"], frames_as="video").load()
    no_video = make_seeing(tmp_path / "seeing")  # its template knows no videos
    assert not row(no_video).load().as_video
    with pytest.raises(ModelError, match="takes no video"):
        row(no_video, frames_as="video").load()


@pytest.mark.parametrize("wrong", [{"every_s": 0.0}, {"most_frames": 0}, {"short_side": 0}])
def test_a_row_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"ha(s|ve) to be"):
        row(Path("nothing"), **wrong)
