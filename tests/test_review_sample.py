"""What raters are shown: the same clips in whatever order they come, in proportion, and no more than is needed."""

from __future__ import annotations

import os
import random
import time
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.config import ConfigError
from beam_pipeline.dataset import Dataset
from beam_pipeline.review.sample import (
    BLOCK,
    Drawn,
    Said,
    Sampler,
    allot,
    draw,
    drawn_once,
    in_order_of,
    pack,
    silent_cues,
    unpack,
)
from tests.test_calibrate import publish
from transforms.avro import to_record
from transforms.records import Caption, Clip, Cue, Item


def row(
    clip_id: str, source: str = "audioset", split: str = "train", caption: str = "A dog.", cues: int = 1
) -> dict[str, Any]:
    items = (Item("Dog", 0.9, 1.0, 2.5), Item("Bark"))
    clip = Clip(clip_id, f"{clip_id}.mp4", source=source, labels=("Dog",))
    return to_record(
        Caption(clip, caption, "w", tuple(Cue(clip_id, f"cue{i}", "f", "m", items) for i in range(cues)), split)
    )


def ids(sampler: Sampler) -> list[str]:
    return [one.clip_id for one in sampler.result()]


def taken(rows: list[dict[str, Any]], count: int, seed: int = 0) -> list[str]:
    sampler = Sampler(count, seed)
    for one in rows:
        sampler.add("captions", one)
    return ids(sampler)


ROWS = [
    row(f"{source}-{split}-{index}", source, split)
    for source, split, number in (
        ("audioset", "train", 600),
        ("audioset", "test", 60),
        ("vggsound", "train", 330),
        ("own", "train", 3),
    )
    for index in range(number)
]


def test_the_sample_hangs_on_the_seed_and_not_on_the_order() -> None:
    shuffled = random.Random(1).sample(ROWS, len(ROWS))
    first = taken(ROWS, 100)
    assert taken(shuffled, 100) == first
    assert len(set(first)) == 100
    assert len(set(first) & set(taken(ROWS, 100, seed=1))) < 40


def test_sources_and_splits_have_their_shares() -> None:
    due = {"audioset-train": 60.4, "audioset-test": 6.0, "vggsound-train": 33.2, "own-train": 0.3}
    for seed in range(10):
        found = Counter(one.rsplit("-", 1)[0] for one in taken(ROWS, 100, seed))
        assert found.total() == 100
        assert all(abs(found[stratum] - share) < 1 for stratum, share in due.items())


def test_of_more_sources_than_captions_the_seed_decides_which() -> None:
    rows = [row(str(index), f"s{index:03}") for index in range(500)]
    drawn = {seed: set(taken(rows, 20, seed)) for seed in range(3)}
    assert all(len(one) == 20 for one in drawn.values())
    assert max(len(drawn[0] & drawn[1]), len(drawn[1] & drawn[2]), len(drawn[0] & drawn[2])) < 8
    assert any(int(one) > 400 for one in drawn[0])


def test_many_small_sources_do_not_crowd_out_a_large_one() -> None:
    sizes = {("captions", "large", ""): 1_000_000, **{("captions", f"s{i:02}", ""): 5 for i in range(19)}}
    assert allot(sizes, 20)["captions", "large", ""] == 20


def test_as_many_sources_as_clips_take_no_longer_than_few() -> None:
    sizes = {("captions", f"s{index}", ""): 1 + index % 3 for index in range(100_000)}
    started = time.process_time()
    assert sum(allot(sizes, 1000).values()) == 1000
    assert time.process_time() - started < 10


def test_a_larger_sample_holds_the_smaller_one() -> None:
    small, large = taken(ROWS, 50), taken(ROWS, 200)
    assert len(set(small) - set(large)) <= 2


def test_every_clip_is_as_likely_as_its_neighbours() -> None:
    rows = [row(str(index)) for index in range(40)]
    found = Counter(one for seed in range(400) for one in taken(rows, 10, seed))
    assert sum(found.values()) == 4000
    assert all(60 < number < 145 for number in found.values())  # 100 is expected, with a deviation of 8.7


def test_clips_of_small_sources_are_as_likely_as_those_of_a_large_one() -> None:
    """With fewer clips to draw than there are sources."""
    rows = [row(f"large{index}", "large") for index in range(70)]
    rows += [row(f"s{source}-{index}", f"s{source}") for source in range(10) for index in range(3)]
    found = Counter(one.rstrip("0123456789") for seed in range(800) for one in taken(rows, 5, seed))
    assert sum(found.values()) == 4000
    assert 2650 < found["large"] < 2950  # 2,800 is expected, with a deviation of 29 were all drawn independently


def test_of_fewer_captions_than_wanted_all_are_taken_and_none_without_a_caption() -> None:
    rows = [*(row(str(index)) for index in range(5)), row("empty", caption="")]
    assert set(taken(rows, 1000)) == set("01234")
    assert taken([], 10) == []


@pytest.mark.parametrize("seed", range(20))
def test_shares_add_up_and_are_within_one_of_what_is_due(seed: int) -> None:
    rng = random.Random(seed)
    sizes = {
        ("captions", f"s{index}", ""): rng.randint(1, 10 ** rng.randint(1, 5)) for index in range(rng.randint(1, 30))
    }
    count = rng.randint(1, 2000)
    given = allot(sizes, count)
    total = sum(sizes.values())
    assert sum(given.values()) == min(count, total)
    assert all(0 <= given[stratum] <= size for stratum, size in sizes.items())
    assert all(abs(given[stratum] - min(count, total) * size / total) < 1 for stratum, size in sizes.items())


def test_memory_does_not_grow_with_the_dataset() -> None:
    peaks = []
    for clips in (2_000, 20_000):
        sampler = Sampler(100)
        one = row("", cues=8)
        tracemalloc.start()
        for index in range(clips):
            one["clip"]["clip_id"] = f"clip-{index}"
            sampler.add("captions", one)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_raters_have_orders_of_their_own_within_blocks_that_they_share() -> None:
    clip_ids = [str(index) for index in range(3 * BLOCK + 17)]
    ann, ben = in_order_of("ann", 0, clip_ids), in_order_of("ben", 0, clip_ids)
    assert ann == in_order_of("ann", 0, clip_ids)
    assert ann != ben
    assert sorted(ann) == sorted(ben) == list(range(len(clip_ids)))
    for start in range(0, len(clip_ids), BLOCK):
        block = set(range(start, min(start + BLOCK, len(clip_ids))))
        assert set(ann[start : start + BLOCK]) == block == set(ben[start : start + BLOCK])


def test_what_is_packed_is_what_can_be_judged() -> None:
    clip = Clip("a", "a.mp4", 1.0, 11.0, 1.0, "vgg", "v", ("Dog", "Cat"), "test", "list:1")
    cues = (
        Cue("a", "tags", "f", "m", (Item("Dog", 0.9, 0.0, 2.0, (0, 0, 1, 1)), Item("狗" * 900))),
        Cue("a", "embedding", "f", "m", (Item("AAAA" * 200),)),
        Cue("a", "loudness", "f", "Loudness", (Item("peak", -3.0),)),
        Cue("a", "speech", "f", "m", (), "no voice"),
        Cue("a", "many", "f", "m", tuple(Item(str(index)) for index in range(99))),
        Cue("a", "heard", "f", "m", (Item("no speech", 0.0), Item("language en", 0.99), Item("no speech therapy"))),
        Cue("a", "unheard", "f", "m", (Item("no speech", 0.98),)),
    )
    shown = unpack(pack("captions", to_record(Caption(clip, "A dog.", "w", cues)), {"loudness"}))
    assert (shown.outcome, shown.clip, shown.caption) == ("captions", clip, "A dog.")
    assert list(shown.cues) == ["tags", "many", "heard"]
    assert shown.cues["tags"] == (Said("Dog", 0.9, 0.0, 2.0), Said("狗" * 600 + "…"))
    assert shown.cues["many"] == (*(Said(str(index)) for index in range(12)), Said("and 87 more"))
    assert shown.cues["heard"] == (Said("no speech therapy"),)


def test_measurements_are_no_cues_to_judge() -> None:
    manifest = {
        "filters": {"silence": {"cue": "level"}, "sync": {"cue": "offsets"}, "labels": {}, "first": False},
        "similarity": {"cue": "ears", "least": 0.1},
        "cues": {"facts": {"model": "MediaFacts"}, "loud": {"model": "Loudness"}, "tags": {"model": "m"}},
    }
    assert silent_cues(manifest) == {"level", "offsets", "ears", "facts", "loud"}
    assert silent_cues({"filters": {"silence": None}, "cues": {}}) == frozenset()


def test_rejected_captions_are_drawn_where_they_are_asked_for(tmp_path: Path) -> None:
    dataset = Dataset.open(publish(tmp_path / "data", [0.1, 0.2, 0.3, 0.4]))  # two of four are below its threshold
    assert {one.clip_id for one in draw(dataset, 10)} == {"c2", "c3"}
    assert {one.clip_id for one in draw(dataset, 10, rejected=True)} == {"c0", "c1", "c2", "c3"}
    outcomes = Counter(unpack(one.packed).outcome for one in draw(dataset, 2, rejected=True))
    assert outcomes == {"captions": 1, "rejected": 1}


def test_a_sample_is_drawn_once_and_again_where_its_file_is_broken(tmp_path: Path) -> None:
    dataset, folder = Dataset.open(publish(tmp_path / "data", [0.4] * 30)), tmp_path / "samples"
    drawn = drawn_once(dataset, folder, 10)
    assert drawn == draw(dataset, 10)
    (file,) = folder.iterdir()
    Path(dataset.folder, "captions.avro").rename(tmp_path / "away")
    assert drawn_once(dataset, folder, 10) == drawn
    with pytest.raises(ConfigError, match="cannot be read"):
        drawn_once(dataset, folder, 10, seed=1)
    content = file.read_bytes()
    (tmp_path / "away").rename(Path(dataset.folder, "captions.avro"))
    for broken in (b"", content[:-40], content[:200] + b"\xff" + content[200:], b"[1]\n", b'{"sample": 1}\n[1, 2]\n'):
        file.write_bytes(broken)
        assert drawn_once(dataset, folder, 10) == drawn
        assert file.read_bytes() == content
    assert isinstance(drawn[0], Drawn)
    (tmp_path / "no").write_text("")
    assert drawn_once(dataset, tmp_path / "no", 10) == drawn  # it is only a cache


def test_a_sample_that_was_kept_can_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    dataset, before = Dataset.open(publish(tmp_path / "data", [0.4] * 3)), os.umask(0o027)
    try:
        drawn_once(dataset, tmp_path / "samples", 2)
    finally:
        os.umask(before)
    (file,) = (tmp_path / "samples").iterdir()
    assert file.stat().st_mode & 0o777 == 0o640


def test_datasets_without_a_digest_do_not_share_a_sample(tmp_path: Path) -> None:
    found = []
    for name, score in (("one", [0.4, 0.4, 0.1]), ("two", [0.1, 0.4, 0.4])):
        dataset = Dataset.open(publish(tmp_path / name, score))
        bare = replace(dataset, manifest={k: v for k, v in dataset.manifest.items() if k != "digest"})
        found.append({one.clip_id for one in drawn_once(bare, tmp_path / "samples", 5)})
    assert found == [{"c0", "c1"}, {"c1", "c2"}]
