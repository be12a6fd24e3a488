"""The code on each export's card, run as a user runs it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.export.command import FORMS
from tests.exporting import RATE, pairs_of, publish, run, tone
from transforms.records import Caption, Clip

ENDS = {"a": 1.0, "b": None, "c": 0.5}  # pandas makes texts of a column of numbers in which one is not there


def made(tmp_path: Path, form: str, splits: Sequence[str], *more: str) -> Path:
    """An export of clips with sound, of which those of train and test have questions."""
    sound = str(tone(tmp_path / "one.wav"))
    rows = [
        Caption(Clip(f"{split}-{name}", sound, end_s=end_s), "NA" if end_s else "A dog.", "w:1", (), split)
        for split in splits
        for name, end_s in ENDS.items()
    ]
    root = publish(tmp_path / "data", 1, rows, pairs_of(row for row in rows if row.split != "validation"))
    asks = [] if form == "auto_acd" else ["--questions"]
    assert run(root, form, tmp_path / "out", "--rate", str(RATE), *asks, *more) == 0
    return tmp_path / "out"


def loaded(out: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the card's code leaves when it has run."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", out.parent / "cache")
    [code] = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    found: dict[str, Any] = {}
    exec(compile(code.replace("PATH", str(out)), "README.md", "exec"), found)  # it is ours, not the clips'
    return found


@pytest.mark.parametrize("audio", ["none", "flac"])
@pytest.mark.parametrize("splits", [("train", "validation", "test"), ("validation", "test")], ids="-".join)
@pytest.mark.parametrize("form", FORMS)
def test_the_code_on_the_card_loads_the_first_split(
    form: str,
    splits: tuple[str, ...],
    audio: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = made(tmp_path, form, splits, "--audio", audio)
    capsys.readouterr()
    found = loaded(out, monkeypatch)
    wanted = [f"{splits[0]}-{name}" for name in ENDS]
    if form == "webdataset":
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == wanted
        return
    if form == "lhotse":
        assert [cut.id for cut in found[splits[0]]] == wanted
        assert all(cut.load_audio().shape[1] for cut in found[splits[0]])
        return
    captions = found["captions"]
    if form == "hf":
        assert set(captions) == set(splits)
        assert captions[splits[0]]["clip_id"][:] == wanted
    elif form == "parquet":
        assert captions["clip_id"].tolist() == [f"{split}-{name}" for split in splits for name in ENDS]
    elif form in ("csv", "auto_acd"):
        assert captions["clip_id"].tolist() == wanted
        assert captions["caption"].tolist() == ["NA", "A dog.", "NA"]
        assert captions["end_s"].dtype == float
    else:
        assert [row["clip_id"] for row in captions] == wanted
    if form != "auto_acd":
        asked = "train" if "train" in splits else "test"  # validation has no questions
        questions = found["questions"][asked]["clip_id"][:] if form == "hf" else _ids(found["questions"])
        assert (
            {clip_id.split("-")[0] for clip_id in questions} == set(splits) - {"validation"}
            if form == "parquet"
            else {asked}
        )


def _ids(rows: Any) -> list[str]:
    return list(rows["clip_id"]) if hasattr(rows, "columns") else [row["clip_id"] for row in rows]


def test_one_split_that_is_not_training_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = made(tmp_path, "csv", ("train", "test"), "--split", "test")
    assert loaded(out, monkeypatch)["captions"]["clip_id"].tolist() == [f"test-{name}" for name in ENDS]


def test_a_card_of_nothing_has_no_code(tmp_path: Path) -> None:
    assert run(publish(tmp_path / "data", 1, []), "csv", tmp_path / "out") == 0
    assert "```" not in (tmp_path / "out/README.md").read_text(encoding="utf-8")
