"""`earshot review` as a command: its options, its port, its browser, and the figures that it prints."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from beam_pipeline.config import ConfigError
from beam_pipeline.review import command
from beam_pipeline.review.ratings import Review, append
from beam_pipeline.review.server import bound
from tests.test_calibrate import publish


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(arguments)


def test_only_this_machine_is_listened_to_and_a_taken_port_is_not_waited_for() -> None:
    first = bound(0)
    host, port = first.getsockname()
    assert host == "127.0.0.1"
    with pytest.raises(ConfigError, match="--port"):
        bound(port)
    with pytest.raises(ConfigError, match="--port"):
        bound(70_000)
    one, two = bound(), bound()  # twice at once on one machine
    assert one.getsockname()[1] != two.getsockname()[1]
    for each in (first, one, two):
        each.close()


def test_figures_are_those_of_the_captions_the_version_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = publish(tmp_path / "data", [0.1, 0.4, 0.5])
    for index, caption in ((0, ""), (1, ""), (2, "An older one.")):
        text = caption or f"Caption {index}."
        append(Path(root, "reviews"), Review("ann", f"c{index}", 1, "captions", text, True, text, detail=2))
    assert command.main(options(root, "--figures", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["reviews"], found["clips"], found["detail"]["value"]) == (1, 1, 1, 2.0)
    assert found["left_out"] == {"of another caption than the clip now has": 1}
    assert command.main(options(root, "--figures", "--reviews", str(tmp_path / "none"))) == 0
    shown = capsys.readouterr().out
    assert "none: no review of a caption that version 1 has" in shown
    assert shown.count("\n") == 1


def test_figures_fit_a_narrow_terminal_that_has_ascii_alone(tmp_path: Path) -> None:
    root = publish(tmp_path / "data", [0.4, 0.4, 0.4])
    for index in range(3):
        text = f"Caption {index}."
        said = Review("ann", f"c{index}", 1, "captions", text, True, text, (), 3, 5, (("шум", True), ("place", True)))
        append(Path(root, "reviews"), said)
    script = f"from beam_pipeline.review import command; import argparse; p = argparse.ArgumentParser(); \
command.add_arguments(p); command.main(p.parse_args([{root!r}, '--figures']))"
    variables = {**os.environ, "COLUMNS": "40", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ran = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "1.000" in ran.stdout


def test_a_browser_that_takes_the_terminal_does_not_hold_up_the_server(tmp_path: Path) -> None:
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.part && mv {opened}.part {opened}\nexec sleep 60\n')
    browser.chmod(0o755)
    root = publish(tmp_path / "data", [0.4])
    line = [sys.executable, "-m", "beam_pipeline.cli", "review", root, "--rater", "ann"]
    with subprocess.Popen(line, env={**os.environ, "BROWSER": f"{browser} %s"}, stdout=subprocess.PIPE) as server:
        try:
            deadline = time.monotonic() + 60
            while not opened.exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            with urlopen(opened.read_text().strip(), timeout=10) as page:  # while the browser still runs
                assert page.status == 200
            server.send_signal(signal.SIGINT)
            assert server.wait(10) == 0
        finally:
            server.kill()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-n", "0"), "at least one"),
        (("--json",), "--figures"),
        (("--figures", "--rater", "ann"), "leave out --rater"),
        (("--figures", "-n", "5", "--seed", "1", "--include-rejected"), "leave out -n, --seed, --include-rejected"),
        (("--rater", "../x"), "--rater"),
        (("--version", "7"), "no version 7"),
        (("--reviews", "gs://bucket/reviews"), "no object store can"),
    ],
)
def test_options_without_sense_are_refused(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    root = publish(tmp_path / "data", [0.4])
    with pytest.raises(ConfigError, match=message):
        command.main(options(root, "--no-open", *arguments))


def test_the_users_name_becomes_a_raters(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, wanted in (("ann", "ann"), ("Ann.Lee@uni", "ann-lee-uni"), ("Ärger", "rger"), ("__", "")):
        monkeypatch.setenv("LOGNAME", name)
        assert command.default_rater() == wanted


def test_a_port_that_another_server_has_taken_is_stepped_over() -> None:
    with socket.socket() as other:
        found = bound()
        port = found.getsockname()[1]
        found.close()
        other.bind(("127.0.0.1", port))
        other.listen()
        next_ = bound()
        assert next_.getsockname()[1] == port + 1
        next_.close()
