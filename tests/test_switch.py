"""From one paper's profile to the other's over the same data: what the two share is not computed again.

The profiles are the published ones, with the demo's models in the places of the published models; a language model is
the tests' server.
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


def with_small_models(name: str, server: LlmServer) -> Profile:
    """A published profile with the same cues, conditions, filters, prompts and checks."""
    demo, fusion = load_profile("demo"), load_profile("fusion_audio_demo")
    small = {**demo.cues, **fusion.cues}
    told = {"base_url": server.url, "key_env": ""}
    published = load_profile(name)
    cues = {}
    for cue, row in published.cues.items():
        kept = {key: row[key] for key in row.keys() & {"when", "stem", "heading"}}
        cues[cue] = {**{key: value for key, value in small[cue].items() if key not in ("when", "stem")}, **kept}
    return replace(
        published,
        cues=cues,
        separation=fusion.separation if published.separation else {},
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
    own = {"speech": len(KINDS), "sound": len(KINDS), "video": len(KINDS), "music": 1}  # music plays in one clip
    assert {name: spent.get(name, 0) for name in fusion_audio.cues} == {**dict.fromkeys(SHARED, 0), **own}
    assert not any(step in spent for step in ("decode listing", "decode header", "decode frame"))
    assert after.manifest["prompt"] == "fusion_audio-2"
    for origin, record in records(after).items():
        old = {cue.name: cue for cue in records(before)[origin].cues}
        assert {cue.name: cue for cue in record.cues if cue.name in SHARED} == {name: old[name] for name in SHARED}

    assert back.costs == {}
    assert records(back) == records(before)
