"""The command line itself: fast where nothing has to be done, and one line where something is wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from beam_pipeline.arguments import COMMANDS, parser
from beam_pipeline.commands import COMMANDS as DONE
from beam_pipeline.commands import whole_path

EARSHOT = (sys.executable, "-m", "beam_pipeline.cli")


def test_every_command_has_arguments_and_something_that_does_it() -> None:
    assert set(COMMANDS) == set(DONE)


def test_help_imports_nothing_that_takes_seconds() -> None:
    slow = ("torch", "apache_beam", "pandas", "matplotlib", "jinja2", "aiohttp", "av")
    for command in ("", "run", "review", "export", "report", "show"):
        code = f"from beam_pipeline.arguments import parser\nimport sys\nparser([{command!r}]).format_help()"
        code += f"\nprint([name for name in {slow!r} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]", command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_commands_help_says_what_it_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser([command]).parse_args([command, "--help"])
    assert ended.value.code == 0
    assert len(capsys.readouterr().out.split("\n\n")) >= 3  # usage, description, arguments


def test_a_terminal_that_knows_few_characters_gets_those(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "40"}
    done = subprocess.run(
        [*EARSHOT, "show", str(tmp_path), "çédille–"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "nothing has been published here" in done.stderr


def test_stopping_it_while_it_still_imports_is_no_stack_trace(tmp_path: Path) -> None:
    with subprocess.Popen([*EARSHOT, "status", str(tmp_path)], stderr=subprocess.PIPE, text=True) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        while "libtorch" not in maps.read_text():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    assert process.returncode in (2, 130)  # it may have been done by then


def test_paths_are_made_whole_and_addresses_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert whole_path("clips/*.mp4") == f"{tmp_path}/clips/*.mp4"
    assert whole_path("/data/{video_id}.mp4") == "/data/{video_id}.mp4"
    assert whole_path("gs://bucket/clips.csv") == "gs://bucket/clips.csv"
    assert whole_path("") == ""
