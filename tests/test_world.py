import csv
import json
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from demo.drawing import _picture
from demo.scenes import GAP_S, MARGIN_S
from demo.world import (
    FAULTS,
    PLACES,
    SOURCES,
    Scene,
    envelope,
    image_caption,
    labels,
    main,
    make_scene,
    make_scenes,
    reference_caption,
    render_frame,
    render_frames,
    synthesise_audio,
    write_clip,
    write_world,
)

RATE = 16_000


def one(name: str, *times: float, place: str = "office", seed: int = 5, duration_s: float = 2.0) -> Scene:
    return Scene("demo0000_00000", seed, place, (name,), (times,), duration_s)


def decode(path: Path) -> tuple[list[np.ndarray], list[float], np.ndarray]:
    with av.open(str(path)) as container:
        shown = [(f.to_ndarray(format="rgb24"), float(f.time)) for f in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    return [pixels for pixels, _ in shown], [time for _, time in shown], sound


def test_a_scene_is_a_pure_function_of_seed_and_index_on_every_machine():
    assert make_scene(7, 3) == make_scene(7, 3)
    assert make_scene(7, 3) != make_scene(7, 4)
    assert make_scene(7, 3) != make_scene(8, 3)
    scene = make_scene(7, 2)
    assert (scene.place, scene.sources) == ("forest", ("drum", "typewriter"))
    assert scene.video_events()[0] == (0.9526, 3.2409, 5.1587, 6.9425, 9.0173)


def test_labels_are_distinct_and_every_thing_and_place_occurs():
    assert len({source.label for source in SOURCES.values()}) == len(SOURCES) >= 14
    scenes = make_scenes(1000, 400, "good")
    assert {name for scene in scenes for name in scene.sources} == set(SOURCES)
    assert {scene.place for scene in scenes} == set(PLACES)
    assert {scene.fps for scene in scenes} == {25, 30}
    assert 0.2 < np.mean([len(scene.sources) == 2 for scene in scenes]) < 0.4


@pytest.mark.parametrize("seed", [7, 100, 1000])
def test_forty_clips_have_every_fault_and_about_seventy_percent_are_good(seed):
    scenes = make_scenes(seed, 40)
    assert {fault for scene in scenes for fault in scene.faults} == set(FAULTS)
    assert sum(not scene.faults for scene in scenes) == 28
    assert make_scenes(seed, 10) == scenes[:10]


def test_events_are_irregular_and_go_on_before_and_after_the_clip():
    for scene in make_scenes(1000, 60, "good"):
        for times, inside in zip(scene.events, scene.video_events(), strict=True):
            gaps = np.diff(times)
            assert gaps.min() > GAP_S[0] - 0.001
            assert gaps.max() < GAP_S[1] + 0.001
            assert np.std(gaps) > 0.15
            assert 4 <= len(inside) <= 12
            assert times[0] < -MARGIN_S + GAP_S[1]
            assert times[-1] > scene.duration_s + MARGIN_S - GAP_S[1]


def test_shifted_audio_is_late_or_early_by_the_offset_and_has_events_throughout():
    offsets = [make_scene(1000, index, "shifted").offset_s for index in range(60)]
    assert all(0.8 <= abs(offset) <= 2.0 for offset in offsets)
    assert {offset > 0 for offset in offsets} == {True, False}
    scene = make_scene(1000, 1, "shifted")
    good = make_scene(1000, 1)
    assert (scene.place, scene.sources, scene.events) == (good.place, good.sources, good.events)
    heard = scene.audio_events()[0]
    assert set(heard) <= {t + scene.offset_s for t in scene.events[0]}
    assert heard[0] < GAP_S[1]
    assert heard[-1] > scene.duration_s - GAP_S[1]


def test_a_foreign_soundtrack_is_of_other_things_and_another_place():
    for index in range(20):
        scene = make_scene(1000, index, "foreign")
        assert scene.foreign is not None
        assert not set(scene.foreign.sources) & set(scene.sources)
        assert scene.foreign.place != scene.place
        assert labels(scene) == labels(scene.foreign)
        assert np.array_equal(synthesise_audio(scene, 8000), synthesise_audio(scene.foreign, 8000))


def test_unknown_faults_and_empty_durations_are_refused():
    with pytest.raises(ValueError, match="no fault 'late'"):
        make_scene(7, 0, "late")
    with pytest.raises(ValueError, match="longer than 0"):
        make_scene(7, 0, duration_s=0)


def test_captions_say_what_is_heard_and_what_is_seen():
    scene = Scene("c", 1, "beach", ("bell", "dog"), ((1.0,), (2.0,)))
    assert reference_caption(scene) == "A bell rings and a dog barks on a beach."
    assert image_caption(scene) == "a bell and a dog on a beach"
    assert labels(scene) == ("Bell", "Dog")
    assert labels(make_scene(7, 0, "speech_over_music")) == ("Speech", "Music")
    assert labels(make_scene(7, 0, "silent")) == ()
    assert reference_caption(make_scene(7, 0, "silent")) == ""


def test_the_envelope_is_one_at_an_event_nothing_before_it_and_decays():
    scene = one("dog", 0.5, 1.2)
    decay = SOURCES["dog"].decay_s
    level = envelope(scene, 0, np.array([[0.0, 0.499, 0.5], [0.5 + decay / 2, 0.5 + decay, 1.2]]))
    np.testing.assert_allclose(level, [[0, 0, 1], [0.5, 0, 1]], atol=1e-9)


@pytest.mark.parametrize("name", SOURCES)
def test_each_thing_visibly_acts_at_its_event_and_rests_otherwise(name):
    frames = render_frames(one(name, 0.5, 1.3), 64, 64, fps=25).astype(int)
    assert frames.shape == (50, 64, 64, 3)
    change = np.abs(frames - frames[0]).mean(axis=(1, 2, 3))
    assert change[:13].max() == 0  # 0.48 s is still before the event
    assert change[13] > 2.0  # of 255, over the whole picture
    assert change[13] == pytest.approx(change[33], rel=0.35)  # both events, at their own phase within a frame
    assert change[13 + 11 : 32].max() == 0


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_each_thing_is_heard_from_its_event_on(name, rate):
    audio = synthesise_audio(one(name, 1.0), rate)
    assert audio.dtype == np.float32
    assert audio.shape == (2 * rate,)
    assert np.abs(audio).max() <= 1

    def rms(start_s: float, end_s: float) -> float:
        return float(np.sqrt(np.mean(audio[int(start_s * rate) : int(end_s * rate)] ** 2)))

    assert rms(1.0, 1.04) > 4 * rms(0.5, 0.999)


def test_two_things_never_overlap_and_keep_inside_the_centre_crop():
    for scene in make_scenes(1000, 60, "good"):
        picture = _picture(scene, 320, 240)
        boxes = []
        for index in range(len(scene.sources)):
            y, x = picture.corner(index)
            tall, wide = picture.patch(index, 8).shape[:2]
            boxes.append((x, x + wide))
            assert y > 0
            assert y + tall <= 240
        boxes.sort()
        assert all(left[1] <= right[0] for left, right in pairwise(boxes))
        assert boxes[0][0] >= 50  # `AudioVideo` crops the middle 210 of 320; a box has rays around the thing itself
        assert boxes[-1][1] <= 270


def test_a_single_frame_is_the_frame_of_the_clip():
    scene = make_scene(1000, 2)
    frames = render_frames(scene, 96, 72)
    assert np.array_equal(render_frame(scene, 40 / scene.fps, 96, 72), frames[40])


def test_places_look_different_with_the_seed_and_from_each_other():
    pictures = {
        (place, seed): render_frame(one("dog", 9.0, place=place, seed=seed), 0, 32, 24).astype(int)
        for place in PLACES
        for seed in (1, 2)
    }
    for place in PLACES:
        itself = np.abs(pictures[place, 1] - pictures[place, 2]).mean()
        others = [np.abs(pictures[place, 1] - pictures[other, 1]).mean() for other in PLACES if other != place]
        assert 0 < itself < min(others)


def test_a_clip_is_h264_and_aac_with_sound_and_picture_in_step(tmp_path):
    scene = one("hammer", 0.61, 1.4, duration_s=2.5)
    write_clip(scene, tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.audio[0].codec_context.name == "aac"
        assert container.streams.audio[0].rate == 44_100
    frames, times, sound = decode(tmp_path / "clip.mp4")
    assert len(frames) == round(2.5 * scene.fps)
    change = np.abs(np.stack(frames).astype(int) - frames[0]).mean(axis=(1, 2, 3))
    first = times[int(np.argmax(change > 1))]
    assert 0.61 <= first <= 0.61 + 1 / scene.fps
    onset = int(np.argmax(np.abs(sound) > 0.1)) / 44_100
    assert onset == pytest.approx(0.61, abs=0.03)  # AAC's priming samples and pre-echo
    assert len(sound) == pytest.approx(2.5 * 44_100, abs=2048)


@pytest.mark.parametrize("fault", ["no_audio", "no_video", "silent"])
def test_missing_tracks_are_missing_and_silence_is_silent(tmp_path, fault):
    write_clip(make_scene(100, 1, fault, duration_s=1.0), tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert len(container.streams.video) == (fault != "no_video")
        assert len(container.streams.audio) == (fault != "no_audio")
    if fault == "silent":
        assert np.abs(decode(tmp_path / "clip.mp4")[2]).max() < 1e-4


def test_truncated_clips_lose_their_end_or_their_header(tmp_path):
    opens = set()
    for index in range(6):
        path = tmp_path / f"{index}.mp4"
        write_clip(make_scene(100, index, "truncated", duration_s=1.0), path)
        try:
            with av.open(str(path)) as container:
                assert sum(1 for _ in container.decode(video=0)) < 25
            opens.add(True)
        except av.InvalidDataError:
            opens.add(False)
    assert opens == {True, False}


def test_what_is_not_a_video_does_not_open(tmp_path):
    for index in range(4):
        write_clip(make_scene(100, index, "not_a_video"), tmp_path / "clip.mp4")
        with pytest.raises(av.InvalidDataError):
            av.open(str(tmp_path / "clip.mp4"))


def test_a_world_is_listed_with_its_truth_and_is_the_same_when_written_again(tmp_path):
    seen: list[tuple[int, int]] = []
    scenes = write_world(100, 2, tmp_path, lambda done, of: seen.append((done, of)), only="good")
    assert seen == [(1, 2), (2, 2)]
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    names = {str(path.relative_to(tmp_path)) for path in before}
    assert names == {"clips.csv", "truth.jsonl"} | {f"clips/{scene.clip_id}.mp4" for scene in scenes}
    with (tmp_path / "clips.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["clip_id", "uri", "video_id", "start_s", "end_s", "labels", "source"]
    truths = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text(encoding="utf-8").splitlines()]
    for row, told, scene in zip(rows, truths, scenes, strict=True):
        assert row["clip_id"] == told["clip_id"] == scene.clip_id
        assert (tmp_path / row["uri"]).is_file()
        assert tuple(row["labels"].split(";")) == tuple(told["labels"]) == labels(scene)
        assert told["caption"] == reference_caption(scene)
        assert told["image_caption"] == image_caption(scene)
    write_world(100, 2, tmp_path, only="good")
    assert before == {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}


def test_the_command_writes_a_world_and_says_where(tmp_path, capsys):
    main(["--seed", "100", "--count", "2", "--only", "not_a_video", "--out", str(tmp_path / "new")])
    assert "0 good clips and 2 with faults" in capsys.readouterr().out
    assert len(list((tmp_path / "new" / "clips").iterdir())) == 2
    with pytest.raises(SystemExit):
        main(["--count", "0", "--out", str(tmp_path)])
    assert "--count 1 or more" in capsys.readouterr().err
