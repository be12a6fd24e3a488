"""Labels with their quality: the share of AudioSet's ratings that found a label true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from model_handlers.base import Example, Item
from model_handlers.dataset_labels import DatasetLabels, RatedLabels, qualities
from model_handlers.views import Listed
from model_handlers.weights import ModelError

CLASSES = (
    'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/0912c9,"Vehicle horn, car horn, honking"\n2,/m/0bt9lr,Dog\n'
)
RATINGS = "label_id,num_rated,num_true\n/m/09x0r,10,9\n/m/0912c9,3,1\n/m/0bt9lr,0,0\n"


def handler(folder: Path, ratings: str = RATINGS, classes: str = CLASSES) -> RatedLabels:
    for name, content in (("ratings.csv", ratings), ("classes.csv", classes)):
        (folder / name).write_text(content)
    return RatedLabels(name="labels", ratings=str(folder / "ratings.csv"), classes=str(folder / "classes.csv"))


def test_each_label_has_its_share_of_true_ratings_and_one_that_nobody_rated_has_none(tmp_path: Path) -> None:
    rated = handler(tmp_path)
    listed = Listed(("Dog", "Speech", "Vehicle horn, car horn, honking", "Speech", "Some other dataset's label"))
    (found,) = rated.run_inference([Example("c", listed)], rated.load_model())
    assert found.items == (
        Item("Dog"),
        Item("Speech", 0.9),
        Item("Vehicle horn, car horn, honking", 0.3333),
        Item("Some other dataset's label"),
    )


def test_the_lists_are_part_of_the_fingerprint_by_what_is_in_them_and_of_what_is_fetched(tmp_path: Path) -> None:
    for name in ("moved", "other"):
        (tmp_path / name).mkdir()
    one, same = handler(tmp_path), handler(tmp_path / "moved")
    assert one.fingerprint() == same.fingerprint()
    assert handler(tmp_path / "other", RATINGS.replace("10,9", "100,9")).fingerprint() != one.fingerprint()
    assert one.fingerprint() != DatasetLabels(name="labels").fingerprint()
    assert [reference for reference, *_ in one.references()] == [one.classes, one.ratings]


def test_labels_without_ratings_are_the_cue_that_they_always_were() -> None:
    assert DatasetLabels(name="labels").fingerprint() == "a8cfc27606913f6a"


@pytest.mark.parametrize(
    ("ratings", "classes", "said"),
    [
        ("label,num_rated,num_true\n/m/09x0r,10,9\n", CLASSES, "first line is not label_id,num_rated,num_true"),
        (RATINGS, "mid,display_name\n/m/09x0r,Speech\n", "first line is not index,mid,display_name"),
        (RATINGS + "/m/none,10,5\n", CLASSES, "has no class '/m/none'"),
        (RATINGS.replace("10,9", "9,10"), CLASSES, "10 of 9 ratings are true"),
        (RATINGS.replace("10,9", "10,many"), CLASSES, "'many' is no number"),
        (RATINGS.replace("10,9", "10,-1"), CLASSES, "'-1' is no number"),
        (RATINGS.replace("10,9", "9" * 5000 + ",9"), CLASSES, "'9{40}' is no number"),
        (RATINGS.replace("10,9", "²,1"), CLASSES, "is no number"),
        (RATINGS.replace("10,9", ",9"), CLASSES, "'' is no number"),
        (RATINGS.replace(",num_true", ""), CLASSES, "first line is not label_id,num_rated,num_true"),
        (RATINGS, CLASSES.replace("Dog", "Speech"), "2 classes are called 'Speech'"),
        (RATINGS + "x" * 200_000 + ",1,1\n", CLASSES, "no list at .*field"),
        (RATINGS + '"/m/x,1,1\n', CLASSES, "no list at"),
        (RATINGS.replace("10,9", "10"), CLASSES, "are not 3 values"),
        (RATINGS.replace("10,9", "10,9,8"), CLASSES, "are not 3 values"),
        (RATINGS + "/m/09x0r,10,9\n", CLASSES, "stands there twice"),
        (RATINGS, CLASSES + "3,/m/09x0r,Speech\n", "stands there twice"),
        ("label_id,num_rated,num_true\n", CLASSES, "it is empty"),
        ("", CLASSES, "first line is not"),
    ],
)
def test_a_list_that_is_not_what_it_should_be_is_refused(ratings: str, classes: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"labels: .*{said}.*qa_true_counts"):
        handler(tmp_path, ratings, classes).load_model().get()


@pytest.mark.parametrize("written", [lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n"), str.strip])
def test_a_list_that_a_spreadsheet_wrote_is_read_like_the_published_one(
    written: Callable[[str], str], tmp_path: Path
) -> None:
    rated = handler(tmp_path)
    for path, text in ((rated.ratings, RATINGS), (rated.classes, CLASSES)):
        Path(path).write_bytes(written(text + "\n").encode())
    assert qualities(Path(rated.ratings), Path(rated.classes)) == {
        "Speech": 0.9,
        "Vehicle horn, car horn, honking": 0.3333,
    }


def test_a_list_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    rated = handler(tmp_path)
    (tmp_path / "ratings.csv").write_bytes(b"label_id,num_rated,num_true\n\xff\xfe,1,1\n")
    with pytest.raises(ModelError, match=r"no list at .*ratings\.csv"):
        rated.load_model().get()
    (tmp_path / "ratings.csv").unlink()
    with pytest.raises(ModelError, match=r"labels: .*ratings\.csv"):
        rated.load_model().get()
