"""Splits: a clip never changes sides, what belongs together stays together, and benchmark clips are set aside."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import fastavro
import pytest

from beam_pipeline.config import ConfigError, Profile, load_profile
from beam_pipeline.run import run
from beam_pipeline.show import splits_line
from benchmarks.plain import plain_run
from demo.world import make_scene, write_scenes
from tests.datasets import CLIPS, listed, profile, records, rows
from transforms.avro import avro_schema, read_avro
from transforms.records import Caption, Clip
from transforms.splits import Benchmarks, Entry, SplitRule, position, split_of

MANY = [Clip(f"v{index}_000000", f"v{index}.mp4", video_id=f"v{index}") for index in range(10_000)]
RULE = SplitRule(validation=0.02, test=0.03)


def splits(rule: SplitRule, clips: list[Clip] = MANY) -> dict[str, str]:
    return {clip.clip_id: split_of(clip, rule) for clip in clips}


def of(list_file: Path, **clip: object) -> tuple[str, ...]:
    """The names of the lists that a clip of 10 s is on, where there is one list, called bench."""
    fields = {"clip_id": "mine", "uri": "/data/x.mp4", "start_s": 0.0, "end_s": 10.0, **clip}
    return Benchmarks.read({"bench": str(list_file)}).of(Clip(**fields))  # type: ignore[arg-type]


def write(folder: Path, text: str) -> Path:
    (folder / "bench.csv").write_text(text, encoding="utf-8")
    return folder / "bench.csv"


@pytest.mark.parametrize(
    ("video", "place"),
    # sha256sum's first 53 bits over 2 to the 53rd; other numbers would move the clips of every published dataset
    [
        ("abc", 0.7283949105904021),
        ("--0PQM4-hqg", 0.16661349260050395),
        ("---g-f_I2yQ", 0.43270270827379065),
        ("犬", 0.11918602527881161),
    ],
)
def test_places_are_those_that_were_once_written_down(video: str, place: float) -> None:
    assert position(Clip("any", "any.mp4", video_id=video)) == place
    assert position(Clip(video, "any.mp4")) == place


def test_shares_are_about_right() -> None:
    count = Counter(splits(RULE).values())
    assert 240 <= count["test"] <= 360  # 300 expected; 17 is one standard deviation
    assert 150 <= count["validation"] <= 250  # 200 expected, 14 is one
    assert sum(count.values()) == len(MANY)


def test_a_split_depends_on_nothing_but_the_video() -> None:
    for clip in MANY[:300]:
        other = replace(clip, clip_id="other", uri="x", start_s=30.0, end_s=40.0, source="vggsound", labels=("Dog",))
        assert split_of(other, RULE) == split_of(clip, RULE)


def test_a_larger_share_takes_clips_from_train_only() -> None:
    before = splits(RULE)
    for larger in (replace(RULE, test=0.2), replace(RULE, validation=0.3), SplitRule(validation=0.3, test=0.6)):
        moves = {(before[clip], split) for clip, split in splits(larger).items() if before[clip] != split}
        assert moves
        assert {old for old, _ in moves} == {"train"}


def test_without_shares_everything_is_for_training() -> None:
    assert set(splits(SplitRule(validation=0, test=0)).values()) == {"train"}


@pytest.mark.parametrize(
    ("said", "split"),
    [("test", "test"), ("eval", "test"), ("val", "validation"), ("Valid", "validation"), ("validation", "validation")],
)
def test_what_a_source_holds_out_is_held_out(said: str, split: str) -> None:
    clips = [replace(clip, split=said) for clip in MANY]
    assert set(splits(RULE, clips).values()) == {split}
    assert splits(replace(RULE, respect_source=False), clips) == splits(RULE)


@pytest.mark.parametrize("said", ["", "train", "unbalanced_train", "dev"])
def test_what_a_source_does_not_hold_out_goes_by_hash(said: str) -> None:
    assert splits(RULE, [replace(clip, split=said) for clip in MANY]) == splits(RULE)


def test_audiocaps_names_ten_seconds_of_a_video(tmp_path: Path) -> None:
    file = write(tmp_path, 'audiocap_id,youtube_id,start_time,caption\n1,-abc_DEF012,30,"A dog, and a bell"\n')
    assert of(file, video_id="-abc_DEF012", start_s=30.0, end_s=40.0) == ("bench",)
    assert of(file, video_id="-abc_DEF012", start_s=39.5, end_s=49.5) == ("bench",)
    assert of(file, video_id="-abc_DEF012", start_s=40.0, end_s=50.0) == ()
    assert of(file, video_id="-abc_DEF012", start_s=20.0, end_s=30.0) == ()
    assert of(file, video_id="-abc_DEF012", start_s=0.0, end_s=None) == ("bench",)  # as far as the file goes
    assert of(file, video_id="other", start_s=30.0, end_s=40.0) == ()


def test_clotho_names_files(tmp_path: Path) -> None:
    file = write(tmp_path, "file_name,caption_1,caption_2\nSanta Motor.wav,a machine,a motor\n")
    assert of(file, uri="gs://bucket/clotho/Santa Motor.flac") == ("bench",)
    assert of(file, video_id="Santa Motor") == ("bench",)
    assert of(file, uri="/data/Motor.wav") == ()


def test_of_vggsound_only_the_test_rows_count(tmp_path: Path) -> None:
    file = write(tmp_path, '---g-f_I2yQ,1,"people marching",test\n--0PQM4-hqg,30,"waterfall burbling",train\n')
    assert of(file, video_id="---g-f_I2yQ", start_s=1.0, end_s=11.0) == ("bench",)
    assert of(file, video_id="--0PQM4-hqg", start_s=30.0, end_s=40.0) == ()


def test_audiosets_segments_have_comments_and_ends(tmp_path: Path) -> None:
    text = '# Segments csv\n# YTID, start_seconds, end_seconds, positive_labels\nabc, 30.000, 35.000, "/m/09x0r,/t/x"\n'
    file = write(tmp_path, text)
    assert of(file, video_id="abc", start_s=34.0, end_s=44.0) == ("bench",)
    assert of(file, video_id="abc", start_s=35.0, end_s=45.0) == ()


def test_ones_own_list_names_clips_or_whole_videos_or_stretches(tmp_path: Path) -> None:
    assert of(write(tmp_path, "clip_id\nother\nmine\n")) == ("bench",)
    file = write(tmp_path, "\ufeffVideo_ID,start_s,end_s\nwhole,,\npart,5,6\n\n")
    assert of(file, video_id="whole", start_s=900.0, end_s=910.0) == ("bench",)
    assert of(file, video_id="part") == ("bench",)
    assert of(file, video_id="part", start_s=6.0, end_s=16.0) == ()


def test_a_clip_may_be_on_several_lists() -> None:
    mine, other = [Entry(clip_id="mine")], [Entry(clip_id="other")]
    lists = Benchmarks({"b": mine, "a": mine, "c": other})
    assert lists.of(Clip("mine", "x.mp4")) == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,caption\na,b\n", "no column called clip_id"),
        ("", "names no clip"),
        ("youtube_id,start_time\n", "names no clip"),
        ("abc,1,dog,train\n", "names no clip"),
        ("youtube_id,start_time\nabc,30\nabc,soon\n", "record 3: 'soon' is no time"),
        ("youtube_id,start_s,end_s\nabc,30,20\n", "record 2: it ends at 20 s"),
        ("youtube_id,caption\n,a dog\n", "record 2: it names no clip"),
        ('youtube_id,caption\nabc,"a dog\n', "unexpected end of data"),
    ],
)
def test_a_list_that_cannot_be_used_stops_a_profile_before_anything_runs(
    tmp_path: Path, text: str, message: str
) -> None:
    write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as error:
        with_lists(tmp_path, "bench.csv")
    assert str(tmp_path / "bench.csv") in str(error.value)


@pytest.mark.parametrize("path", ["missing.csv", ".", "nosuch://bucket/list.csv"])
def test_a_list_that_cannot_be_read_stops_it_too(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match=r"splits\.benchmarks: .*cannot be used as a list of benchmark clips"):
        with_lists(tmp_path, path)


@pytest.mark.parametrize("row", ["validation = 0.6\ntest = 0.4", "test = -0.1", "shares = 1", 'benchmarks = "a.csv"'])
def test_rules_that_make_no_sense_are_config_errors(tmp_path: Path, row: str) -> None:
    profile(tmp_path)
    text = (tmp_path / "mine.toml").read_text()
    (tmp_path / "mine.toml").write_text(f"{text}\n[splits]\n{row}\n")
    with pytest.raises(ConfigError, match="splits"):
        load_profile(str(tmp_path / "mine.toml"))


def with_lists(folder: Path, bench: str, **shares: float) -> Profile:
    profile(folder)
    text = (folder / "mine.toml").read_text()
    shares_text = "".join(f"{name} = {share}\n" for name, share in shares.items())
    (folder / "mine.toml").write_text(f'{text}\n[splits]\n{shares_text}benchmarks = {{ bench = "{bench}" }}\n')
    return load_profile(str(folder / "mine.toml"))


def test_captions_from_before_splits_are_still_read(tmp_path: Path) -> None:
    schema = avro_schema(Caption)
    schema["fields"] = [field for field in schema["fields"] if field["name"] not in ("split", "benchmarks")]
    clip = {name: getattr(MANY[0], name) for name in Clip.__dataclass_fields__} | {"labels": []}
    with (tmp_path / "captions.avro").open("wb") as file:
        fastavro.writer(file, schema, [{"clip": clip, "caption": "A dog barks.", "writer": "w", "cues": []}])
    (found,) = read_avro(str(tmp_path / "captions.avro"), Caption)
    assert (found.caption, found.split, found.benchmarks) == ("A dog barks.", "", ())


def test_a_run_sets_benchmark_clips_aside_counts_them_and_asks_no_model_for_a_new_list(tmp_path: Path) -> None:
    write_scenes([make_scene(4321, index) for index in range(CLIPS)], tmp_path)
    wanted, data = rows(tmp_path), str(tmp_path / "data")
    wanted[1]["split"] = "test"
    source = listed(tmp_path, tmp_path, *wanted)
    plainly = run(profile(tmp_path), source, data, quiet=True)
    assert "benchmark" not in plainly.manifest["splits"]
    assert plainly.manifest["benchmarks"] == {}

    write(tmp_path, f"clip_id\n{wanted[0]['clip_id']}\nsomewhere_else\n")
    chosen = with_lists(tmp_path, "bench.csv", validation=0.0, test=0.0)
    done = run(chosen, source, data, quiet=True)
    assert done.costs == {}
    assert done.version == 2
    found = {record.clip.clip_id: (record.split, record.benchmarks) for record in records(done).values()}
    expected = dict.fromkeys(found, ("train", ()))
    expected[wanted[0]["clip_id"]] = ("benchmark", ("bench",))
    expected[wanted[1]["clip_id"]] = ("test", ())
    assert found == expected
    assert done.manifest["splits"] == {"benchmark": 1, "test": 1, "train": CLIPS - 2}
    assert done.manifest["benchmarks"] == {"bench": 1}
    assert done.manifest["split_rule"]["benchmarks"] == {"bench": str(tmp_path / "bench.csv")}
    assert splits_line(done.manifest) == f"captions: 1 benchmark, 1 test, {CLIPS - 2} train (1 on bench)"
    assert records(done) == {outcome.clip.origin: outcome for outcome in plain_run(chosen, source)}

    write(tmp_path, "clip_id\nsomewhere_else\n")  # read anew by every run; a list that nothing is on counts 0
    again = run(chosen, source, data, quiet=True)
    assert again.manifest["splits"] == {"test": 1, "train": CLIPS - 1}
    assert again.manifest["benchmarks"] == {"bench": 0}
