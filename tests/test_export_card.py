"""The dataset card: what it says of models and reviews, and that no text in it is more than text."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from beam_pipeline.export.card import models_of, said
from beam_pipeline.export.licences import UNKNOWN, licence_of
from beam_pipeline.review.ratings import Review, append
from tests.exporting import TEXTS, caption, clip, pairs_of, publish, run

EVIL = "x](http://evil) <img src=x onerror=alert(1)> **b** http://evil.example www.evil.example a@evil.example `c` | d"


def made(
    tmp_path: Path, form: str = "jsonl", name: str = "data", texts: tuple[str, ...] = ("A dog.",), **facts: Any
) -> str:
    rows = [caption(clip(f"c{place}"), text) for place, text in enumerate(texts)]
    root = publish(tmp_path / name, 1, rows, **facts)
    assert run(root, form, tmp_path / "out") == 0
    return (tmp_path / "out/README.md").read_text(encoding="utf-8")


def head(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def cues(**models: str) -> dict[str, dict[str, str]]:
    return {name: {"model": model, "fingerprint": "f"} for name, model in models.items()}


def test_a_model_for_research_only_marks_the_dataset(tmp_path: Path) -> None:
    card = made(
        tmp_path, cues=cues(sound="nvidia/audio-flamingo-3-hf@main", labels="DatasetLabels"), model="gpt-4.1-mini"
    )
    assert (head(card)["license"], head(card)["license_name"]) == ("other", "models-for-research-or-non-commercial-use")
    assert "**For research or non-commercial use only:**" in card
    assert "| nvidia/audio-flamingo-3-hf&#64;main | sound | **NVIDIA OneWay Noncommercial License** |" in card
    assert "DatasetLabels" not in card  # which is no model


def test_a_separator_for_science_only_marks_it_too(tmp_path: Path) -> None:
    address = "https://download.pytorch.org/torchaudio/models/hdemucs_high_trained.pt#sha256=a004b2790d73ffea"
    card = made(tmp_path, separation={"model": address, "fingerprint": "f"})
    assert head(card)["license"] == "other"


def test_other_models_do_not(tmp_path: Path) -> None:
    card = made(tmp_path, cues=cues(clap="laion/clap-htsat-unfused@8fa0f1c", mine="me/model@1234"))
    assert head(card)["license"] == "unknown"  # what the captions' own is nobody has said
    assert "For research" not in card
    assert "| laion/clap-htsat-unfused&#64;8fa0f1c | clap | Apache-2.0 |" in card
    assert f"| me/model&#64;1234 | mine | {UNKNOWN} | not in Earshot's list |" in card


@pytest.mark.parametrize("profile", ["auto_acd", "fusion_audio", "demo", "fusion_audio_demo"])
def test_every_model_of_the_profiles_is_in_the_list(profile: str) -> None:
    table = tomllib.loads((files("beam_pipeline") / f"profiles/{profile}.toml").read_text(encoding="utf-8"))
    rows = [*table["cues"].values(), table["caption"], table.get("questions", {}), table.get("separation", {})]
    names = [row["model"] for row in rows if "model" in row]
    assert names
    for name in names:
        assert licence_of(name).source != "not in Earshot's list", name


@pytest.mark.parametrize(
    ("model", "restricted"),
    [
        ("nvidia/audio-flamingo-3@main", True),
        ("nvidia/audio-flamingo-2-0.5B", True),
        ("nvidia/music-flamingo-hf", True),
        ("/models/nvidia/audio-flamingo-3-hf", True),
        ("/home/ann@lab/nvidia/music-flamingo-2601-hf/", True),
        ("file:///models/nvidia/audio-flamingo-3-hf", True),
        ("/models/Qwen/Qwen2.5-VL-7B-Instruct", False),
        ("gpt-4.1-mini", False),
        ("gpt-3.5-turbo", False),
    ],
)
def test_models_are_known_by_their_family_and_in_a_local_folder(model: str, restricted: bool) -> None:
    licence = licence_of(model)
    assert (licence.restricted, licence.source == "not in Earshot's list") == (restricted, False)


def test_open_weights_are_no_service() -> None:
    assert licence_of("gpt-oss-120b").name == licence_of("openai/gpt-oss-20b@main").name == UNKNOWN


def test_a_name_that_only_begins_like_a_known_one_is_unknown() -> None:
    assert licence_of("laion/clap-htsat-unfused-2").name == UNKNOWN
    assert licence_of("https://evil/pkg://demo/").name == UNKNOWN


def test_models_of_all_steps_are_named() -> None:
    manifest = {
        "cues": cues(tags="a/tags@1", more="a/tags@1"),
        "separation": {"model": "a/stems", "fingerprint": "f"},
        "model": "a/writer",
        "questions": {"model": "a/writer", "prompt": "q"},
    }
    assert [(model, used) for model, used, _ in models_of(manifest)] == [
        ("a/tags@1", "tags, more"),
        ("a/stems", "separation"),
        ("a/writer", "captions, questions"),
    ]


def test_texts_from_clips_are_texts_on_the_card(tmp_path: Path) -> None:
    texts = (EVIL, "[click](javascript:alert(1))", "<script>alert(1)</script>\n# Heading", "a | b\r\n---\n- c")
    card = made(
        tmp_path,
        name=f"{EVIL[:30].replace('/', '_')}: !!python_object 'x' 🐕 \n- y",
        texts=texts,
        notice=EVIL,
        profile=EVIL,
        cues=cues(**{"tags": EVIL}),
        filters={EVIL: {"labels": [EVIL]}},
    )
    assert head(card)["pretty_name"].startswith("x](http:")
    body = card.split("---\n", 2)[2]
    page = MarkdownIt("commonmark").enable("table").render(body)
    assert "<script" not in page
    assert "<img" not in page
    assert "href" not in page.replace('href="#', "")
    assert "<strong>" not in page
    assert page.count("<h1>") == 1
    for text in texts[:2]:
        assert plain_text(text) in plain_text(page)


def plain_text(page: str) -> str:
    """What a reader sees, without what is no letter."""
    import html
    import re

    return re.sub(r"[^a-z0-9]", "", html.unescape(re.sub(r"</?(p|td|tr|th|h\d|table)[^>]*>", "", page)).lower())


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_is_one_line_of_text(text: str) -> None:
    shown = said(text)
    assert len(shown.splitlines()) <= 1
    assert shown.isprintable()
    page = MarkdownIt("commonmark").enable("table").render(f"| a |\n| --- |\n| {shown} |\n")
    assert page.count("<td>") == 1
    assert not {"<a", "<img", "<script", "<strong", "<em", "<code"} & {tag for tag in page.split(">")}


def test_the_configs_name_what_is_there(tmp_path: Path) -> None:
    card = made(tmp_path, "hf")
    assert head(card)["configs"] == [
        {
            "config_name": "captions",
            "default": True,
            "data_files": [{"split": "train", "path": "data/train-*.parquet"}],
        }
    ]
    assert head(card)["size_categories"] == ["n<1K"]
    assert head(card)["language"] == ["en"]


def test_the_card_tells_no_path_but_says_that_the_rows_do(tmp_path: Path) -> None:
    secret = "/home/ann/unpublished"
    facts = {
        "source": {"clips": f"{secret}/clips.csv"},
        "split_rule": {"test": 0.02, "benchmarks": {"audiocaps": f"{secret}/captions.csv"}},
    }
    rows = [caption(clip("a"))]
    root = publish(tmp_path / "data", 1, rows, **facts)
    for form in ("jsonl", "auto_acd"):
        assert run(root, form, tmp_path / form) == 0
        card = (tmp_path / form / "README.md").read_text(encoding="utf-8")
        assert secret not in card
        assert "| clips | clips.csv |" in card
        assert "audiocaps: captions.csv" in card
        assert ("Rows hold `uri` and `origin`" in card) is (form == "jsonl")


@pytest.mark.parametrize("sync", [None, {"cue": "synchronisation", "required_hits": 1}])
def test_the_card_tells_of_the_sync_filter_where_there_was_one(sync: dict[str, Any] | None, tmp_path: Path) -> None:
    card = made(tmp_path, filters={"silence": None, "sync": sync})
    assert ("sound does not belong to the picture" in card) is (sync is not None)


def test_the_card_says_that_only_known_models_are_marked(tmp_path: Path) -> None:
    assert "Only models that it knows are marked" in made(tmp_path, model="me/model@1")


def test_questions_that_nobody_checked_are_no_clips_of_the_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [caption(clip("a")), caption(clip("b"))]
    root = publish(tmp_path / "data", 1, rows, pairs_of(rows))
    append(tmp_path / "data/reviews", Review("ada", "a", 1, "captions", "A dog barks.", True, "A fox barks."))
    assert run(root, "jsonl", tmp_path / "out", "--questions") == 0
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "Questions that are not here: 2, about clips whose captions people corrected" in card
    assert "left_out.csv" not in card
    assert not (tmp_path / "out/left_out.csv").exists()
    assert "questions left out, because the caption of their clip was corrected: 2" in capsys.readouterr().out


def test_an_interval_without_width_is_not_published_as_one(tmp_path: Path) -> None:
    root = publish(tmp_path / "data", 1, [caption(clip(name)) for name in ("a", "b")])
    for name in ("a", "b"):
        one = Review("ada", name, 1, "captions", "A dog barks.", True, "A dog barks.", hallucination=5)
        append(tmp_path / "data/reviews", one)
    assert run(root, "csv", tmp_path / "out") == 0
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "| words that were changed | 0.000 | all the same | 2 |" in card
    assert "| hallucination, 1 to 5, 5 is none | 5.000 | all the same | 2 |" in card
    assert "| captions that correspond | 1.000 | 0.342 to 1.000 | 2 |" in card


def test_figures_and_reviews_are_on_the_card(tmp_path: Path) -> None:
    rows = [caption(clip(name), "A dog's bark.", "test") for name in ("a", "b")]
    root = publish(tmp_path / "data", 1, [*rows, caption(clip("c"), "Two cats hiss.")], prompt="demo-1")
    for name, corresponds in (("a", True), ("b", False)):
        append(
            tmp_path / "data/reviews",
            Review("ada", name, 1, "captions", "A dog's bark.", corresponds, "A dog's bark.", detail=2),
        )
    assert run(root, "csv", tmp_path / "out") == 0
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "| test | 1 | 3.0 | 0 |" in card
    assert "| all | 2 | 3.0 | 0 |" in card
    assert "Vocabulary: 6 different words" in card
    assert "| reviewed as not corresponding | 1 |" in card
    assert "1 person listened to 2 clips." in card
    assert "the corrected one here, also where the one that was written did not correspond" in card
    assert "| captions that correspond | 0.500 |" in card
    assert "| its prompt | demo-1 |" in card
