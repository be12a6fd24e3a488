from pathlib import Path

import pytest

from beam_pipeline.config import ConfigError, load_profile
from beam_pipeline.options import beam_options, processes
from beam_pipeline.run import launch
from beam_pipeline.shipped import shipped
from transforms.ingest import ClipSource

PROFILE = """
description = "a test"
[cues]
media = { handler = "media_info:MediaFacts" }
loudness = { handler = "loudness:Loudness" }
[filters.silence]
below_dbfs = -50
[caption]
handler = "template_writer:TemplateWriter"
tags = "loudness"
scene = ""
"""


def profile_file(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_every_shipped_profile_reads_and_the_demo_builds() -> None:
    assert {"demo", "auto_acd"} <= set(shipped("profiles"))
    for name in shipped("profiles"):
        assert load_profile(name).description
    names = [handler.name for handler in load_profile("demo").handlers()]
    assert {"media", "image_caption", "audio_tags", "synchronisation"} <= set(names)


def test_a_profile_of_ones_own_is_read_from_its_path(tmp_path: Path) -> None:
    profile = load_profile(profile_file(tmp_path, PROFILE))
    assert profile.name == "mine"
    assert [handler.name for handler in profile.handlers()] == ["media", "loudness"]
    assert profile.filters.silence is not None
    assert profile.filters.silence.below_dbfs == -50


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[caption]", "[captoin]", "caption"),
        ("below_dbfs", "below_db", "below_db"),
        ('"media_info:MediaFacts"', '"media_info:MediaFacts", batchsize = 3', "did you mean 'batch_size'"),
        ('"media_info:MediaFacts"', '"nowhere:Nothing"', "cannot be imported"),
        ('"media_info:MediaFacts"', '"template_writer:TemplateWriter"', "is not a CueHandler"),
        ('"media_info:MediaFacts"', '"MediaFacts"', "needs `handler`"),
        ('description = "a test"', "description = 'a", "not valid TOML"),
        ("[caption]", "[questions]\n[caption]", "is empty; fill it, or leave it out"),
        ("[caption]", "[separation]\n[caption]", "is empty; fill it, or leave it out"),
        ("[caption]", '[checks]\nplaces = ["plce"]\n[caption]', "no cue 'plce'"),
        ("below_dbfs = -50", 'cue = "volume"', "'volume', which the profile has not"),
        ("below_dbfs = -50", 'below_dbfs = "quiet"', "valid number"),
        ("below_dbfs = -50", 'cue = "media"', "is no Loudness"),
        ('"media_info:MediaFacts"', '"media_info:MediaFacts", batch_size = "4"', "batch_size = '4'"),
        ('"media_info:MediaFacts"', '"media_info:MediaFacts", batch_size = 0', "at least 1"),
        ('"media_info:MediaFacts"', '"media_info:MediaFacts", device = "tpu"', "auto, cpu or cuda"),
        ('"media_info:MediaFacts"', '"media_info:MediaFacts", name = "x"', "no parameter 'name'"),
        ("media = {", '"a/b" = {', "should match pattern"),
        ("media = {", "decode = {", "name of a step"),
        ("[filters.silence]", "[filters.labels]\nall_of = []\n[filters.silence]", "at least 1 item"),
        ('tags = "loudness"', 'tags = "tagz"', "needs the cue 'tagz'"),
        ("[filters.silence]", '[checks]\ntries = "3"\n[filters.silence]', "checks.tries: .*valid integer"),
        ("[filters.silence]", "[checks]\ntries = true\n[filters.silence]", "checks.tries: .*valid integer"),
        ("[filters.silence]", '[checks]\ntranscripts = ["said"]\n[filters.silence]', "no cue 'said'"),
        ("[filters.silence]", "[checks]\nboilerplate = nan\n[filters.silence]", "checks.boilerplate"),
        ("below_dbfs = -50", "below_dbfs = 2026-01-01", "valid number"),
    ],
)
def test_a_mistake_in_a_profile_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_profile(profile_file(tmp_path, PROFILE.replace(old, new))).handlers()


def test_what_a_threshold_rests_on_has_no_condition(tmp_path: Path) -> None:
    clap = 'clap = { handler = "audio_embedding:AudioEmbedding", when = { cue = "loudness" } }'
    text = PROFILE.replace("[filters.silence]", f"{clap}\n[similarity]\n[filters.silence]")
    with pytest.raises(ConfigError, match=r"similarity: its cue 'clap' has a condition"):
        load_profile(profile_file(tmp_path, text))


def test_an_unknown_profile_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="auto_acd, demo"):
        load_profile("nonesuch")


def test_a_mistyped_option_is_an_error_for_local_runs_and_not_silently_dropped() -> None:
    with pytest.raises(ConfigError, match="did you mean --direct_num_workers"):
        beam_options(["--direct_num_worker=2"])
    with pytest.raises(ConfigError, match="did you mean --clips"):
        beam_options(["--clip", "x"], own=["clips", "shards"])
    beam_options(["--runner=FlinkRunner", "--an_option_of_flinks_own=1"])
    for flag, meant in (("--budgett=5", "budget"), ("--retry_failed", "retry-failed"), ("--presett=l4", "preset")):
        with pytest.raises(ConfigError, match=f"did you mean --{meant}"):
            beam_options(["--runner=DataflowRunner", flag], own=["budget", "retry-failed", "preset"])


def test_a_job_that_would_end_with_the_command_is_not_left_alone(tmp_path: Path) -> None:
    text = PROFILE.replace("[caption]", "[caption]\n# of loudness")
    chosen = load_profile(profile_file(tmp_path, text))
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.wav").write_bytes(b"x")
    source, out = ClipSource(str(tmp_path / "clips")), tmp_path / "out"
    for flags in (["--environment_type=LOOPBACK", "--job_endpoint=localhost:1"], ["--environment_type=EXTERNAL"]):
        with pytest.raises(ConfigError, match="would end with it"):
            launch(chosen, source, str(out), ["--runner=PortableRunner", "--no_wait_until_finish", *flags])
    assert not out.exists()


def test_a_key_that_no_worker_of_dataflow_has_is_missed_before_the_job() -> None:
    flags = ["--runner=DataflowRunner", "--project=p", "--region=r", "--temp_location=gs://b/tmp"]
    with pytest.raises(ConfigError, match="Secret Manager"):
        launch(load_profile("auto_acd"), ClipSource("gs://b/clips.csv"), "gs://b/out", flags)


@pytest.mark.parametrize(
    ("flags", "count"),
    [
        ([], 1),
        (["--direct_running_mode=multi_processing", "--direct_num_workers=3"], 3),
        (["--runner=DataflowRunner", "--max_num_workers=4"], 4),
        (["--runner=DataflowRunner", "--max_num_workers=4", "--machine_type=n2-standard-8"], 32),
        (["--runner=DataflowRunner", "--max_num_workers=4", "--machine_type=c4d-standard-8-lssd"], 32),
        (["--runner=DataflowRunner", "--max_num_workers=1", "--machine_type=n2-custom-6-20480"], 6),
        (["--runner=DataflowRunner", "--max_num_workers=1", "--machine_type=a2-highgpu-1g"], 26),
        (["--runner=DataflowRunner", "--max_num_workers=3", "--machine_type=e2-medium"], 6),
        (["--runner=DataflowRunner", "--num_workers=5", "--autoscaling_algorithm=NONE"], 5),
        (["--runner=FlinkRunner", "--parallelism=7"], 7),
    ],
)
def test_a_budget_is_shared_among_as_many_processes_as_there_may_be(flags: list[str], count: int) -> None:
    assert processes(beam_options(flags)) == count


def test_workers_to_begin_with_do_not_limit_those_that_share_a_budget() -> None:
    with pytest.raises(ConfigError, match="--max_num_workers"):
        processes(beam_options(["--runner=DataflowRunner", "--num_workers=5"]))
