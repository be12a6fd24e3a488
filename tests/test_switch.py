"""From one paper's profile to the other's over the same data: what the two share is not computed again.

The profiles are the published ones with the demo's weights in the places of the published ones, which cannot be had
here; that the rows themselves are the same is shown in tests/test_fusion_prompt.py. The language model is the tests'
server.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from beam_pipeline.config import Profile, load_profile
from beam_pipeline.run import run
from demo.occasions import make_occasion
from demo.world import write_scenes
from tests.datasets import clips, records
from tests.llm_server import LlmServer, llm_server
from tests.test_fusion_prompt import SHARED
from transforms.ingest import ClipSource

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("one_thread")]

KINDS = ("music and thing", "in sequence", "speech")


VIDEO, SOUND = "40 moments every 0.25 s 96 px", "audio 16000 Hz"
# What a row says of published weights, and of how they are run; the demo's row says it of the demo's.
OF_WEIGHTS = {"model", "revision", "labels", "categories", "indoor_outdoor", "tokenizer", "precision", "gpu_gb"}
OF_ANSWERS = {"question", "max_new_tokens"}  # the demo's models understand their own questions only


def with_small_models(name: str, server: LlmServer) -> Profile:
    """A published profile with other weights: its rows keep whatever else they say, and it keeps all that is no cue."""
    published, demo = load_profile(name), load_profile("demo")
    fusion = load_profile("fusion_audio_demo")
    assert published.similarity
    small = {**demo.cues, **fusion.cues}
    told = {"base_url": server.url, "key_env": ""}
    cues = {}
    for cue, row in published.cues.items():
        kept = {key: value for key, value in row.items() if key not in OF_WEIGHTS | OF_ANSWERS}
        cues[cue] = {**small[cue], **kept}
    return replace(
        published,
        cues=cues,
        separation=fusion.separation if published.separation else {},
        similarity=replace(published.similarity, least=-1.0),  # a threshold belongs to its weights
        caption={**published.caption, **told},
        questions={**published.questions, **told} if published.questions else {},
    )


def test_a_rerun_that_switches_from_auto_acd_to_fusion_audio_computes_only_what_they_do_not_share(
    tmp_path: Path,
) -> None:
    write_scenes([make_occasion(4321, index, kind) for index, kind in enumerate(KINDS)], tmp_path)
    source, data = ClipSource(str(tmp_path / "clips.csv")), str(tmp_path / "data")
    with llm_server() as server:
        auto_acd, fusion_audio = (with_small_models(name, server) for name in ("auto_acd", "fusion_audio"))
        before = run(auto_acd, source, data, quiet=True)
        paid = server.requests
        after = run(fusion_audio, source, data, quiet=True)
        assert server.requests > paid
        asked = server.requests
        back = run(auto_acd, source, data, quiet=True)
        assert server.requests == asked

    assert set(auto_acd.cues) <= set(before.costs)
    spent = clips(after)
    decoding = {step for step in spent if step.startswith("decode ")}
    # Frames for the video, the sound at a rate that no shared cue hears, and its stems; no other view is decoded again.
    assert decoding == {f"decode {view}" for view in (VIDEO, SOUND, f"stems 16000 Hz of {SOUND}")}
    own = {"speech": len(KINDS), "sound": len(KINDS), "video": len(KINDS), "music": 1}  # music plays in one clip
    answers = {"caption": len(KINDS), "similarity": len(KINDS), "questions": len(KINDS)}
    assert {name: spent[name] for name in spent.keys() - decoding} == {**own, **answers, "separation": len(KINDS)}
    for result, prompt in ((before, "auto_acd-1"), (after, "fusion_audio-2"), (back, "auto_acd-1")):
        assert result.manifest["prompt"] == prompt
        assert result.manifest["counts"] == {"clips_in": 3, "captions": 3, "rejected": 0, "failed": 0}
    for origin, record in records(after).items():
        old = {cue.name: cue for cue in records(before)[origin].cues}
        assert {cue.name: cue for cue in record.cues if cue.name in SHARED} == {name: old[name] for name in SHARED}

    assert back.costs == {}
    assert records(back) == records(before)
