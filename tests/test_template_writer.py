import pytest

from model_handlers.base import Item
from model_handlers.template_writer import TemplateWriter
from model_handlers.writers import Brief


def written(tags: list[tuple[str, float]], scene: str, clip_id: str = "clip", **fields: float) -> str:
    cues = {"audio_tags": tuple(Item(t, s) for t, s in tags), "image_caption": (Item(scene),)}
    return TemplateWriter(**fields).sentence(Brief(clip_id, cues)).caption  # type: ignore[arg-type]


def test_a_sentence_names_what_sounds_and_where() -> None:
    caption = written([("Dog", 0.9)], "a dog on a beach")
    assert "a dog" in caption.lower()
    assert "on a beach" in caption
    assert caption[0].isupper()
    assert caption.endswith(".")


def test_what_is_only_seen_is_not_written() -> None:
    assert "bell" not in written([("Dog", 0.9)], "a bell and a red car in a kitchen").lower()


@pytest.mark.parametrize(
    ("scene", "place"),
    [
        ("a dog on a chair in a kitchen", "in a kitchen"),
        ("a man in a red hat beside a bell", ""),
        ("a bird on a red car on a beach", "on a beach"),
    ],
)
def test_only_the_phrase_that_ends_the_image_caption_is_taken_for_a_place(scene: str, place: str) -> None:
    caption = written([("Frog", 0.9)], scene)
    assert caption.rstrip(".").endswith(place or ("heard", "sounds"))
    for word in ("chair", "hat", "bell", "car", "red"):
        assert word not in caption


def test_what_is_heard_but_not_seen_is_named_by_its_tag() -> None:
    assert "vehicle horn" in written([("Vehicle horn, car horn, honking", 0.8)], "a tree in a park").lower()


def test_unsure_tags_stay_out() -> None:
    assert "cat" not in written([("Dog", 0.9), ("Cat", 0.1)], "a dog").lower()


def test_several_sounds_are_enumerated() -> None:
    caption = written([("Dog", 0.9), ("Bell", 0.8), ("Frog", 0.7)], "a cave")
    assert "dog, bell and frog" in caption.lower()


def test_without_a_sure_tag_the_writer_abstains_and_says_why() -> None:
    draft = TemplateWriter().sentence(Brief("clip", {"audio_tags": (Item("Dog", 0.2),)}))
    assert not draft.caption
    assert "0.3" in draft.abstained
    assert "0.20" in draft.abstained


def test_the_same_clip_always_gets_the_same_sentence_and_clips_differ() -> None:
    sentences = {written([("Dog", 0.9), ("Bell", 0.9)], "a dog in a cave", f"clip{i}") for i in range(20)}
    again = {written([("Dog", 0.9), ("Bell", 0.9)], "a dog in a cave", f"clip{i}") for i in range(20)}
    assert sentences == again
    assert len(sentences) > 1


@pytest.mark.parametrize("scene", ["", "(((", "on a", "A DOG ON A BEACH.", "dog\nin a cave", "\\1 at the \x00"])
def test_odd_image_captions_do_no_harm(scene: str) -> None:
    assert written([("Dog (a+b)*", 0.9)], scene).endswith(".")


def test_the_fingerprint_follows_the_parameters() -> None:
    assert TemplateWriter().fingerprint() == TemplateWriter().fingerprint()
    assert TemplateWriter().fingerprint() == TemplateWriter(batch_size=3).fingerprint()
    assert TemplateWriter().fingerprint() != TemplateWriter(min_score=0.5).fingerprint()
