"""The demo's separator: what it learns from, and that the committed one takes the world's speech apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from demo.occasions import make_occasion
from demo.train_separation import RATE, batches, parts, si_sdr
from model_handlers.separation import Separator
from tests.conftest import SEED

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_parts_of_a_clip_are_its_speech_and_all_else() -> None:
    vocals, rest = parts(make_occasion(SEED, 0, "speech over music"), RATE)
    silent, music = parts(make_occasion(SEED, 0, "music"), RATE)
    assert np.abs(vocals).max() > 0.1
    assert np.abs(rest).max() > 0.1
    assert np.abs(silent).max() == 0
    assert np.abs(music).max() > 0.1


def test_training_crops_hold_speech_and_have_one_loudness() -> None:
    torch.manual_seed(0)
    spoken = torch.zeros(2, 10 * RATE)
    spoken[:, 70_000:90_000] = torch.randn(2, 20_000)
    (pair,) = batches(spoken, torch.randn(2, 10 * RATE), 32, RATE, 1)
    assert pair.shape == (32, 2, 1, RATE)
    assert torch.allclose(pair.sum(1).std(2), torch.ones(32, 1), atol=1e-2)
    audible = (pair[:, 0].abs().amax((1, 2)) > 0).float().mean()
    assert 0.75 < audible < 1  # but for the share that is to learn silence


def test_the_committed_separator_brings_out_speech_and_what_is_behind_it() -> None:
    handler = Separator(name="separation", model="pkg://demo/models/separation", rate=RATE, device="cpu")
    network = handler.load()
    for index, kind in enumerate(("speech and thing", "speech over music")):
        vocals, rest = parts(make_occasion(SEED, index, kind), RATE)
        whole = (vocals + rest).astype(np.float32)
        (stems,) = handler.separate([whole], network, RATE)
        assert si_sdr(stems.vocals, vocals) - si_sdr(whole, vocals) > 3
        assert si_sdr(stems.rest, rest) - si_sdr(whole, rest) > 3
    (quiet,) = handler.separate([parts(make_occasion(SEED, 0, "music"), RATE)[1]], network, RATE)
    assert np.square(quiet.vocals).mean() < 0.01 * np.square(quiet.rest).mean()
