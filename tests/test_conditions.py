"""Cues that are wanted only where another cue says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.config import ConfigError, Profile, load_profile
from beam_pipeline.run import Result, run
from demo.world import make_scene, write_scenes
from model_handlers.base import Item
from tests.datasets import clips
from transforms.conditions import Condition, judged, levels
from transforms.cues import CueInfo
from transforms.ingest import ClipSource
from transforms.records import Clip, Finding, Work

CLIPS = 6
TAGS = "pkg://demo/models/audio_tags"
PROFILE = """
description = "a cue of a cue of a cue"
[cues]
loudness = {{ handler = "loudness:Loudness", when = {{ cue = "place", any_of = {places} }} }}
place = {{ handler = "place:Place", model = "pkg://demo/models/place", top = 1 }}
audio_tags = {{ handler = "audio_tags:AudioTags", model = "{tags}", when = {{ cue = "loudness" }} }}
[caption]
handler = "template_writer:TemplateWriter"
scene = ""
"""


def finding(name: str, *items: Item, **what: Any) -> Finding:
    return Finding("a", name, "f" * 16, "model", "0+10", items, **what)


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (Condition("tags"), ""),
        (Condition("tags", ("Music",)), ""),
        (Condition("tags", ("Speech", "Music"), 0.4), ""),
        (Condition("tags", min_score=0.5), ""),
        (Condition("tags", ("Music",), 0.5), "tags does not name Music with 0.5"),
        (Condition("tags", ("Speech", "Rain")), "tags does not name Speech or Rain"),
        (Condition("tags", min_score=0.9), "tags does not name anything with 0.9"),
    ],
)
def test_a_condition_holds_where_one_item_fits_it(condition: Condition, reason: str) -> None:
    assert condition.unmet(finding("tags", Item("Dog", 0.8), Item("Music", 0.4))) == reason


def test_a_skipped_cue_names_nothing_and_an_item_without_a_score_has_any() -> None:
    assert Condition("tags").unmet(finding("tags", skipped="no sound")) == "tags does not name anything"
    assert Condition("tags", ("Music",), 0.9).unmet(finding("tags", Item("Music"))) == ""


def test_what_is_not_wanted_is_skipped_even_where_it_is_known() -> None:
    info = CueInfo("music", "0" * 16, "model")
    work = Work(Clip("a", "a.mp4"), (finding("tags", Item("Dog", 0.8)), finding("music", Item("a waltz"))))
    (_, music) = judged(work, {"music": (Condition("tags", ("Music",)),)}, {"music": info}).findings
    assert music.cue.skipped == "not wanted: tags does not name Music"
    assert judged(work, {"music": (Condition("tags", ("Dog",)),)}, {"music": info}) == work


@pytest.mark.parametrize(
    ("tag", "label", "why_not"),
    [
        ("Music", "Dog", ""),
        ("Dog", "Music", ""),
        ("Dog", "Dog", "not wanted: tags does not name Music and labels does not name Music"),
    ],
)
def test_of_several_conditions_one_has_to_hold(tag: str, label: str, why_not: str) -> None:
    info, either = CueInfo("music", "0" * 16, "model"), (Condition("tags", ("Music",)), Condition("labels", ("Music",)))
    told = finding("tags", Item(tag, 0.8)), finding("labels", Item(label)), finding("music", Item("a waltz"))
    (*_, music) = judged(Work(Clip("a", "a.mp4"), told), {"music": either}, {"music": info}).findings
    assert music.skipped == why_not
    assert bool(music.items) == (not why_not)


def test_a_cue_that_failed_itself_stays_failed() -> None:
    info = CueInfo("music", "0" * 16, "model")
    work = Work(Clip("a", "a.mp4"), (finding("tags", Item("Music", 0.8)), finding("music", error="broken")))
    assert judged(work, {"music": (Condition("tags"),)}, {"music": info}) == work
    (_, music) = judged(work, {"music": (Condition("tags", ("Dog",)),)}, {"music": info}).findings
    assert not music.error  # it is not asked any more


def test_a_clip_of_which_a_cue_failed_costs_nothing_more() -> None:
    info = CueInfo("music", "0" * 16, "model")
    work = Work(Clip("a", "a.mp4"), (finding("tags", Item("Dog", 0.8)), finding("sync", error="broken")))
    (*_, music) = judged(work, {"music": (Condition("tags"),)}, {"music": info}).findings
    assert music.skipped == "not wanted: sync failed"


def test_cues_are_ordered_by_their_conditions_and_circles_are_named() -> None:
    conditions = {"a": (Condition("b"),), "b": (Condition("c"),)}
    assert levels(("a", "b", "c", "d"), conditions) == (("c", "d"), ("b",), ("a",))
    assert levels(("a", "b"), {}) == (("a", "b"),)
    with pytest.raises(ValueError, match="the conditions of a, b go in a circle"):
        levels(("a", "b", "c"), {"a": (Condition("b"),), "b": (Condition("a"),)})
    with pytest.raises(ValueError, match="'nothing', which the profile has not"):
        levels(("a",), {"a": (Condition("nothing"),)})


def profile(folder: Path, places: list[str]) -> Profile:
    (folder / "mine.toml").write_text(PROFILE.format(places=places, tags=TAGS))
    return load_profile(str(folder / "mine.toml"))


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ('{ cue = "tags" }', "'tags', which the profile has not"),
        ('{ cue = "audio_tags" }', "go in a circle"),
        ('{ cue = "place", any = ["x"] }', "when.any: "),
        ("{ }", "when.cue: "),
        ("[]", "when is empty"),
        ('"place"', "when is 'place'; it has to be such as"),
        ('[{ cue = "place" }, "tags"]', "when is 'tags'; it has to be such as"),
        ('{ cue = "place", min_score = nan }', "when.min_score: "),
        ('[{ cue = "audio_tags" }, { cue = "tags" }]', "'tags', which the profile has not"),
    ],
)
def test_a_condition_that_cannot_be_meant_is_refused(tmp_path: Path, when: str, message: str) -> None:
    text = PROFILE.format(places=["x"], tags=TAGS).replace("{ cue = \"place\", any_of = ['x'] }", when)
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_profile(str(tmp_path / "mine.toml")).levels()


def test_a_cue_is_computed_where_its_condition_holds_and_a_new_condition_computes_no_more_than_it_lets_in(
    tmp_path: Path,
) -> None:
    write_scenes([make_scene(4321, index) for index in range(CLIPS)], tmp_path)
    source, data = ClipSource(str(tmp_path / "clips.csv")), str(tmp_path / "data")

    def done(places: list[str]) -> tuple[Result, dict[str, dict[str, Any]]]:
        result = run(profile(tmp_path, places), source, data, quiet=True)
        ended = [record for name in ("captions", "rejected") for record in result.read(name)]
        return result, {record.clip.clip_id: {cue.name: cue for cue in record.cues} for record in ended}

    none, cues = done(["nowhere"])
    assert clips(none) == {"decode frame": CLIPS, "place": CLIPS, "caption": CLIPS}  # the writer abstains
    where = {clip_id: found["place"].items[0].text for clip_id, found in cues.items()}
    for found in cues.values():
        assert found["loudness"].skipped == "not wanted: place does not name nowhere"
        assert found["audio_tags"].skipped == "not wanted: loudness does not name anything"
    assert none.manifest["reasons"] == {"rejected/no_caption": CLIPS}

    place = next(iter(where.values()))
    inside = [clip_id for clip_id, found in where.items() if found == place]
    assert 0 < len(inside) < CLIPS
    some, cues = done([place])
    assert (some.costs["loudness"]["clips"], some.costs["audio_tags"]["clips"]) == (len(inside), len(inside))
    assert "place" not in some.costs
    for clip_id, found in cues.items():
        assert bool(found["audio_tags"].items) == (clip_id in inside)
    assert done(["nowhere"])[0].costs == {}
    assert done([place])[0].costs == {}


FIRST = """
description = "filters first"
[cues]
media = {{ handler = "media_info:MediaFacts" }}
place = {{ handler = "place:Place", model = "pkg://demo/models/place" }}
loudness = {{ handler = "loudness:Loudness" }}
audio_tags = {{ handler = "audio_tags:AudioTags", model = "{tags}" }}
[filters]
first = {first}
silence = {{ below_dbfs = -60.0 }}
[caption]
handler = "template_writer:TemplateWriter"
scene = ""
"""


def test_with_filters_first_a_clip_that_is_dropped_costs_no_more_than_the_filters_cues(tmp_path: Path) -> None:
    write_scenes([make_scene(4321, n, fault=fault) for n, fault in enumerate((None, "silent", None))], tmp_path)
    ended = {}
    for first in ("false", "true"):
        (tmp_path / "mine.toml").write_text(FIRST.format(first=first, tags=TAGS))
        chosen, source = load_profile(str(tmp_path / "mine.toml")), ClipSource(str(tmp_path / "clips.csv"))
        done = run(chosen, source, str(tmp_path / first), quiet=True)
        ended[first] = (
            {caption.clip.clip_id: caption.caption for caption in done.read("captions")},
            {rejection.clip.clip_id: rejection.reason for rejection in done.read("rejected")},
        )
        dropped = 0 if first == "false" else 1
        costs = {"decode header": 3 - dropped, "decode frame": 3 - dropped, "decode audio 32000 Hz": 3, "loudness": 3}
        costs |= {"media": 3 - dropped, "place": 3 - dropped, "audio_tags": 3 - dropped, "caption": 2}
        costs["decode audio 32000 Hz"] += 2 * dropped  # once for loudness, and once more for those that are kept
        assert clips(done) == costs
        assert run(chosen, source, str(tmp_path / first), quiet=True).costs == {}
    assert ended["true"] == ended["false"]
    assert list(ended["true"][1].values()) == ["silent"]


def test_what_filters_need_comes_first_with_what_that_depends_on() -> None:
    conditions = {"sync": (Condition("media"),), "music": (Condition("tags"), Condition("labels"))}
    names = ("tags", "music", "sync", "media", "place", "labels")
    assert levels(names, conditions, ["sync"]) == (("media",), ("sync",), ("tags", "place", "labels"), ("music",))
