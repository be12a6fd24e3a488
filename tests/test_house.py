"""The house: imports run one way, and the wheel holds what it should."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What each package may import of Earshot. beam_pipeline reaches demo only inside a function, for `earshot demo`.
ALLOWED = {
    "model_handlers": {"model_handlers"},
    "transforms": {"transforms", "model_handlers"},
    "beam_pipeline": {"beam_pipeline", "transforms", "model_handlers"},
    "demo": {"demo", "transforms", "model_handlers"},
}
OURS = {*ALLOWED, "tests", "benchmarks", "deploy"}


def _imports(path: Path, *, top_level_only: bool) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which way they run"
            names.add(node.module or "")
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_run_one_way(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        foreign = (_imports(path, top_level_only=False) & OURS) - ALLOWED[package]
        if package == "beam_pipeline" and path.name == "commands.py":
            foreign -= {"demo"}
            assert "demo" not in _imports(path, top_level_only=True)
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


@pytest.mark.parametrize("package", ["transforms", "beam_pipeline"])
def test_models_frameworks_are_imported_by_handlers_only(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        heavy = _imports(path, top_level_only=False) & {"torch", "torchvision", "torchaudio", "transformers"}
        assert not heavy, f"{path.relative_to(ROOT)} imports {heavy}"


def test_the_wheel_holds_the_four_packages_and_their_data_and_nothing_else(tmp_path: Path) -> None:
    copy = tmp_path / "source"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in filter(None, (name.decode() for name in files)):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "-q",
            "-w",
            str(tmp_path),
            str(copy),
        ],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == set(ALLOWED)
    for wanted in ("profiles/demo.toml", "profiles/auto_acd.toml", "presets/l4.toml", "pages/style.css"):
        assert f"beam_pipeline/{wanted}" in names
    committed = {name.decode() for name in files if name.startswith(b"demo/models/")}
    assert committed
    assert committed <= names
    assert not [name for name in names if "test" in Path(name).name]
