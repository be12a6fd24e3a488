"""`earshot report`: the page of a version, where it is written, how large it may be, and what it says of the models."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.filesystems import FileSystems

from beam_pipeline.config import ConfigError
from beam_pipeline.dataset import Dataset
from beam_pipeline.report import command
from beam_pipeline.report.build import models, page, report, slimmer
from beam_pipeline.report.gallery import Exhibit, Media
from beam_pipeline.report.parts import Plot, Section, Table
from beam_pipeline.run import run
from demo.world import make_scene, write_scenes
from tests import gcs
from tests.datasets import CLIPS, profile
from transforms.ingest import ClipSource


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two versions: the first, and one of fewer tags and a clip less."""
    folder = tmp_path_factory.mktemp("report")
    write_scenes([make_scene(4329, index) for index in range(CLIPS)], folder)
    for changes, limit in (({}, None), ({"tags": 1}, CLIPS - 1)):
        source = ClipSource(str(folder / "clips.csv"), limit=limit)
        run(profile(folder, **changes), source, str(folder / "data"), quiet=True)
    return folder / "data"


@pytest.fixture
def copy(data: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(data, tmp_path / "copy", ignore=shutil.ignore_patterns("store")))


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(arguments)


def texts(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", html))


def test_the_report_of_the_current_version_lies_beside_its_records_and_has_every_clip(copy: Path) -> None:
    path = report(str(copy), quiet=True)
    assert path == str(copy / "versions/2/report.html")
    html = Path(path).read_text(encoding="utf-8")
    dataset = Dataset.open(str(copy))
    for caption in dataset.read("captions"):
        assert caption.caption in texts(html)
        assert f"<bdi>{caption.clip.clip_id}</bdi>" in html
    assert html.count("data:audio/mpeg;base64,") == CLIPS - 1
    assert html.count("data:image/jpeg;base64,") == CLIPS - 1
    assert "version 2" in texts(html)
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", html)  # whole in one file
    assert [name.name for name in copy.glob("versions/2/.*")] == []


def test_two_reports_of_a_version_are_the_same_page(copy: Path) -> None:
    first = Path(report(str(copy), 1, quiet=True)).read_bytes()
    assert Path(report(str(copy), 1, quiet=True)).read_bytes() == first


def test_what_changed_since_the_version_before_is_in_it_unless_told_otherwise(copy: Path) -> None:
    said = "From version 1 to version 2"
    assert said in texts(shown(copy, 2))
    assert said not in texts(shown(copy, 2, compared=False))
    assert 'id="differences"' not in shown(copy, 1)  # the first


def shown(root: Path, version: int, **options: Any) -> str:
    """The page of a version, without a gallery."""
    return Path(report(str(root), version, clips=0, quiet=True, **options)).read_text(encoding="utf-8")


def test_the_command_writes_where_it_is_told_and_says_where(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    place = tmp_path / "a page.html"
    assert command.main(options(str(copy), "1", "--clips", "2", "--output", str(place), "--open")) == 0
    assert capsys.readouterr().out == f"{place}\n"
    assert opened == [place.as_uri()]
    html = place.read_text(encoding="utf-8")
    assert html.count("<article") == 2
    assert "version 1" in texts(html)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{tmp}/nothing"], "nothing has been published here"),
        (["{copy}", "7"], "there is no version 7"),
        (["{copy}", "--clips", "-1"], "--clips -1"),
        (["{copy}", "--output", "{tmp}/no/such/folder/page.html"], "cannot be written"),
        (["{copy}", "--output", "{tmp}"], "this is a folder; name a file"),
        (["{copy}", "--output", "{tmp}/new/"], "this is a folder; name a file"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments: list[str], said: str, copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        command.main(options(*(argument.format(tmp=tmp_path, copy=copy) for argument in arguments)))
    assert "\n" not in str(error.value)


def test_a_dataset_that_cannot_be_read_is_said_in_one_line(copy: Path) -> None:
    (copy / "versions/2/captions.avro").write_bytes(b"Obj\x01 and no more")
    with pytest.raises(ConfigError, match=r"captions.avro: cannot be read"):
        report(str(copy), quiet=True)


def test_a_dataset_on_google_storage_gets_its_report_there(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")
    monkeypatch.setattr("apache_beam.internal.gcp.auth.get_service_credentials", lambda options: None)
    with gcs.storage() as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        root = f"gs://{gcs.BUCKET}/{copy.parent.name}"
        for file in filter(Path.is_file, copy.rglob("*")):
            gcs.upload(f"{root}/{file.relative_to(copy)}", file.read_bytes())
        path = report(root, quiet=True)
        assert path == f"{root}/versions/2/report.html"
        with FileSystems.open(path) as file:
            html = file.read().decode()
    assert html.rstrip().endswith("</html>")
    assert html.count("<article") == CLIPS - 1


def exhibit(number: int, sound: int = 0, picture: int = 0) -> Exhibit:
    return Exhibit("captioned", f"c{number}", "", (), Media("p" * picture, (0.0,), "s" * sound))


def test_players_of_the_last_clips_are_left_out_first_and_then_their_pictures() -> None:
    shown = [exhibit(n, sound=10_000, picture=4_000) for n in range(4)]
    one = slimmer(shown, 5_000)
    assert [bool(it.media.sound) for it in one] == [True, True, True, False]
    assert one[3].media.said == ("The player is left out: the page would be too large.",)
    more = slimmer(shown, 42_000)
    assert [bool(it.media.sound) for it in more] == [False] * 4
    assert [bool(it.media.picture) for it in more] == [True, True, True, False]
    assert slimmer(shown, 0) == shown


def test_a_page_stays_as_small_as_it_has_to(data: Path) -> None:
    dataset = Dataset.open(str(data))
    shown = [exhibit(n, sound=20_000, picture=4_000) for n in range(30)]
    bare = len(page(dataset, [], [replace(it, media=Media()) for it in shown]))
    whole = page(dataset, [], shown)
    assert len(whole) > bare + 700_000
    for most in (bare + 400_000, bare + 50_000):
        found = page(dataset, [], shown, most)
        assert most - 25_000 < len(found) <= most
        assert found.count(b"left out: the page would be too large.") > 1
    with pytest.raises(ConfigError, match="show fewer clips"):
        page(dataset, [], shown, 1_000)


def test_sections_plots_and_tables_are_drawn_and_their_texts_escaped(data: Path) -> None:
    table = Table(("what", "clips", "share"), (("<b>dog</b>", "1,200", "3.5 %"), ("cat", "7", "")), "T", "from & to")
    plot = Plot("lengths", "Lengths <i>", "Most are short.", '<svg viewBox="0 0 1 1"><rect/></svg>', table)
    wide = Table(("a", "b", "c", "d", "e", "f"), (("1",) * 6,))
    html = page(Dataset.open(str(data)), [Section("two-words", "A title", "Said.", (plot, wide))], []).decode()
    assert '<svg viewBox="0 0 1 1"><rect/></svg>' in html
    assert "&lt;b&gt;dog&lt;/b&gt;" in html
    assert "<b>dog" not in html
    assert "Lengths &lt;i&gt;" in html
    assert html.count('<th scope="col" class="number">') == 2 + 5
    assert '<a href="#two-words" title="A title">Two words</a>' in html
    assert "No clips are shown." in html


MANIFEST: dict[str, Any] = {
    "separation": {"model": "facebook/demucs@v4"},
    "cues": {
        "labels": {"model": "DatasetLabels"},
        "tags": {
            "model": "https://zenodo.org/files/Cnn14_mAP%3D0.431.pth?download=1#md5=541141fa2ee191a88f24a3219fff024e"
        },
        "caption": {"model": "Salesforce/blip2-opt-2.7b@59a1ef6c1e51"},
        "music": {"model": "pkg://demo/models/listener"},
        "place": {"model": "gs://bucket/place.pth"},
        "sound": {"model": "nvidia/audio-flamingo-3-hf@0123"},
    },
    "conditions": {
        "music": [
            {"cue": "tags", "any_of": ["Music", "Song"], "min_score": 0.5},
            {"cue": "labels", "any_of": ["Music"], "min_score": None},
        ]
    },
    "writer": "ApiWriter:abc",
    "model": "gpt-4.1-mini",
    "prompt": "auto_acd-1",
    "forms": ["short"],
    "languages": ["de"],
    "questions": {"writer": "TemplateQuestions:def", "model": "", "prompt": ""},
}


def test_models_are_told_with_their_revisions_and_licences_and_in_words() -> None:
    unknown = "unknown: check"
    assert [(it.part, it.name, it.revision, it.licence, it.said) for it in models(MANIFEST)] == [
        ("separation", "facebook/demucs", "v4", unknown, "splits off the voices before other models listen"),
        ("labels", "DatasetLabels", "", "", "by rule, without a model"),
        ("tags", "Cnn14_mAP=0.431.pth", "md5=541141fa2ee191a88f24a3219fff024e", unknown, ""),
        ("caption", "Salesforce/blip2-opt-2.7b", "59a1ef6c1e51", "MIT", ""),
        (
            *("music", "listener", "", "Apache-2.0"),
            "comes with Earshot; asked only where tags names Music or Song with 0.5 or more, or labels names Music",
        ),
        ("place", "place.pth", "", unknown, ""),
        ("sound", "nvidia/audio-flamingo-3-hf", "0123", "NVIDIA OneWay Noncommercial License", ""),
        ("captions", "gpt-4.1-mini", "", "a service; its terms of use", "prompt auto_acd-1; also as short, de"),
        ("questions", "TemplateQuestions", "", "", "by rule, without a model"),
    ]
    assert [it.part for it in models(MANIFEST) if it.restricted] == ["sound"]
    (alone,) = MANIFEST["conditions"]["music"][1:]  # of one condition there is no list
    told = {it.part: it.said for it in models(MANIFEST | {"conditions": {"music": alone}})}
    assert told["music"] == "comes with Earshot; asked only where labels names Music"


def test_a_page_says_whose_licence_allows_research_only(data: Path) -> None:
    dataset = Dataset.open(str(data))
    said = "Research only. The licence of nvidia/audio-flamingo-3-hf allows no commercial use."
    assert said not in texts(page(dataset, [], []).decode())
    cues = dataset.manifest["cues"] | MANIFEST["cues"]
    html = page(replace(dataset, manifest=dataset.manifest | {"cues": cues}), [], []).decode()
    assert said in texts(html).replace(" .", ".")


def test_reviews_are_read_where_there_are_any(copy: Path) -> None:
    assert 'id="review"' not in shown(copy, 1)
    clip = next(Dataset.open(str(copy), 1).read("captions"))
    review = {
        "rater": "ann",
        "clip_id": clip.clip.clip_id,
        "version": 1,
        "outcome": "captions",
        "caption": clip.caption,
        "corresponds": True,
        "corrected": clip.caption,
        "inaudible": [],
        "detail": 2,
        "hallucination": 5,
        "cues": [],
        "note": "",
        "at": "2026-01-01T00:00:00+00:00",
        "seconds": 3.0,
        "video_id": clip.clip.video_id,
    }
    (copy / "reviews").mkdir()
    file = copy / "reviews/ann.jsonl"
    file.write_text(json.dumps(review) + "\n")
    html = texts(shown(copy, 1))
    assert "1 review of 1 clip by 1 person. 100.0 % of the captions correspond to the sound" in html
    assert "not count" not in html
    review["caption"] = review["corrected"] = "Another caption."
    file.write_text(json.dumps(review) + "\n")
    assert "No review counts. 1 review does not count." in texts(shown(copy, 1))


def test_damaged_reviews_cost_their_section_and_no_more(copy: Path) -> None:
    (copy / "reviews").mkdir()
    (copy / "reviews/ann.jsonl").write_text('{"rater": "ann"}\n\n')
    html = texts(Path(report(str(copy), clips=0, quiet=True)).read_text(encoding="utf-8"))
    assert "The reviews cannot be told:" in html
    assert "ann.jsonl, line 1: no review" in html
    assert "What went in, what came out" in html


@pytest.mark.parametrize(("name", "content"), [("captions.avro", b"Obj\x01junk"), ("manifest.json", b'{"counts": {}}')])
def test_a_damaged_version_before_costs_the_comparison_and_no_more(copy: Path, name: str, content: bytes) -> None:
    (copy / "versions/1" / name).write_bytes(content)
    html = texts(Path(report(str(copy), 2, clips=0, quiet=True)).read_text(encoding="utf-8"))
    assert "The version before cannot be compared with this one: " in html
    assert "What went in, what came out" in html


def test_the_page_names_only_the_ends_that_are_there_and_the_profile_where_there_is_one(data: Path) -> None:
    dataset = Dataset.open(str(data))
    shown = [exhibit(0), replace(exhibit(1), end="failed")]
    assert "drawn by chance: captioned and failed ones." in texts(page(dataset, [], shown).decode())
    assert "drawn by chance: failed ones." in texts(page(dataset, [], shown[1:]).decode())
    assert "Profile" not in texts(page(replace(dataset, manifest={**dataset.manifest, "profile": ""}), [], []).decode())


def test_sources_that_differ_by_case_are_told_apart(data: Path) -> None:
    shown = [replace(exhibit(n), source=source) for n, source in enumerate(("Demo", "demo"))]
    html = page(Dataset.open(str(data)), [], shown).decode()
    assert '<option value="Demo">' in html
    assert '<option value="demo">' in html
