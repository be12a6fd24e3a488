from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.world import FAULTS, make_scene, write_scenes
from tests.quick_beam import remember

SEED = 4321  # neither the demo's nor one that training or the published figures used


@pytest.fixture(scope="session", autouse=True)
def quick_beam() -> Iterator[None]:
    """Beam as it is, but for what it would find out again and again."""
    with pytest.MonkeyPatch.context() as patch:
        remember(patch)
        yield


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clips.csv, truth.jsonl and 20 real MP4s: twelve good ones and one of every fault."""
    folder = tmp_path_factory.mktemp("world")
    kinds = [None] * 12 + list(FAULTS)
    write_scenes([make_scene(SEED, index, fault=kind) for index, kind in enumerate(kinds)], folder)
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, and lose much on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
