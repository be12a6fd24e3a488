"""Image captions by BLIP-2: the demo's model says what is there, and the handler loads and runs any BLIP-2 alike."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from rich.progress import Progress
from safetensors.torch import load_file, save_file
from transformers import Blip2ForConditionalGeneration, OPTConfig, OPTForCausalLM

from demo.train_image_caption import draw_pictures, make_model, make_processor, train
from demo.training import TRAINING_SEED, training_scenes
from demo.world import PLACES, SOURCES, image_caption, make_scene, make_scenes, render_frame, write_clip
from model_handlers.base import Example, Item, Loaded
from model_handlers.image_caption import Captioner, ImageCaption, _items
from model_handlers.views import MiddleFrame
from model_handlers.weights import ModelError, local_path
from transforms.media import Limits, decode

pytestmark = pytest.mark.usefixtures("one_thread")

DEMO = "pkg://demo/models/image_caption"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def handler():
    return ImageCaption(name="image_caption", model=DEMO, device="cpu")


@pytest.fixture(scope="module")
def captioner(handler):
    return handler.load()


@pytest.fixture
def folder(tmp_path):
    """A copy of the demo's model that a test may spoil."""
    return shutil.copytree(local_path(DEMO), tmp_path / "model")


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(150, 12, "good")


@pytest.fixture(scope="module")
def examples(scenes):
    """Frames of different sizes, as clips have them."""
    sizes = [(320, 240), (640, 480), (200, 150)]
    return [Example(s.clip_id, render_frame(s, 5.0, *sizes[i % 3])) for i, s in enumerate(scenes)]


def test_demo_model_captions_scenes_it_never_saw(handler, captioner, scenes, examples):
    answers = handler.run_inference(examples, Loaded.of(captioner))
    assert [a.error for a in answers] == [None] * len(scenes)
    right = [a.items[0].text == image_caption(s) for a, s in zip(answers, scenes, strict=True)]
    assert sum(right) >= 11
    assert all(0 < a.items[0].score <= 1 for a in answers)


def test_demo_model_captions_the_middle_frame_of_a_real_clip(handler, captioner, tmp_path):
    scene = make_scene(151, 0, duration_s=2.0)
    write_clip(scene, tmp_path / "clip.mp4")
    frame = decode(tmp_path / "clip.mp4", 0.0, None, handler.view, Limits())
    (items,) = handler.predict([Example(scene.clip_id, frame)], captioner)
    assert items[0].text == image_caption(scene)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_answer_does_not_depend_on_batch_mates(captioner, examples, num_beams):
    handler = ImageCaption(name="image_caption", model=DEMO, num_beams=num_beams)
    together = handler.predict(examples, captioner)
    alone = [handler.predict([example], captioner)[0] for example in examples]
    assert [items[0].text for items in together] == [items[0].text for items in alone]
    assert [items[0].score for items in together] == pytest.approx([items[0].score for items in alone], abs=2e-4)
    assert len({len(items[0].text.split()) for items in together}) > 1  # captions of several lengths were padded


@pytest.mark.parametrize("num_beams", [1, 3])
def test_score_is_the_geometric_mean_of_the_tokens_probabilities(captioner, examples, num_beams):
    handler = ImageCaption(name="image_caption", model=DEMO, num_beams=num_beams)
    # A tiny step off the trained weights' certainty, so that there is something to average.
    noisy = [Example(e.clip_id, np.roll(e.view, 40, axis=(0, 1)) // 2) for e in examples[:4]]
    tokenizer = captioner.processor.tokenizer
    for example, ((item,)) in zip(noisy, handler.predict(noisy, captioner), strict=True):
        inputs = captioner.processor(
            images=example.view, text=f"{item.text} {tokenizer.eos_token}", return_tensors="pt"
        )
        words = inputs["input_ids"][0, -len(item.text.split()) - 1 :]
        with torch.inference_mode():
            logits = captioner.model(**inputs).logits[0, -len(words) - 1 : -1]
        chosen = logits.log_softmax(-1)[torch.arange(len(words)), words]
        assert item.score == pytest.approx(math.exp(chosen.mean()), abs=2e-4)


def test_caption_continues_the_prompt_and_leaves_it_out(examples, scenes):
    scene = next(s for s in scenes if len(s.sources) == 1)
    example = examples[scenes.index(scene)]
    handler = ImageCaption(name="image_caption", model=DEMO, prompt=SOURCES[scene.sources[0]].phrase)
    (items,) = handler.predict([example], handler.load())
    assert items[0].text == PLACES[scene.place].phrase


def test_caption_ends_after_max_new_tokens(captioner, examples):
    handler = ImageCaption(name="image_caption", model=DEMO, max_new_tokens=2)
    assert [len(items[0].text.split()) for items in handler.predict(examples, captioner)] == [2] * len(examples)


def test_half_precision_as_on_a_gpu_says_the_same(handler, captioner, examples):
    half = Blip2ForConditionalGeneration.from_pretrained(local_path(DEMO), dtype=torch.float16).eval()
    answers = handler.predict(examples, Captioner(half, captioner.processor, None))
    assert [items[0].text for items in answers] == [i[0].text for i in handler.predict(examples, captioner)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_says_the_same(handler, captioner, examples):
    on_gpu = ImageCaption(name="image_caption", model=DEMO, device="cuda")
    answers = on_gpu.predict(examples, on_gpu.load())
    assert [items[0].text for items in answers] == [i[0].text for i in handler.predict(examples, captioner)]


def test_frame_that_is_none_fails_alone(handler, captioner, examples):
    bad = Example("bad", np.zeros((0, 3), np.uint8))
    answers = handler.run_inference([examples[0], bad, examples[1]], Loaded.of(captioner))
    assert [a.error is None for a in answers] == [True, False, True]


def test_text_is_cleaned_and_silence_gives_no_item():
    assert _items(" a dog\n on  a beach ", 0.0) == (Item("a dog on a beach", score=1.0),)
    assert _items(" \n", -1.0) == ()


def test_overflow_in_half_precision_is_an_error_and_no_score():
    with pytest.raises(FloatingPointError, match="half precision"):
        _items("a dog", math.nan)


def test_hub_id_loads_by_the_same_code(handler, captioner, examples, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    shutil.copytree(local_path(DEMO), tmp_path / "models--org--blip2" / "snapshots" / COMMIT)
    from_hub = ImageCaption(name="image_caption", model="org/blip2", revision=COMMIT, device="cpu")
    assert from_hub.predict(examples[:2], from_hub.load()) == handler.predict(examples[:2], captioner)


def test_weights_in_several_files_are_loaded(folder, handler, captioner, examples):
    captioner.model.save_pretrained(folder / "sharded", max_shard_size="500KB")
    (folder / "model.safetensors").unlink()
    for file in (folder / "sharded").iterdir():
        file.rename(folder / file.name)
    assert (folder / "model.safetensors.index.json").exists()
    sharded = ImageCaption(name="image_caption", model=str(folder), device="cpu")
    assert sharded.predict(examples[:2], sharded.load()) == handler.predict(examples[:2], captioner)


@pytest.mark.parametrize("file", ["config.json", "processor_config.json", "tokenizer.json", "model.safetensors"])
def test_folder_that_lacks_a_file_is_refused_by_name(folder, file):
    (folder / file).unlink()
    with pytest.raises(ModelError, match=rf"lacks .*{file}.*save_pretrained"):
        ImageCaption(name="image_caption", model=str(folder)).load()


def _cut_short(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def _without_a_tensor(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["language_projection.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _without_image_tokens(folder):
    file = folder / "processor_config.json"
    settings = json.loads(file.read_text())
    del settings["num_query_tokens"]
    file.write_text(json.dumps(settings))


def _not_json(folder):
    (folder / "config.json").write_text("<html>404</html>")


def _another_architecture(folder):
    shape = {"hidden_size": 16, "word_embed_proj_dim": 16, "ffn_dim": 16, "num_hidden_layers": 1, "vocab_size": 9}
    OPTForCausalLM(OPTConfig(num_attention_heads=2, max_position_embeddings=8, **shape)).save_pretrained(folder)


@pytest.mark.parametrize(
    "spoil", [_cut_short, _without_a_tensor, _without_image_tokens, _not_json, _another_architecture]
)
def test_model_that_is_not_whole_stops_the_run_with_a_message(folder, spoil):
    spoil(folder)
    with pytest.raises(ModelError, match=rf"{folder}.*(get the files again|save_pretrained)"):
        ImageCaption(name="image_caption", model=str(folder)).load()


def test_view_is_the_middle_frame_and_parameters_are_in_the_fingerprint(handler):
    assert handler.view == MiddleFrame()
    others = [{"prompt": "a photo of"}, {"max_new_tokens": 20}, {"num_beams": 3}]
    fingerprints = {ImageCaption(name="image_caption", model=DEMO, **other).fingerprint() for other in [{}, *others]}
    assert len(fingerprints) == 4
    assert ImageCaption(name="image_caption", model=DEMO, batch_size=1).fingerprint() in fingerprints


def test_training_is_deterministic_and_moves_every_part():
    processor = make_processor()
    with Progress(disable=True) as progress:
        pictures = draw_pictures(3, processor, progress)
        first, second = (train(pictures, processor, 3, progress).state_dict() for _ in range(2))
    torch.manual_seed(TRAINING_SEED)
    untrained = make_model(processor).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    for part in ("vision_model", "qformer", "language_projection", "language_model", "query_tokens"):
        assert any(not torch.equal(first[n], untrained[n]) for n in first if n.startswith(part)), part


def test_training_never_sees_held_out_scenes():
    scenes = list(training_scenes(6))
    assert [len(scene.sources) for scene in scenes] == [1, 2, 1, 2, 1, 2]
    assert all(scene.clip_id.startswith("demo1000_") and not scene.faults for scene in scenes)
