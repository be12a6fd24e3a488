import pytest

from model_handlers.base import Item
from model_handlers.synchronisation import Draw, to_item
from transforms.filters import drop_labels, drop_no_audio, drop_out_of_sync, drop_silent, first_verdict
from transforms.records import Clip, Cue, CueSheet

ALL_OF = ("Speech", "Music")


def labelled(*labels: str, source: str = "audioset") -> Clip:
    return Clip("a", "a.mp4", 0.0, 10.0, source=source, labels=labels, origin="list.csv:4")


def sheet(*items: Item, name: str = "synchronisation", skipped: str = "", source: str = "audioset") -> CueSheet:
    return CueSheet(labelled(source=source), (Cue("a", name, "f" * 16, "model", items, skipped),))


def evaluations(*pairs: tuple[int, int]) -> tuple[Item, ...]:
    """Items of evaluations with the given (true, predicted) classes."""
    items = []
    for true, predicted in pairs:
        probabilities = [0.01] * 21
        probabilities[predicted] = 0.8
        items.append(to_item(Draw(true, 0, 0), probabilities))
    return tuple(items)


def test_speech_and_music_together_are_dropped_with_the_labels_as_evidence() -> None:
    verdict = drop_labels(labelled("Speech", "Dog", "Music"), ALL_OF, ("audioset",))
    assert verdict == ("labelled_speech_and_music", "labels: Speech, Dog, Music")


@pytest.mark.parametrize(
    "clip", [labelled("Speech"), labelled("Music"), labelled(), labelled("Speech", "Music", source="vggsound")]
)
def test_one_of_the_labels_or_another_source_is_kept(clip: Clip) -> None:
    assert drop_labels(clip, ALL_OF, ("audioset",)) is None


def test_a_rule_without_sources_holds_for_every_source() -> None:
    assert drop_labels(labelled("Speech", "Music", source="mine"), ALL_OF, ()) is not None


def test_the_papers_rule_keeps_a_clip_with_one_right_evaluation_of_five_and_drops_it_with_none() -> None:
    wrong = (0, 20)
    within = (10, 13)  # three classes of 0.2 s: 0.6 s
    outside = (10, 14)
    assert (
        drop_out_of_sync(sheet(*evaluations(wrong, wrong, wrong, wrong, within)), "synchronisation", 1, 3, 0.0, ())
        is None
    )
    verdict = drop_out_of_sync(
        sheet(*evaluations(wrong, wrong, wrong, wrong, outside)), "synchronisation", 1, 3, 0.0, ()
    )
    assert verdict is not None
    reason, evidence = verdict
    assert reason == "out_of_sync"
    assert "0 of 5 evaluations right, required 1" in evidence
    assert "+0.0 s heard as +0.8 s" in evidence
    assert "-2.0 s heard as +2.0 s" in evidence


@pytest.mark.parametrize(("required", "kept"), [(1, True), (3, True), (4, False), (5, False)])
def test_a_stricter_rule_needs_no_new_inference(required: int, kept: bool) -> None:
    three_right = sheet(*evaluations((5, 5), (6, 6), (7, 8), (2, 12), (3, 13)))
    assert (drop_out_of_sync(three_right, "synchronisation", required, 3, 0.0, ()) is None) is kept


def test_a_right_guess_that_the_model_is_not_sure_of_may_be_asked_not_to_count() -> None:
    diffuse = to_item(Draw(10, 0, 0), [0.04] * 10 + [0.2] + [0.04] * 10)
    assert drop_out_of_sync(sheet(diffuse), "synchronisation", 1, 3, 0.0, ()) is None
    assert drop_out_of_sync(sheet(diffuse), "synchronisation", 1, 3, 0.5, ()) is not None
    assert drop_out_of_sync(sheet(*evaluations((10, 10))), "synchronisation", 1, 3, 0.5, ()) is None


def test_a_clip_that_could_not_be_evaluated_is_kept() -> None:
    assert drop_out_of_sync(sheet(skipped="no video track"), "synchronisation", 5, 3, 0.0, ()) is None
    assert drop_out_of_sync(sheet(), "synchronisation", 5, 3, 0.0, ()) is None


def test_the_sync_rule_may_be_limited_to_sources() -> None:
    bad = sheet(*evaluations((0, 20)), source="vggsound")
    assert drop_out_of_sync(bad, "synchronisation", 1, 3, 0.0, ("audioset",)) is None
    assert drop_out_of_sync(bad, "synchronisation", 1, 3, 0.0, ("vggsound",)) is not None


def test_silence_and_a_missing_sound_track_are_told_apart() -> None:
    silent = sheet(Item("peak", -91.0), Item("rms", -95.0), name="loudness")
    assert drop_silent(silent, "loudness", -60.0) == ("silent", "peak -91.0 dBFS, required -60")
    assert drop_silent(sheet(Item("peak", -59.9), name="loudness"), "loudness", -60.0) is None
    assert drop_no_audio(sheet(name="loudness", skipped="no audio track"), "loudness") == ("no_audio", "no audio track")
    assert drop_no_audio(silent, "loudness") is None


def test_the_first_filter_that_drops_gives_the_reason() -> None:
    clip = labelled("Speech", "Music")
    checks = (lambda c: None, lambda c: ("second", ""), lambda c: ("third", ""))
    assert first_verdict(clip, checks) == ("second", "")
    assert first_verdict(clip, ()) is None
