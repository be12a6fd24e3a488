"""Place: the demo's trained ResNet-50, and the published format at full size with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.models import resnet50

from beam_pipeline.config import load_profile
from demo.train_place import INDOOR
from demo.world import make_scenes, render_frame
from model_handlers.base import Example
from model_handlers.place import CATEGORIES, INDOOR_OUTDOOR, Place, prepare, readable
from model_handlers.weights import ModelError


def write_lists(folder: Path, count: int) -> None:
    (folder / CATEGORIES).write_text("".join(f"/p/place_{n} {n}\n" for n in range(count)))
    (folder / INDOOR_OUTDOOR).write_text("".join(f"/p/place_{n} {n % 2 + 1}\n" for n in range(count)))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """A random checkpoint in the published layout and size, and torchvision's network with the same weights."""
    folder = tmp_path_factory.mktemp("places365")
    torch.manual_seed(0)
    net = resnet50(num_classes=365).eval()
    state = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"epoch": 90, "arch": "resnet50", "state_dict": state}, folder / "resnet50_places365.pth.tar")
    write_lists(folder, 365)
    return folder, net


def frames(count: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (240 + 30 * n, 320, 3), dtype=np.uint8) for n in range(count)]


def test_the_published_format_gives_what_torchvision_gives_after_the_papers_preprocessing(
    published: tuple[Path, torch.nn.Module],
) -> None:
    folder, net = published
    steps = [transforms.Resize((256, 256)), transforms.CenterCrop(224), transforms.ToTensor()]
    steps.append(transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.inference_mode():
        pictures = torch.stack([transforms.Compose(steps)(Image.fromarray(frame)) for frame in frames()])
        expected = net(pictures).softmax(1).numpy()
    handler = Place(name="place", model=str(folder), top=365, precision="fp32")
    answers = handler.predict([Example(str(n), frame) for n, frame in enumerate(frames())], handler.load())
    for items, row in zip(answers, expected, strict=True):
        *places, side = items
        scores = {item.text: item.score for item in places}
        np.testing.assert_allclose([scores[f"place {n}"] for n in range(365)], row, atol=1e-6)
        outdoor = row[1::2].sum()
        assert side.text == ("outdoor" if outdoor > 0.5 else "indoor")
        assert side.score == pytest.approx(max(outdoor, 1 - outdoor), abs=1e-5)


def test_preprocessing_of_known_colours() -> None:
    frame = np.zeros((100, 300, 3), np.uint8)
    frame[..., 0] = 255
    picture = prepare(frame)
    assert picture.shape == (3, 224, 224)
    assert picture.dtype == torch.float32
    expected = torch.tensor([(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    torch.testing.assert_close(picture[:, 100, 100], expected)


def test_the_demo_model_knows_the_place_and_whether_it_is_indoors() -> None:
    (handler,) = (h for h in load_profile("demo").handlers() if h.name == "place")
    scenes = make_scenes(4321, 20, "good")
    batch = [Example(scene.clip_id, render_frame(scene, 5.0)) for scene in scenes]
    answers = handler.predict(batch, handler.load())
    assert sum(items[0].text == scene.place for scene, items in zip(scenes, answers, strict=True)) >= 19
    sides = ["indoor" if scene.place in INDOOR else "outdoor" for scene in scenes]
    assert sum(items[-1].text == side for side, items in zip(sides, answers, strict=True)) >= 19


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/a/airfield", "airfield"),
        ("/a/art_gallery", "art gallery"),
        ("/a/apartment_building/outdoor", "apartment building, outdoor"),
        ("beach", "beach"),
    ],
)
def test_names_are_made_readable(name: str, words: str) -> None:
    assert readable(name) == words


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (CATEGORIES, None, "no list at"),
        (CATEGORIES, "/a/airfield\n", "not lines of a name and a number"),
        (CATEGORIES, "/a/a 0\n/a/b 2\n", "are not 0 to 1"),
        (CATEGORIES, "/a/a 0\n/a/a 1\n", "stands there twice"),
        (INDOOR_OUTDOOR, "/p/place_0 1\n", "does not say 1 or 2"),
        (INDOOR_OUTDOOR, "".join(f"/p/place_{n} 3\n" for n in range(365)), "does not say 1 or 2"),
    ],
)
def test_lists_that_do_not_fit_are_named(
    published: tuple[Path, torch.nn.Module], tmp_path: Path, file: str, content: str | None, message: str
) -> None:
    (tmp_path / "net.pth.tar").symlink_to(published[0] / "resnet50_places365.pth.tar")
    write_lists(tmp_path, 365)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_text(content)
    with pytest.raises(ModelError, match=message):
        Place(name="place", model=str(tmp_path)).load()


def test_checkpoints_that_do_not_fit_are_named(published: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    handler = Place(name="place", model=str(tmp_path))
    with pytest.raises(ModelError, match="0 files"):
        handler.load()
    write_lists(tmp_path, 365)
    checkpoint = tmp_path / "net.pth"
    checkpoint.write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="cannot be read"):
        handler.load()
    state = torch.load(published[0] / "resnet50_places365.pth.tar", weights_only=True)["state_dict"]
    missing = {name: tensor for name, tensor in state.items() if "layer3.5" not in name}
    torch.save({"state_dict": missing}, checkpoint)
    with pytest.raises(ModelError, match=r"layer3\.5"):
        handler.load()
    torch.save({"state_dict": state}, checkpoint)
    write_lists(tmp_path, 364)
    with pytest.raises(ModelError, match="365 classes, but 364 are named"):
        handler.load()
