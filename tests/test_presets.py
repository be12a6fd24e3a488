"""Presets: what they ask Dataflow for, and whether a profile's models fit their GPUs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.config import ConfigError, Profile, load_profile
from beam_pipeline.options import beam_options, processes
from beam_pipeline.presets import CONTEXT_GB, PRESETS, SPARE, Preset, fit, load_preset, place
from beam_pipeline.shipped import shipped
from model_handlers.base import CueHandler, Example, Items, Loaded
from model_handlers.views import Listed, Listing

IMAGE = "--sdk_container_image=registry/earshot"
FLAGS = ["--runner=DataflowRunner", "--project=p", "--region=r", "--temp_location=gs://b/t", IMAGE]


def rows(profile: Profile, **changes: dict[str, Any]) -> Profile:
    return replace(profile, cues={name: {**row, **changes.get(name, {})} for name, row in profile.cues.items()})


def options(placed: tuple[str, ...]) -> dict[str, Any]:
    return beam_options(placed).get_all_options()


@pytest.fixture(scope="module")
def demo() -> Profile:
    return load_profile("demo")


@pytest.fixture(scope="module")
def auto_acd() -> Profile:
    profile = load_profile("auto_acd")
    return replace(profile, caption={**profile.caption, "key_secret": "projects/p/secrets/s/versions/1"})


@pytest.mark.parametrize("name", shipped("presets"))
def test_every_preset_reads_and_is_consistent(name: str) -> None:
    preset = load_preset(name)
    assert preset.description
    assert preset.gpu.machine_type.endswith("-1g") or preset.gpu.machine_type.endswith(f"-{preset.gpu.cores}")
    assert preset.workers.machine_type.endswith(f"-{preset.workers.cores}")
    assert preset.job.disk_gb >= 50  # an image with torch and the published models takes about 40


def test_the_full_size_set_fits_one_l4(auto_acd: Profile) -> None:
    found = fit(load_preset("l4"), auto_acd)
    assert found.copies == 1
    wanted = {
        "image_caption",
        "objects",
        "image_label",
        "place",
        "audio_tags",
        "audio_caption",
        "clap",
        "synchronisation",
    }
    assert set(found.rows) == wanted  # not what runs no model, nor the writer, which asks a provider
    # GB: the weights (BLIP-2 7.5 in half precision, the others 1.4 + 2.6 + 0.1 + 0.5 + 0.1 + 0.2 + 1.4), a batch each
    assert sum(found.rows.values()) == pytest.approx(19.8, abs=0.1)
    assert found.each_gb == pytest.approx(sum(found.rows.values()) + CONTEXT_GB)
    assert found.each_gb < 24 * (1 - SPARE)


def test_what_does_not_fit_is_an_error_that_names_rows_sum_and_remedy(auto_acd: Profile) -> None:
    with pytest.raises(ConfigError) as caught:
        fit(load_preset("t4"), auto_acd)
    said = str(caught.value)
    for part in (
        "t4",
        "20.4 GB",
        "image_caption 7.7",
        "objects 5.0",
        "nvidia-tesla-t4",
        "15.8 GB",
        "batch_size",
        "gpu_gb",
    ):
        assert part in said


def test_with_smaller_batches_and_a_row_on_the_cpu_it_fits_a_t4(auto_acd: Profile) -> None:
    smaller = rows(
        auto_acd, objects={"batch_size": 1}, image_label={"device": "cpu"}, synchronisation={"device": "cpu"}
    )
    found = fit(load_preset("t4"), smaller)
    assert found.copies == 1
    assert not {"image_label", "synchronisation"} & set(found.rows)


def test_small_models_are_loaded_once_for_each_core_and_share_the_gpu(demo: Profile) -> None:
    preset = load_preset("l4")
    assert fit(preset, demo).copies == preset.gpu.cores == 8
    placed = place("l4", demo, FLAGS)
    assert placed.hints["accelerator"].endswith(";install-nvidia-driver;use_nvidia_mps")
    found = options(placed.flags)
    assert "no_use_multiple_sdk_containers" not in (found.get("experiments") or [])  # MPS would serve one process
    assert found["number_of_worker_harness_threads"] == 1


def test_large_models_are_loaded_once_for_a_worker(auto_acd: Profile) -> None:
    placed = place("l4", auto_acd, FLAGS)
    assert placed.hints == {
        "accelerator": "type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver",
        "min_ram": "32GB",
    }
    found = options(placed.flags)
    assert found["experiments"] == ["no_use_multiple_sdk_containers"]
    assert (found["machine_type"], found["disk_size_gb"], found["max_num_workers"]) == ("n2-standard-2", 100, 40)
    assert found["number_of_worker_harness_threads"] == 8


def test_the_users_own_options_go_before_the_presets(auto_acd: Profile) -> None:
    found = options(place("l4", auto_acd, [*FLAGS, "--max_num_workers=3", "--machine_type=n2-highmem-2"]).flags)
    assert (found["max_num_workers"], found["machine_type"]) == (3, "n2-highmem-2")


def test_a_budget_is_shared_out_among_as_many_processes_as_there_are(auto_acd: Profile, demo: Profile) -> None:
    assert processes(beam_options(place("l4", auto_acd, FLAGS).flags)) == 40  # one for each machine
    assert processes(beam_options(place("l4", demo, FLAGS).flags)) == 80  # n2-standard-2 has two cores


def test_a_profile_without_models_asks_for_no_gpu(demo: Profile) -> None:
    plain = {name: demo.cues[name] for name in ("labels", "media", "loudness")}
    template = {"handler": "template_writer:TemplateWriter", "tags": "loudness", "scene": ""}
    profile = replace(demo, cues=plain, caption=template, filters=type(demo.filters)(), similarity=None)
    assert fit(load_preset("l4"), profile).copies == 0
    assert place("l4", profile, FLAGS).hints == {}


def test_a_local_writer_takes_its_share_of_the_gpu(auto_acd: Profile) -> None:
    writer = {"handler": "local_writer:LocalWriter", "model": "Qwen/Qwen3-4B-Instruct-2507", "revision": "c" * 40}
    with pytest.raises(ConfigError, match=r"caption: nothing says .* gpu_gb"):
        fit(load_preset("a100"), replace(auto_acd, caption=writer))
    local = replace(auto_acd, caption={**writer, "gpu_gb": 12.5})
    assert fit(load_preset("a100"), local).rows["caption"] == 12.5
    with pytest.raises(ConfigError, match=r"caption 12\.5"):
        fit(load_preset("l4"), local)


def test_what_a_row_says_of_its_memory_goes_before_the_estimate_and_changes_no_fingerprint(auto_acd: Profile) -> None:
    said = rows(auto_acd, place={"gpu_gb": 3.25})
    before, after = ({handler.name: handler for handler in profile.handlers()}["place"] for profile in (auto_acd, said))
    assert after.gpu_memory == 3.25
    assert before.gpu_memory == pytest.approx(0.32)
    assert before.fingerprint() == after.fingerprint()
    with pytest.raises(ConfigError, match="gpu_gb is -1"):
        rows(auto_acd, place={"gpu_gb": -1}).handlers()


def test_memory_follows_precision_and_batch(auto_acd: Profile) -> None:
    def gb(name: str, **row: Any) -> float:
        [handler] = [handler for handler in rows(auto_acd, **{name: row}).handlers() if handler.name == name]
        assert handler.gpu_memory is not None
        return handler.gpu_memory

    assert gb("image_caption", precision="fp32") == pytest.approx(2 * gb("image_caption"))
    assert gb("image_caption", batch_size=16) == pytest.approx(gb("image_caption") + 8 * 0.030)
    # Where weights stay in single precision, autocast keeps copies in half precision beside them.
    assert gb("image_label") - gb("image_label", precision="fp32") == pytest.approx(2 * 0.428)


@dataclass(kw_only=True)
class Slow(CueHandler[None]):
    """Notes how many batches it is asked for at once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.now, self.most = 0, 0

    @property
    def view(self) -> Listing:
        return Listing()

    def load(self) -> None: ...

    def predict(self, batch: Sequence[Example], model: None) -> list[Items]:
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.05)
        self.now -= 1
        return [() for _ in batch]


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_of_each_model_one_batch_is_on_a_gpu_at_a_time_whatever_the_threads(device: str) -> None:
    handler, model = Slow(name="slow", model="some/model", device=device), Loaded.of(None)
    batch = [Example("a", Listed(()))]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: handler.run_inference(batch, model), range(8)))
    assert (handler.most == 1) == (device == "cuda")
    assert [prediction.on_gpu for predictions in found for prediction in predictions] == [device == "cuda"] * 8


@pytest.mark.parametrize("name", shipped("profiles"))
def test_every_row_of_a_shipped_profile_says_what_it_takes_of_a_gpu(name: str) -> None:
    unsaid = [row for row, gb in load_profile(name).gpu_memory().items() if gb is None]
    assert unsaid == [], "give these rows gpu_gb, or their classes a footprint"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--runner=DirectRunner"], "is for Dataflow"),
        (["--sdk_container_image="], "needs the image"),
        (["--dataflow_service_options=worker_accelerator=type:nvidia-l4;count:1"], "worker_accelerator"),
        (["--flexrs_goal=COST_OPTIMIZED"], "FlexRS"),
        (["--experiments=use_multiple_sdk_containers"], "each core would load one"),
    ],
)
def test_options_that_do_not_go_with_a_preset_are_refused(auto_acd: Profile, more: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        place("l4", auto_acd, [*FLAGS, *more])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[job]", "[jobb]", "jobb"),
        ("disk_gb = 100", "disk_gb = 10", "job.disk_gb"),
        ("disk_gb = 100", 'disk_gb = 100\nzone = "a"', "job.zone"),
        ("cores = 8", "cores = 0", "gpu.cores"),
        ("memory_gb = 24.0", "memory_gb = -1.0", "gpu.memory_gb"),
        ("[gpu]", "[gpu", "cannot be read"),
    ],
)
def test_a_mistake_in_a_preset_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (PRESETS / "l4.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "mine.toml").write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        load_preset(str(tmp_path / "mine.toml"))


def test_an_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="a100, a100_80gb, l4, t4"):
        load_preset("h100")


def test_a_preset_of_ones_own_is_read_from_its_path(tmp_path: Path) -> None:
    text = (PRESETS / "l4.toml").read_text(encoding="utf-8")
    (tmp_path / "big.toml").write_text(text.replace("most_workers = 40", "most_workers = 400"))
    preset = load_preset(str(tmp_path / "big.toml"))
    assert isinstance(preset, Preset)
    assert (preset.name, preset.job.most_workers) == ("big", 400)
