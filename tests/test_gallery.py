"""Which clips a report shows, what it makes of captions and cues, and what it says where media cannot be shown."""

from __future__ import annotations

import base64
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from beam_pipeline.excerpts import Excerpts
from beam_pipeline.report import gallery
from beam_pipeline.report.gallery import Sample, exhibits
from beam_pipeline.report.phrases import linked, shown_cues
from model_handlers.audio_embedding import embedding_item
from model_handlers.base import Item
from tests.media_files import write_clip
from transforms.avro import to_record
from transforms.records import Attempt, Caption, Clip, Cue, Failure, Pair, Rejection, SoundEvent, Version
from transforms.remote import Patience

Named = tuple[str, dict[str, Any]]


def captions(count: int, names: str = "c") -> list[Named]:
    return [("captions", to_record(Caption(Clip(f"{names}{n}", ""), "A dog barks.", "w", ()))) for n in range(count)]


def rejected(reason: str, count: int) -> list[Named]:
    return [("rejected", to_record(Rejection(Clip(f"{reason}{n}", ""), reason, "why"))) for n in range(count)]


def failed(step: str, count: int) -> list[Named]:
    return [("failed", to_record(Failure(Clip(f"{step}{n}", ""), step, "what"))) for n in range(count)]


def drawn(rows: Iterable[Named], clips: int = 60, seed: int = 0) -> list[Caption | Rejection | Failure]:
    sample = Sample(clips, seed)
    for name, row in rows:
        sample.add(name, row)
    return [outcome for outcome, _ in sample.drawn()]


def ends(outcomes: list[Any]) -> dict[str, int]:
    names = {Caption: "", Rejection: "reason", Failure: "step"}
    return dict(Counter(getattr(it, names[type(it)], type(it).__name__) for it in outcomes))


def test_two_thirds_are_captions_a_quarter_rejected_and_no_reason_is_missing_however_rare() -> None:
    rows = [
        *captions(500),
        *rejected("common", 300),
        *rejected("rare", 1),
        *rejected("other", 200),
        *failed("media", 90),
    ]
    assert ends(drawn(rows)) == {"Caption": 40, "common": 7, "other": 7, "rare": 1, "media": 5}


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([*captions(500)], {"Caption": 60}),
        ([*captions(10), *rejected("silent", 500)], {"Caption": 10, "silent": 50}),
        ([*captions(500), *failed("media", 2)], {"Caption": 58, "media": 2}),
        ([*captions(3), *rejected("silent", 2), *failed("media", 1)], {"Caption": 3, "silent": 2, "media": 1}),
        ([], {}),
    ],
)
def test_what_one_end_lacks_the_others_get(rows: list[Named], wanted: dict[str, int]) -> None:
    assert ends(drawn(rows)) == wanted


@pytest.mark.parametrize("clips", [0, 1, 2, 3, 7])
def test_there_are_never_more_clips_than_were_asked_for(clips: int) -> None:
    rows = [*captions(50), *rejected("silent", 50), *failed("media", 50)]
    assert len(drawn(rows, clips)) == clips


def test_the_draw_depends_on_the_seed_and_neither_on_the_order_of_records_nor_on_new_ones_at_their_end() -> None:
    rows = [*captions(200), *rejected("silent", 50)]
    ids = [it.clip.clip_id for it in drawn(rows)]
    assert ids == [it.clip.clip_id for it in drawn(random.Random(1).sample(rows, len(rows)))]
    assert ids != [it.clip.clip_id for it in drawn(rows, seed=1)]
    with_more = {it.clip.clip_id for it in drawn([*rows, *captions(20, "new")])}
    assert len(with_more & set(ids)) > 40


def test_every_clip_is_as_likely_to_be_drawn() -> None:
    rows = captions(10)
    times = Counter(it.clip.clip_id for seed in range(400) for it in drawn(rows, 3, seed))
    assert sum(times.values()) == 1200
    assert all(80 < times[f"c{n}"] < 160 for n in range(10))  # 120 ± 4.4 standard deviations


def test_memory_does_not_grow_with_the_records() -> None:
    def rows() -> Iterator[Named]:
        for n in range(30_000):
            text = f"{n} " * 200  # 30 MB of all together
            yield ("rejected", to_record(Rejection(Clip(f"{n}", ""), f"reason{n % 200}", text)))

    tracemalloc.start()
    kept = drawn(rows(), 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(kept) == 20
    assert peak < 6_000_000


def test_clips_come_with_their_own_questions_and_not_with_more_than_a_dozen() -> None:
    def pair(clip_id: str, number: int) -> Named:
        values = {"video_id": "", "source": "", "start_s": 0.0, "end_s": None, "split": "train", "benchmarks": ()}
        about = {"kind": "sound", "form": "open", "answer": "A dog.", "choices": (), "evidence": (), "writer": "w"}
        return "qa", to_record(Pair(clip_id=clip_id, question=f"{clip_id} {number}?", **values, **about))

    sample = Sample(2)
    for name, row in [*captions(9), *(pair(f"c{n}", number) for n in range(9) for number in range(20))]:
        sample.add(name, row)
    for outcome, pairs in sample.drawn():
        assert [pair.question for pair in pairs] == [f"{outcome.clip.clip_id} {number}?" for number in range(12)]


def test_a_row_without_an_id_is_shown_by_where_it_was_listed() -> None:
    rows = [("failed", to_record(Failure(Clip("", "", origin=f"list.csv:{n}"), "ingest", "no id"))) for n in range(9)]
    sample = Sample(3)
    for name, row in rows:
        sample.add(name, row)
    with Excerpts() as excerpts:
        shown = exhibits(sample, excerpts, 10**6, quiet=True)
    assert len({exhibit.clip_id for exhibit in shown}) == 3
    assert all(exhibit.clip_id.startswith("list.csv:") for exhibit in shown)
    assert all(exhibit.media.said == ("There is nothing to see or hear: the row names no file.",) for exhibit in shown)


CUES = tuple(Cue("c", name, "f", "m", (Item("x"),)) for name in ("tags", "caption", "place"))


@pytest.mark.parametrize(
    ("caption", "events", "marked", "left"),
    [
        ("A dog barks and a car honks.", ["a dog barks", "a car honks"], ["A dog barks", "a car honks"], []),
        ("A car honks, then a dog barks.", ["a dog barks", "a car honks"], ["A car honks", "a dog barks"], []),
        ("Rain falls while a man speaks.", ["a man is speaking", "rain falls"], ["Rain falls", "a man"], []),
        ("A dog barks at a dog.", ["a dog", "a dog barks"], ["A dog barks", "a dog"], []),
        ("A dog barks.", ["a dog", "a dog"], ["A dog"], ["a dog"]),
        ("A bell rings in the distance.", ["the sea roars"], [], ["the sea roars"]),
        ("Ein Hund bellt, STRASSE laut.", ["ein hund bellt", "Straße laut"], ["Ein Hund bellt", "STRASSE laut"], []),
        ("A child's voice calls.", ["child's voice"], ["child's voice"], []),
        ("", ["a dog"], [], ["a dog"]),
        ("A dog barks.", [], [], []),
        ("A dog barks.", ["", "…"], [], ["", "…"]),
    ],
)
def test_an_event_is_found_in_the_caption_by_its_words(
    caption: str, events: list[str], marked: list[str], left: list[str]
) -> None:
    phrases, unplaced = linked(caption, [SoundEvent(text, ("tags",)) for text in events], CUES)
    assert "".join(phrase.text for phrase in phrases) == caption
    assert [phrase.text for phrase in phrases if phrase.number is not None] == marked
    assert [phrase.text for phrase in unplaced] == left
    numbers = [phrase.number for phrase in (*phrases, *unplaced) if phrase.number is not None]
    assert sorted(numbers) == list(range(len(events)))


def test_a_phrase_rests_on_the_cues_that_the_record_names_and_each_cue_knows_its_phrases() -> None:
    events = [SoundEvent("a dog barks", ("tags", "gone", "caption")), SoundEvent("rain falls", ("caption",))]
    phrases, unplaced = linked("A dog barks as rain falls.", events, CUES)
    assert [phrase.cues for phrase in phrases if phrase.number is not None] == [(0, 1), (1,)]
    assert [cue.phrases for cue in shown_cues(CUES, (*phrases, *unplaced))] == [(0,), (0, 1), ()]


def test_a_caption_of_any_length_is_linked_in_no_time() -> None:
    long = "dog barks " * 50_000
    phrases, _ = linked(long, [SoundEvent(long, ("tags",))] * 5000, CUES)
    assert sum(len(phrase.text) for phrase in phrases) < 2100


def test_cues_are_shown_in_words() -> None:
    vector = np.zeros(64, np.float32)
    vector[3] = 1
    probabilities = ",".join(["0.0000"] * 20 + ["1.0000"])
    cues = (
        Cue("c", "clap", "f", "m", (embedding_item(vector),)),
        Cue("c", "sync", "f", "m", (Item(f"true=+0.4 predicted=-0.6 probabilities={probabilities}", 0.9, 1, 6),)),
        Cue("c", "odd", "f", "m", (Item("true=love"), Item("peak", -9.36))),
        Cue("c", "music", "f", "m", (), "no music in it"),
        Cue("c", "tags", "f", "m", tuple(Item(f"tag {n}", n / 20) for n in range(20))),
        Cue("c", "speech", "f", "m", (Item("word " * 1000),)),
        Cue("c", "none", "f", "m"),
    )
    clap, sync, odd, music, tags, speech, none = shown_cues(cues)
    assert (clap.items, clap.skipped) == ((), "an embedding: nothing to read")
    assert [(it.text, it.score, it.share, it.time) for it in sync.items] == [
        ("+0.4 s heard as -0.6 s", "0.90", 90, "1.0–6.0 s")
    ]
    assert [(it.text, it.score, it.share) for it in odd.items] == [("true=love", "", None), ("peak", "−9.36", None)]
    assert music.skipped == "does not apply: no music in it"
    assert (len(tags.items), tags.more) == (12, 8)
    assert speech.items[0].text.endswith("(4,400 more letters)")
    assert none.skipped == "names nothing"


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    write_clip(folder / "good.mp4")
    with av.open(str(folder / "nan.wav"), "w") as file:
        stream = file.add_stream("pcm_f32le", rate=16_000)
        stream.layout = "mono"
        samples = np.full((1, 16_000 * 40), np.nan, np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        file.mux([*stream.encode(frame), *stream.encode(None)])
    (folder / "broken.mp4").write_bytes(b"no media at all")
    return folder


def shown_of(media: Path, *names: str, most: int = 10**8) -> dict[str, gallery.Exhibit]:
    sample = Sample(len(names))
    for name in names:
        sample.add("captions", to_record(Caption(Clip(name, str(media / name)), "A dog barks.", "w", CUES)))
    with Excerpts() as excerpts:
        return {exhibit.clip_id: exhibit for exhibit in exhibits(sample, excerpts, most, quiet=True)}


def test_a_clip_is_shown_as_a_strip_of_five_frames_and_an_mp3(media: Path, tmp_path: Path) -> None:
    found = shown_of(media, "good.mp4")["good.mp4"].media
    assert found.said == ()
    kind, picture = found.picture.split(",")
    assert kind == "data:image/jpeg;base64"
    (tmp_path / "strip.jpg").write_bytes(base64.b64decode(picture))
    with Image.open(tmp_path / "strip.jpg") as strip:
        assert strip.height == 90
        assert len(found.times) == 5
        assert strip.width % 5 == 0
    assert len(picture) <= 15_000 * 4 / 3
    kind, sound = found.sound.split(",")
    assert kind == "data:audio/mpeg;base64"
    (tmp_path / "sound.mp3").write_bytes(base64.b64decode(sound))
    with av.open(str(tmp_path / "sound.mp3")) as file:
        (stream,) = file.streams
        assert (stream.codec.name, stream.channels) == ("mp3float", 1)


def test_media_that_is_gone_broken_or_one_half_only_is_said_in_place_and_the_rest_goes_on(media: Path) -> None:
    found = shown_of(media, "good.mp4", "gone.mp4", "broken.mp4", "nan.wav")
    assert found["good.mp4"].media.sound
    for name in ("gone.mp4", "broken.mp4"):
        it = found[name].media
        assert (it.picture, it.sound) == ("", "")
        (said,) = it.said
        assert said.startswith("It cannot be opened: ")
    assert found["nan.wav"].media.said == ("There is no picture.", "The player has the first 30 s.")
    assert 150_000 < found["nan.wav"].media.size < 300_000  # 30 s at 48 kbit/s, as base64


def test_one_clip_of_a_place_that_cannot_be_reached_is_waited_for_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")  # where nobody answers
    monkeypatch.setattr("apache_beam.internal.gcp.auth.get_service_credentials", lambda options: None)
    sample = Sample(12)
    for n in range(12):
        sample.add("captions", to_record(Caption(Clip(f"c{n}", f"gs://far/{n}.mp4"), "A dog barks.", "w", CUES)))
    with Excerpts(patience=Patience(connect_s=1, silence_s=1, insist_s=1)) as excerpts:
        said = [exhibit.media.said for exhibit in exhibits(sample, excerpts, 10**6, quiet=True)]
    tried = [one for (one,) in said if one.startswith("It cannot be opened: cannot fetch gs://far/")]
    assert 1 <= len(tried) <= 2  # as many as there are threads
    left = [one for (one,) in said if one == "It was not opened: gs://far could not be reached for another clip."]
    assert len(tried) + len(left) == 12


def test_a_caption_that_was_published_without_a_form_is_shown_as_that() -> None:
    text = "A dog barks."
    marked = Attempt(text, "length", "without detailed: too short")
    sample = Sample(2)
    for name, attempts in (("c0", (Attempt(text, "length", "detailed: too short"), marked)), ("c1", (marked,))):
        sample.add("captions", to_record(Caption(Clip(name, ""), text, "w", CUES, attempts=attempts)))
    with Excerpts() as excerpts:
        found = {it.clip_id: it for it in exhibits(sample, excerpts, 10**6, quiet=True)}
    assert {it.without for it in found.values()} == {"without detailed: too short"}
    assert [attempt.complaint for attempt in found["c0"].attempts] == ["detailed: too short"]
    assert found["c1"].attempts == ()


def test_no_clip_is_opened_once_the_page_has_no_more_room(media: Path) -> None:
    names = [f"../{media.name}/" + "./" * n + "good.mp4" for n in range(34)]  # they are opened 32 at a time
    found = list(shown_of(media, *names, most=1).values())
    assert [bool(it.media.sound) for it in found] == 32 * [True] + 2 * [False]
    assert {it.media.said for it in found[32:]} == {("Pictures and sound are left out: the page would be too large.",)}


def test_an_exhibit_has_what_the_record_says(media: Path) -> None:
    clip = Clip("c0", str(media / "gone.mp4"), 30.0, 40.0, source="audioset", video_id="v0", labels=("Dog",))
    caption = Caption(clip, "A dog barks.", "w", CUES, "test", ("audiocaps",), (SoundEvent("a dog barks", ("tags",)),))
    more = {
        "versions": (Version("short", "en", "Dog."),),
        "ambiguities": ("which dog",),
        "attempts": (Attempt("A dog (0.9).", "numbers", "It contains a number."),),
        "model": "gpt",
        "prompt": "p-1",
        "similarity": 0.4321,
        "tokens_in": 1200,
        "tokens_out": 30,
        "dollars": 0.0005,
    }
    gone = Rejection(replace(clip, clip_id="r0"), "silent", "peak -80 dBFS", CUES, "A cat meows.")
    lost = Failure(replace(clip, clip_id="f0"), "media", "no such file", retryable=True)
    sample = Sample()
    for name, record in (("captions", replace(caption, **more)), ("rejected", gone), ("failed", lost)):
        sample.add(name, to_record(record))
    with Excerpts() as excerpts:
        first, second, third = exhibits(sample, excerpts, 10**6, least=0.1, quiet=True)
    assert dict(first.facts) == {
        "video": "v0",
        "time": "30 s to 40 s",
        "source": "audioset",
        "split": "test, audiocaps",
        "written by": "gpt, p-1",
        "similarity": "0.432 (at least 0.1 required)",
        "tokens": "1,200 in, 30 out",
        "cost": "0.00050 dollars",
    }
    assert (first.end, first.attempts[0].check, first.versions[0].text) == ("captioned", "numbers", "Dog.")
    assert (second.end, second.reason, second.evidence) == ("rejected", "silent", "peak -80 dBFS")
    assert [phrase.text for phrase in second.phrases] == ["A cat meows."]
    assert (third.end, third.reason) == ("failed", "media")
    assert third.evidence == "no such file (a run takes it up again)"
    assert dict(third.facts)["labels"] == "Dog"
