"""A rater's way through a sample: what is shown, what is kept, and what comes next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.review.ratings import Review, append, read_reviews
from beam_pipeline.review.session import JudgementError, Sample, Session, phrases, pieces, places
from tests.reviewing import NOW, drawn, judgement, session


@pytest.mark.parametrize(
    ("caption", "marked", "said"),
    [
        ("A red dog, barking loudly.", [1], ("red",)),
        ("A red dog, barking loudly.", [2, 1], ("red dog",)),
        ("A red dog, barking loudly.", [0, 2, 4], ("A", "dog", "loudly")),
        ("A red dog, barking loudly.", [2, 3], ("dog, barking",)),
        ("It – “sings” – again.", [1, 2], ("sings",)),
        ("It – sings.", [1], ()),
        ("一只红狗在叫。", [2, 3], ("红狗",)),
    ],
)
def test_marked_words_are_phrases_and_found_again(caption: str, marked: list[int], said: tuple[str, ...]) -> None:
    assert phrases(caption, marked) == said
    assert phrases(caption, places(caption, said)) == said


@pytest.mark.parametrize(
    ("caption", "marked"),
    [
        ("Dogs bark near a red car.", [3]),
        ("Rain falls in the rain, rain.", [4]),
        ("A dog, a cat and a dog.", [5, 6]),
        ("It – sings.", [1]),
        ("一只红狗在叫，红狗。", [7, 8]),
    ],
)
def test_marked_words_are_marked_again_where_they_were(tmp_path: Path, caption: str, marked: list[int]) -> None:
    of = Session(Sample("/data", 1, 0, (drawn(0, caption),)), "ann", tmp_path)
    first = of.save(0, judgement(0, of, inaudible=marked))
    again = Session(of.sample, "ann", tmp_path)
    again.state()
    assert again.clip(0)["review"]["inaudible"] == marked
    assert (
        again.save(0, judgement(0, again, inaudible=again.clip(0)["review"]["inaudible"])).inaudible == first.inaudible
    )


def test_of_a_review_without_places_whole_words_are_marked(tmp_path: Path) -> None:
    caption = "Dogs bark near a red car."
    of = Session(Sample("/data", 1, 0, (drawn(0, caption),)), "ann", tmp_path)
    append(tmp_path, Review("ann", "clip0", 1, "captions", caption, True, caption, ("a",)))
    of.state()
    assert of.clip(0)["review"]["inaudible"] == [3]


def test_the_words_of_a_caption_are_all_of_it() -> None:
    caption = "  A\tdog’s «bark»…\u2028twice 狗叫 "
    assert [caption[start:end] for start, end in pieces(caption)] == ["A", "dog’s", "«bark»…", "twice", "狗", "叫"]
    with pytest.raises(JudgementError, match="6 words"):
        phrases(caption, [6])
    with pytest.raises(JudgementError, match="6 words"):
        phrases(caption, [-1])


def test_what_is_saved_is_what_was_said(tmp_path: Path) -> None:
    of = session(tmp_path)
    shown = of.clip(2)
    said = judgement(
        2,
        of,
        corresponds=False,
        corrected="  A dog \n barks. ",
        inaudible=[1],
        detail=2,
        hallucination=4,
        cues={"place": False, "tags": True},
        note=" so ",
        seconds=3.14,
    )
    review = of.save(2, said, NOW)
    index = shown["clip_id"].removeprefix("clip")
    assert review == Review(
        "ann",
        f"clip{index}",
        3,
        "captions",
        shown["caption"],
        False,
        "A dog barks.",
        ("red",),
        2,
        4,
        (("tags", True), ("place", False)),
        "so",
        "2026-11-21T22:00:00+00:00",
        3.1,
        f"v{index}",
        (1,),
    )
    assert read_reviews(str(tmp_path)) == [review]
    again = of.clip(2)["review"]
    assert (again["inaudible"], again["seconds"], again["corrected"], again["cues"]) == (
        [1],
        3.1,
        "A dog barks.",
        {"tags": True, "place": False},
    )


def test_an_unchanged_caption_stays_as_it_was_shown(tmp_path: Path) -> None:
    one = drawn(0, "A  dog\u2028barks. ")
    of = Session(Sample("/data", 1, 0, (one,)), "ann", tmp_path)
    assert of.save(0, judgement(0, of, corrected="A dog barks."), NOW).corrected == one.caption


def test_the_rater_goes_on_after_the_last_clip_and_then_at_what_was_left(tmp_path: Path) -> None:
    of = session(tmp_path)
    assert of.state() == {"total": 5, "done": "00000", "start": 0, "file": str(tmp_path / "ann.jsonl")}
    of.save(2, judgement(2, of))
    assert (of.state()["done"], of.state()["start"]) == ("00100", 3)
    other = session(tmp_path)  # another process, a day later
    assert (other.state()["done"], other.state()["start"]) == ("00100", 3)
    for at in (3, 4):
        other.save(at, judgement(at, other))
    assert other.state()["start"] == 0
    assert of.state()["done"] == "00111"  # two windows at once see what the other saved
    for at in (0, 1):
        of.save(at, judgement(at, of))
    assert of.state()["start"] is None
    assert other.count() == 5


def test_raters_do_not_see_each_others_answers(tmp_path: Path) -> None:
    ann, ben = session(tmp_path), session(tmp_path, "ben")
    ann.save(0, judgement(0, ann))
    assert ben.state()["done"] == "00000"
    assert all(ben.clip(at)["review"] is None for at in range(5))
    assert {ann.clip(at)["clip_id"] for at in range(5)} == {ben.clip(at)["clip_id"] for at in range(5)}
    ben.save(1, judgement(1, ben))
    assert ann.figures().raters == ("ann", "ben")


def test_a_clip_whose_caption_was_written_anew_is_judged_anew(tmp_path: Path) -> None:
    of = session(tmp_path, clips=1)
    append(tmp_path, Review("ann", "clip0", 2, "captions", "An older caption.", True, "An older caption."))
    assert of.state()["done"] == "0"
    assert of.clip(0)["review"] is None
    assert of.figures().reviews == 0


def test_what_is_said_of_another_version_leaves_a_clip_judged(tmp_path: Path) -> None:
    old, new = (
        Session(Sample("/data", version, 0, (drawn(0, caption),)), "ann", tmp_path)
        for version, caption in ((1, "An old caption."), (2, "A new caption."))
    )
    old.save(0, judgement(0, old, detail=1))
    new.save(0, judgement(0, new, detail=3))
    for of, detail in ((old, 1), (new, 3)):
        assert (of.state()["done"], of.count(), of.clip(0)["review"]["detail"]) == ("1", 1, detail)
        assert of.figures().reviews == 1


def test_what_nobody_sees_is_no_part_of_a_corrected_caption(tmp_path: Path) -> None:
    of = session(tmp_path)
    assert of.save(0, judgement(0, of, corrected="A \u200bdog\u0000 \u202ebarks.\x1b")).corrected == "A dog barks."
    persian = "سگ پارس می\u200cکند."
    assert of.save(0, judgement(0, of, corrected=persian)).corrected == persian
    hidden = Session(Sample("/data", 1, 0, (drawn(0, "A\u200b dog."), drawn(1, "..."))), "ben", tmp_path)
    for at in (0, 1):  # what is not edited stays as it was shown
        assert hidden.save(at, judgement(at, hidden)).corrected == hidden.clip(at)["caption"]


def test_how_a_clip_ended_is_not_told(tmp_path: Path) -> None:
    assert session(tmp_path).clip(0).keys() == {"at", "clip_id", "caption", "words", "cues", "review"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clip_id": "clip9"}, "another clip"),
        ({"corrected": " \n"}, "at least one word"),
        ({"corrected": "\u200b"}, "at least one word"),
        ({"corrected": "… !"}, "at least one word"),
        ({"cues": {"speech": True}}, "none called speech"),
        ({"inaudible": [6]}, "6 words"),
    ],
)
def test_what_does_not_fit_the_clip_is_refused_and_nothing_kept(
    tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    of = session(tmp_path)
    with pytest.raises(JudgementError, match=message):
        of.save(0, judgement(0, of, **wrong))
    for at in (-1, 5):
        with pytest.raises(IndexError):
            of.save(at, judgement(0, of))
    assert list(tmp_path.iterdir()) == []
