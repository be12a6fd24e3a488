import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import av
import numpy as np
import pytest

from demo import scenes
from demo.drawing import _picture, render_frame, render_frames
from demo.occasions import APART_S, BLOCK, FAULTS, KINDS, PERSON, Occasion, make_occasion, make_occasions, told
from demo.soundtrack import synthesise_audio
from demo.speaking import WORDS
from demo.training import as_heard
from demo.world import SOURCES, main, read_truth, write_clip
from model_handlers.views import Audio
from transforms.media import decode

RATE = 8_000


def each_kind(count: int = 6) -> list[Occasion]:
    return [make_occasion(1000, index, kind) for kind in KINDS for index in range(count)]


def rms(sound: np.ndarray, start_s: float, end_s: float) -> float:
    return float(np.sqrt(np.mean(sound[int(start_s * RATE) : int(end_s * RATE)] ** 2)))


def test_an_occasion_is_a_pure_function_of_seed_and_index():
    assert make_occasion(7, 3) == make_occasion(7, 3)
    assert make_occasion(7, 3) != make_occasion(7, 4)
    assert make_occasion(7, 3) != make_occasion(8, 3)
    assert np.array_equal(*(synthesise_audio(make_occasion(7, 1, "speech over music"), RATE) for _ in range(2)))


@pytest.mark.parametrize("seed", [7, 1000])
def test_a_block_has_every_kind_and_fault_and_three_quarters_are_good(seed):
    occasions = make_occasions(seed, len(BLOCK))
    assert {fault for one in occasions for fault in one.faults} == set(FAULTS)
    good = Counter(one.kind for one in occasions if not one.faults)
    assert good == KINDS
    assert sum(good.values()) / len(BLOCK) == pytest.approx(0.76, abs=0.02)
    assert make_occasions(seed, 9) == occasions[:9]
    assert 0.3 < np.mean([one.tagged for one in make_occasions(seed, 200)]) < 0.7


def test_each_kind_lets_hear_what_its_name_says():
    heard = {kind: Counter() for kind in KINDS}
    for one in each_kind():
        names = [sounding.name for sounding in one.heard()]
        heard[one.kind].update(["speech" in names, "music" in names, sum(name in SOURCES for name in names)])
        assert [s.start_s for s in one.heard()] == sorted(s.start_s for s in one.heard())
        truth = scenes.truth(one)
        assert bool(truth["music"]) == ("music" in one.kind)
        assert bool(truth["transcript"]) == bool(truth["speech"]) == ("speech" in one.kind)
        assert sum(truth["counts"].values()) == sum(map(len, truth["audio_events"]))
        assert set(truth["transcript"].split()) <= set(WORDS)
        json.dumps(truth)
    things = {"alone": 1, "at once": 2, "in sequence": 2, "speech and thing": 1, "music and thing": 1}
    assert all(heard[kind][things.get(kind, 0)] for kind in KINDS)


def test_in_a_sequence_the_first_thing_has_ended_before_the_second_begins():
    numbers = Counter()
    for index in range(60):
        one = make_occasion(1000, index, "in sequence")
        first, second = one.heard()
        assert first.events[-1] + 1.1 < second.events[0]  # the longest sound, a bell's, takes 1.1 s
        assert second.events[-1] < 9.6
        truth = scenes.truth(one)
        assert truth["order"] == [first.name, second.name]
        assert ", then " in truth["sound"]
        numbers.update([len(first.events), len(second.events)])
    assert set(numbers) >= {1, 2, 3, 4}


def test_sounds_that_go_together_begin_apart_and_are_joined_by_and():
    for kind in ("at once", "speech and thing", "speech over music", "music and thing"):
        for index in range(20):
            one = make_occasion(1000, index, kind)
            first, second = one.heard()
            assert second.start_s - first.start_s >= APART_S - 1e-6
            assert " and " in told(one.heard())
            assert scenes.truth(one)["order"] == []


def test_no_event_is_cut_in_half_by_the_clips_edge():
    for one in each_kind():
        for events in one.events:
            assert not [t for t in events if -1.2 < t < 0.05 or 9.6 < t < 10]


def test_sentences_say_what_is_heard_in_order():
    one = make_occasion(1000, 0, "in sequence")
    first, second = (f"{SOURCES[s.name].phrase} {SOURCES[s.name].verb}" for s in one.heard())
    assert told(one.heard()) == f"{first}, then {second}"
    caption = scenes.reference_caption(one)
    assert caption.lower() == f"{first}, then {second} {scenes.PLACES[one.place].phrase}."
    waltz = make_occasion(1000, 1, "music")
    assert told(waltz.heard()) == "music plays"
    caption = scenes.reference_caption(waltz)
    assert caption.startswith(f"A {waltz.piece.mood} {waltz.piece.genre}")
    assert f" plays at a {waltz.piece.tempo} tempo on {waltz.piece.instruments[0]}" in caption
    assert told(()) == scenes.reference_caption(make_occasion(1000, 1, fault="silent")) == ""


def test_speech_is_heard_where_the_truth_says_so():
    for index in range(8):
        one = make_occasion(1000, index, "speech")
        sound, spoken = synthesise_audio(one, RATE), scenes.truth(one)["speech"]
        for start, end in spoken:
            assert rms(sound, start, end) > 3 * rms(sound, end + 0.1, end + 0.35)
            assert 0 < start < end < 10
        assert len(spoken) in (1, 2)


def test_music_begins_and_ends_where_the_truth_says_so():
    for index in range(6):
        one = make_occasion(1000, index, "music")
        (music,) = one.heard()
        sound = synthesise_audio(one, RATE)
        assert rms(sound, music.start_s, music.start_s + 0.3) > 2 * rms(sound, 0, music.start_s)
        assert rms(sound, music.start_s, music.end_s) > 2 * rms(sound, music.end_s, 10)


def test_nothing_clips_and_silence_is_silent():
    for one in each_kind(2):
        sound = synthesise_audio(one, RATE)
        assert sound.dtype == np.float32
        assert sound.shape == (10 * RATE,)
        assert np.mean(np.abs(sound) > 0.999) < 1e-3
    for fault in ("silent", "no_audio", "not_a_video"):
        one = make_occasion(1000, 3, fault=fault)
        assert not synthesise_audio(one, RATE).any()
        assert scenes.labels(one) == ()


def test_labels_are_what_is_heard_and_only_some_clips_list_them():
    one = make_occasion(1000, 2, "speech over music")
    assert scenes.labels(one) == ("Music", "Speech")
    tagged = {one.tagged: scenes.listed_labels(one) for one in each_kind()}
    assert tagged[True]
    assert tagged[False] == ()


def test_a_shifted_clip_is_heard_late_or_early_by_its_offset():
    late = set()
    for index in range(12):
        good, shifted = make_occasion(1000, index), make_occasion(1000, index, fault="shifted")
        assert (good.kind, good.sources, good.utterances) == (shifted.kind, shifted.sources, shifted.utterances)
        late.add(shifted.offset_s > 0)
        if "speech" not in good.kind:
            continue
        before, after = (scenes.truth(one)["speech"] for one in (good, shifted))
        assert all(0 <= start < end <= 10 for start, end in after)
        if len(before) == len(after) and after[-1][1] < 10:
            assert after[-1][1] - before[-1][1] == pytest.approx(shifted.offset_s, abs=1e-3)
    assert late == {True, False}


def test_a_foreign_sound_track_is_of_another_kind_with_other_things_elsewhere():
    for index in range(20):
        one = make_occasion(1000, index, fault="foreign")
        assert one.foreign is not None
        assert one.foreign.kind != one.kind
        assert one.foreign.place != one.place
        assert not set(one.foreign.sources) & set(one.sources)
        assert np.array_equal(synthesise_audio(one, RATE), synthesise_audio(one.foreign, RATE))
        truth = scenes.truth(one)
        assert truth["transcript"] == scenes.truth(one.foreign)["transcript"]
        assert truth["kind"] == one.foreign.kind


def test_speaker_and_instruments_are_seen_to_move_as_they_are_heard():
    one = make_occasion(1000, 4, "speech over music")
    instants = np.arange(250) / 25
    for index, name in enumerate(scenes.drawn(one)):
        level = scenes.envelope(one, index, instants)
        assert 0 <= level.min() <= level.max() <= 1
        if name == PERSON:
            inside = np.zeros(250, bool)
            for start, end in scenes.truth(one)["speech"]:
                inside |= (instants >= start) & (instants <= end + 0.28)  # the last movement ends later
            assert not level[~inside].any()
            assert level[inside].mean() > 0.15
        else:
            assert not level[instants < one.piece_s[0]].any()
            assert level[instants > one.piece_s[0]].mean() > 0.1
    frames = render_frames(one, 96, 72).astype(int)
    assert np.array_equal(render_frame(one, 0.04 * 20, 96, 72), frames[20]) or one.fps != 25


def test_up_to_three_things_keep_clear_of_each_other_and_inside_the_centre_crop():
    seen = Counter()
    for one in each_kind(8):
        picture, boxes = _picture(one, 320, 240), []
        for index in range(len(scenes.drawn(one))):
            y, x = picture.corner(index)
            tall, wide = picture.patch(index, 8).shape[:2]
            assert y > 0
            assert y + tall <= 240
            boxes.append((x, x + wide))
        boxes.sort()
        seen[len(boxes)] += 1
        assert all(left[1] <= right[0] + 1 for left, right in pairwise(boxes))
        assert boxes[0][0] >= 50
        assert boxes[-1][1] <= 270
    assert set(seen) == {1, 2, 3}


def test_the_video_text_says_when_each_thing_first_moves():
    one = make_occasion(1000, 5, "in sequence")
    first, second = one.heard()
    caption, _, moving = scenes.truth(one)["video"].partition("; moving: ")
    assert caption == f"00:00 {scenes.image_caption(one)}"
    for part, name in zip(moving.split(", "), one.sources, strict=True):
        noun = SOURCES[name].phrase.split(maxsplit=1)[1]
        start_s = next(sounding.start_s for sounding in (first, second) if sounding.name == name)
        assert part in {f"the {noun} 00:{int(start_s + late):02d}" for late in (0, 0.04)}


def test_three_things_are_listed_with_commas():
    one = next(o for i in range(40) if len(scenes.drawn(o := make_occasion(1000, i, "music and thing"))) == 3)
    thing, first, second = SOURCES[one.sources[0]].phrase, *one.piece.instruments
    place = scenes.PLACES[one.place].phrase
    assert scenes.image_caption(one) == f"{thing}, a {first} and a {second} {place}"


def test_unknown_kinds_and_faults_are_refused():
    with pytest.raises(ValueError, match="no kind 'loud'"):
        make_occasion(7, 0, "loud")
    with pytest.raises(ValueError, match="no fault 'speech_over_music'"):
        make_occasion(7, 0, fault="speech_over_music")


def test_a_clip_has_sound_and_picture(tmp_path):
    one = make_occasion(1000, 6, "speech over music")
    write_clip(one, tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert len(sound) == pytest.approx(441_000, abs=2048)
    wanted = synthesise_audio(one, 44_100)
    heard = sound[: len(wanted)]
    assert np.corrcoef(heard, wanted[: len(heard)])[0, 1] > 0.9


def test_the_command_writes_occasions(tmp_path, capsys):
    main(["--occasions", "--seed", "100", "--count", "2", "--only", "not_a_video", "--out", str(tmp_path)])
    assert "0 good clips and 2 with faults" in capsys.readouterr().out
    first, _ = read_truth(tmp_path)
    assert first["clip_id"] == "occasion0100_00000"
    with pytest.raises(SystemExit):
        main(["--occasions", "--only", "speech_over_music", "--out", str(tmp_path)])
    assert "no fault of an occasion" in capsys.readouterr().err


def test_training_hears_a_clip_as_a_run_does(tmp_path):
    one = make_occasion(7, 1, "music")
    one = replace(one, piece=replace(one.piece, instruments=("flute",)))
    write_clip(one, tmp_path / "one.mp4")
    heard, true = as_heard(one, 16_000), decode(tmp_path / "one.mp4", 0.0, None, Audio(16_000))
    assert heard.shape == true.shape
    assert band_db(heard) == pytest.approx(band_db(true), abs=1.5)
    assert band_db(synthesise_audio(one, 16_000)) > band_db(true) + 5  # a flute's breath


def band_db(sound: np.ndarray) -> float:
    """The power from 5 to 7 kHz, of sound at 16 kHz."""
    power = np.abs(np.fft.rfft(sound)) ** 2
    return float(10 * np.log10(power[5 * len(sound) // 16 : 7 * len(sound) // 16].mean()))
