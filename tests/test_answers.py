"""Answers are in the store the moment they are there."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from apache_beam.io.filesystems import FileSystems

from model_handlers.base import Item
from model_handlers.writers import Attempt, Brief, Draft, SoundEvent
from tests.gcs import BUCKET, storage
from transforms.answers import Answers, written_key
from transforms.avro import from_record
from transforms.records import Written
from transforms.store import Store, read_rows

WRITER = "ApiWriter:0123456789abcdef"
DRAFT = Draft(
    "A dog barks.", events=(SoundEvent("a dog barks", ("tags",)),), tokens_in=200, tokens_out=30, dollars=1e-4
)


def brief(number: int) -> Brief:
    return Brief(f"clip{number}", {"tags": (Item("Dog", 0.9),)})


def kept(folder: Path) -> Iterator[Written]:
    for file in folder.rglob("*.avro"):
        for record in read_rows(str(file), Written):
            yield from_record(Written, record)


def test_an_answer_can_be_read_as_soon_as_it_is_given(tmp_path: Path) -> None:
    answers = Answers(Store(str(tmp_path)), WRITER)
    for number in range(3):
        answers([(brief(number), DRAFT)])
        rows = list(kept(tmp_path))
        assert [row.clip_id for row in rows] == [f"clip{n}" for n in range(number + 1)]
    assert rows[-1] == Written(**vars(DRAFT), clip_id="clip2", key=written_key(brief(2), WRITER))
    assert len(list(tmp_path.rglob("*.avro"))) == 1


def test_answers_that_come_together_are_kept_together(tmp_path: Path) -> None:
    answers = Answers(Store(str(tmp_path)), WRITER)
    answers([])
    assert not list(tmp_path.rglob("*.avro"))
    answers([(brief(number), DRAFT) for number in range(3)])
    answers([(brief(3), DRAFT)])
    assert [row.clip_id for row in kept(tmp_path)] == ["clip0", "clip1", "clip2", "clip3"]


def test_a_killed_process_loses_no_answer(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from tests.test_answers import *\n"
        "answers = Answers(Store(sys.argv[1]), WRITER)\n"
        "for number in range(50):\n"
        "    answers([(brief(number), DRAFT)])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], env={**os.environ, "PYTHONPATH": "."})
    assert ended.returncode == -signal.SIGKILL
    assert len(list(kept(tmp_path))) == 50


def test_a_file_that_ends_within_an_answer_is_read_up_to_there(tmp_path: Path) -> None:
    answers = Answers(Store(str(tmp_path)), WRITER)
    for number in range(5):
        answers([(brief(number), DRAFT)])
    (file,) = tmp_path.rglob("*.avro")
    file.write_bytes(file.read_bytes()[:-20])
    assert [row.clip_id for row in kept(tmp_path)] == ["clip0", "clip1", "clip2", "clip3"]


def test_threads_keep_answers_at_once(tmp_path: Path) -> None:
    answers = Answers(Store(str(tmp_path)), WRITER)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: answers([(brief(number), DRAFT)]), range(400)))
    assert {row.clip_id for row in kept(tmp_path)} == {f"clip{n}" for n in range(400)}


def test_a_copy_in_another_worker_writes_a_file_of_its_own(tmp_path: Path) -> None:
    answers = Answers(Store(str(tmp_path)), WRITER)
    answers([(brief(0), DRAFT)])
    copied = pickle.loads(pickle.dumps(answers))
    copied([(brief(1), DRAFT)])
    answers([(brief(2), DRAFT)])
    assert len(list(tmp_path.rglob("*.avro"))) == 2
    assert {row.clip_id for row in kept(tmp_path)} == {"clip0", "clip1", "clip2"}


def test_in_a_bucket_answers_are_kept_at_the_next_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    with storage() as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")
        monkeypatch.setattr("apache_beam.internal.gcp.auth.get_service_credentials", lambda options: None)
        store = Store(f"gs://{BUCKET}/data")
        answers = Answers(store, WRITER)
        answers([(brief(0), DRAFT)])
        answers([(brief(1), DRAFT)])
        answers.flush()
        answers.flush()
        [match] = FileSystems.match([store.written_files(WRITER)])
        rows = [row for file in match.metadata_list for row in read_rows(file.path, Written)]
    assert len(match.metadata_list) == 1
    assert [row["clip_id"] for row in rows] == ["clip0", "clip1"]


def test_the_key_follows_all_that_the_writer_is_told() -> None:
    told = brief(0)
    failed = Attempt("A dog.", "length", "It is too short.")
    others = [
        brief(1),
        replace(told, cues={"tags": (Item("Dog", 0.8),)}),
        replace(told, attempts=(failed,)),
        replace(told, attempts=(failed, failed)),
        replace(told, attempts=(replace(failed, answer="A cat."),)),
    ]
    keys = [written_key(some, WRITER) for some in (told, *others)] + [written_key(told, "ApiWriter:other")]
    assert len(set(keys)) == len(keys)
    assert written_key(brief(0), WRITER) == keys[0]
    reworded = replace(told, attempts=(replace(failed, check="words", complaint="Longer."),))
    assert written_key(reworded, WRITER) == keys[3]  # a check that is put otherwise costs nothing
