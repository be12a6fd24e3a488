"""What every cue handler owes its callers: each clip answered once, in order, whatever the model does."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import apache_beam as beam
import cloudpickle
import numpy as np
import pytest
import torch
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.ml.inference.base import RunInference
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult
from apache_beam.testing.util import assert_that

from beam_pipeline.config import load_profile
from beam_pipeline.shipped import shipped
from model_handlers.base import CueHandler, Example, Item, Items, Loaded, Prediction, in_parts, retryable
from model_handlers.chat import Chat
from model_handlers.media_info import MediaFacts
from model_handlers.synchronisation import Synchronisation
from model_handlers.views import Audio, AudioVideo, AudioVideoView, MediaInfo, MiddleFrame, View
from model_handlers.weights import ModelError


@dataclass
class Log:
    """Stands where a model stands, and remembers the batches it was shown."""

    sizes: list[int] = field(default_factory=list)


@dataclass(kw_only=True)
class Brightness(CueHandler[Log]):
    """Mean of the frame, in words; a frame of zeros is what it cannot digest."""

    fits: int = 1000
    digits: int = 1

    @property
    def view(self) -> View:
        return MiddleFrame()

    def load(self) -> Log:
        return Log()

    def predict(self, batch: Sequence[Example], model: Log) -> list[Items]:
        model.sizes.append(len(batch))
        if len(batch) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        means = [float(example.view.mean()) for example in batch]
        if 0.0 in means:
            raise ValueError("black")
        return [(Item(f"{mean:.{self.digits}f}"),) for mean in means]


class Forgetful(Brightness):
    """Drops the last answer."""

    def predict(self, batch: Sequence[Example], model: Log) -> list[Items]:
        return super().predict(batch, model)[:-1]


class Buggy(Brightness):
    """Has a bug that no clip is to blame for."""

    def predict(self, batch: Sequence[Example], model: Log) -> list[Items]:
        raise TypeError("a bug")


def clips(*values: int) -> list[Example]:
    return [Example(f"clip{i}", np.full((2, 3, 3), value, np.uint8)) for i, value in enumerate(values)]


def run(handler: CueHandler, examples: list[Example], check: Callable[[list[Prediction]], None]) -> PipelineResult:
    """Puts `examples` through Beam and has `check` look at all that comes out."""
    pipeline = beam.Pipeline(runner=FnApiRunner())
    # One element holds the clips, so that they come in one bundle and the batch size is the handler's alone.
    answers = pipeline | beam.Create([examples]) | beam.FlatMap(list) | RunInference(handler)
    assert_that(answers, check)
    result = pipeline.run()
    result.wait_until_finish()
    return result


def texts(predictions) -> list[str | None]:
    return [p.items[0].text if p.items else None for p in predictions]


def test_each_clip_is_answered_once_and_in_order():
    answers = Brightness(name="light").run_inference(clips(3, 1, 2), Loaded.of(Log()))
    assert [(a.clip_id, a.error) for a in answers] == [("clip0", None), ("clip1", None), ("clip2", None)]
    assert texts(answers) == ["3.0", "1.0", "2.0"]
    assert all(a.seconds > 0 for a in answers)


def test_through_beam_each_clip_gets_its_own_answer():
    def check(answers):
        assert sorted((a.clip_id, *texts([a])) for a in answers) == sorted(
            (f"clip{i}", f"{i + 1}.0") for i in range(11)
        )

    run(Brightness(name="light", batch_size=4), clips(*range(1, 12)), check)


def test_batches_through_beam_are_of_the_size_asked_for():
    result = run(Brightness(name="light", batch_size=4), clips(*range(1, 12)), len)
    found = result.metrics().query(MetricsFilter().with_namespace("earshot.light"))["distributions"]
    sizes = next(d.committed for d in found if "batch_size" in d.key.metric.name)
    assert (sizes.max, sizes.count, sizes.sum) == (4, 3, 11)


def test_batch_that_does_not_fit_is_halved_until_it_does():
    model = Log()
    answers = Brightness(name="light", fits=2).run_inference(clips(1, 2, 3, 4, 5, 6, 7, 8), Loaded.of(model))
    assert texts(answers) == [f"{i}.0" for i in range(1, 9)]
    assert [a.error for a in answers] == [None] * 8
    assert model.sizes == [8, 4, 2, 2, 4, 2, 2]


def test_allocation_that_really_fails_is_survived():
    class Greedy(Brightness):
        def predict(self, batch: Sequence[Example], model: Log) -> list[Items]:
            if len(batch) > 1:
                torch.empty(len(batch) << 50)
            return super().predict(batch, model)

    answers = Greedy(name="light").run_inference(clips(1, 2, 3), Loaded.of(Log()))
    assert texts(answers) == ["1.0", "2.0", "3.0"]


def test_clip_that_never_fits_fails_alone_and_says_so():
    (answer,) = Brightness(name="light", fits=0).run_inference(clips(5), Loaded.of(Log()))
    assert answer.items == ()
    assert answer.error.startswith("OutOfMemoryError: CUDA out of memory")


LOST = [
    "CUDA error: an illegal memory access was encountered",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "CUDA error: CUSPARSE_STATUS_EXECUTION_FAILED when calling `cusparseSpMM(…)`",
    "NCCL error in: ProcessGroupNCCL.cpp:1275, unhandled system error",
    "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
    "The NVIDIA driver on your system is too old; CUDA driver version is insufficient for CUDA runtime version",
    "device-side assert triggered",
    "HIP error: invalid device function",
]


def failing(error: Exception) -> Callable[[list[int]], list[int]]:
    def answer(some: list[int]) -> list[int]:
        raise error

    return answer


@pytest.mark.parametrize("words", LOST)
def test_a_lost_device_stops_the_run_and_is_no_clips_fault(words):
    with pytest.raises(RuntimeError) as caught:
        list(in_parts([1, 2], failing(RuntimeError(words)), "light"))
    assert str(caught.value) == words


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 20.00 GiB",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_memory_that_is_short_in_whatever_words_halves_a_batch_and_is_worth_a_retry(words):
    sizes = []

    def answer(some: list[int]) -> list[int]:
        sizes.append(len(some))
        if len(some) > 1:
            raise RuntimeError(words)
        return some

    assert [said for _, said, _ in in_parts([1, 2, 3, 4], answer, "light")] == [1, 2, 3, 4]
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    assert retryable(RuntimeError(words))


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("Internal error: [Errno 28] No space left on device"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in …"),
    ],
)
def test_what_another_machine_may_do_fails_its_clip_but_not_for_good(error):
    assert [said for _, said, _ in in_parts([1, 2], failing(error), "light")] == [error, error]
    assert retryable(error)
    assert not retryable(ValueError("black"))


def test_a_failed_batch_is_let_go_before_a_part_of_it_is_tried():
    held = []

    class Activations:
        pass

    def answer(some: list[int]) -> list[int]:
        assert not any(there() for there in held)
        here = Activations()
        held.append(weakref.ref(here))
        if len(some) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return some

    assert len(list(in_parts([1, 2, 3], answer, "light"))) == 3
    assert len(held) == 5


def test_each_part_of_a_batch_is_timed_on_its_own():
    assert all(seconds > 0 for _, _, seconds in in_parts([1, 2], failing(ValueError("black")), "light"))


@pytest.mark.parametrize(("precision", "worth_a_retry"), [("auto", True), ("fp32", False)])
def test_half_precision_that_overflows_is_worth_a_retry_where_it_may_be_single_elsewhere(precision, worth_a_retry):
    class Overflowing(Brightness):
        def predict(self, batch: Sequence[Example], model: Log) -> list[Items]:
            raise FloatingPointError("half precision overflowed")

    (answer,) = Overflowing(name="light", precision=precision).run_inference(clips(1), Loaded.of(Log()))
    assert answer.error == "FloatingPointError: half precision overflowed"
    assert answer.retryable is worth_a_retry


@pytest.mark.parametrize(
    ("there_is_one", "row", "expected"),
    [
        (True, {"model": "org/model"}, True),
        (True, {"model": "org/model", "device": "cpu"}, False),
        (True, {}, False),
        (False, {"model": "org/model"}, False),
    ],
    ids=["a model on a GPU", "told to stay on the CPU", "no model", "no GPU"],
)
def test_an_answer_says_whether_a_gpu_gave_it(monkeypatch, there_is_one, row, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there_is_one)
    answers = Brightness(name="light", **row).run_inference(clips(0, 1), Loaded.of(Log()))
    assert [answer.on_gpu for answer in answers] == [expected, expected]


@pytest.mark.parametrize(
    "said", ["no weights at /nowhere", "no weights at /nowhere. Get it from example.org", "light: no weights"]
)
def test_a_model_that_cannot_be_loaded_is_named_with_its_cue_and_what_to_do_once(said):
    class Missing(Brightness):
        advice = "Get it from example.org"

        def load(self) -> Log:
            raise ModelError(said)

    with pytest.raises(ModelError) as caught:
        Missing(name="light").load_model().get()
    assert str(caught.value).startswith("light: no weights")
    assert str(caught.value).endswith(". Get it from example.org")
    assert str(caught.value).count("light:") == str(caught.value).count("example.org") == 1


def test_a_cue_is_told_by_its_rows_heading_or_else_in_its_own_words():
    class Described(Brightness):
        described = "how bright the middle frame is"

    assert Described(name="light").told == "how bright the middle frame is"
    assert Described(name="light", heading="Helligkeit").told == "Helligkeit"
    assert Brightness(name="light").told == ""


def test_all_cues_but_those_that_say_nothing_of_what_can_be_heard_have_words_for_a_writer():
    handlers = [handler for name in shipped("profiles") for handler in load_profile(name).handlers()]
    silent = {type(handler).__name__ for handler in handlers if not handler.told}
    assert silent - {"AudioEmbedding"} == {"MediaFacts", "Loudness", "Synchronisation"}
    assert "middle frame" in Chat(name="chat", sees="frame").told
    assert "audio" in Chat(name="chat", sees="audio").told
    assert Chat(name="chat", sees="audio", heading="what Qwen hears").told == "what Qwen hears"


def test_one_bad_clip_fails_alone():
    answers = Brightness(name="light").run_inference(clips(1, 2, 0, 4), Loaded.of(Log()))
    assert texts(answers) == ["1.0", "2.0", None, "4.0"]
    assert [a.error for a in answers] == [None, None, "ValueError: black", None]


def test_one_bad_clip_fails_alone_through_beam():
    def check(answers):
        assert {a.clip_id: a.error for a in answers} == dict.fromkeys(["clip0", "clip1", "clip3"]) | {
            "clip2": "ValueError: black"
        }

    run(Brightness(name="light", batch_size=8), clips(1, 2, 0, 4), check)


def test_too_few_answers_stop_the_run():
    with pytest.raises(AssertionError, match="light: 2 answers where 3 were asked for"):
        Forgetful(name="light").run_inference(clips(1, 2, 3), Loaded.of(Log()))
    with pytest.raises(AssertionError, match="2 answers where 3"):
        run(Forgetful(name="light"), clips(1, 2, 3), len)


def test_bug_in_a_handler_stops_the_run():
    with pytest.raises(TypeError, match="a bug"):
        Buggy(name="light").run_inference(clips(1, 2), Loaded.of(Log()))


def test_parameters_come_from_the_row_only():
    with pytest.raises(ValueError, match="profile row"):
        Brightness(name="light").validate_inference_args({"digits": 2})


def test_bytes_are_those_of_the_decoded_views():
    both = AudioVideoView(np.zeros((5, 4, 4, 3), np.uint8), np.zeros(100, np.float32))
    examples = [
        Example("a", np.zeros((2, 3, 3), np.uint8)),
        Example("b", both),
        Example("c", MediaInfo(1.0, None, None)),
    ]
    assert Brightness(name="light").get_num_bytes(examples) == 18 + 240 + 400


@dataclass(kw_only=True)
class Loudness(Brightness):
    """A cue whose view hangs on a parameter."""

    rate: int = 16_000

    @property
    def view(self) -> View:
        return Audio(self.rate)


BASE = Loudness(name="loud", model="org/model", revision="a" * 40)


@pytest.mark.parametrize(
    "other",
    [
        replace(BASE, rate=32_000),
        replace(BASE, revision="b" * 40),
        replace(BASE, model="org/other"),
        replace(BASE, name="louder"),
    ],
    ids=["parameter", "revision", "model", "name"],
)
def test_fingerprint_changes_with_what_determines_the_value(other):
    assert other.fingerprint() != BASE.fingerprint()


@pytest.mark.parametrize("change", [{"batch_size": 64}, {"device": "cpu"}, {"heading": "how loud it is"}], ids=str)
def test_fingerprint_does_not_change_with_what_only_makes_it_faster(change):
    assert replace(BASE, **change).fingerprint() == BASE.fingerprint()


@pytest.mark.parametrize(("what", "value"), [("version", 2), ("view", AudioVideo())], ids=["version", "view"])
def test_fingerprint_changes_with_the_handlers_version_and_view(monkeypatch, what, value):
    before = BASE.fingerprint()
    monkeypatch.setattr(Loudness, what, value)
    assert BASE.fingerprint() != before


def test_fingerprint_is_of_the_content_of_a_local_model_not_of_its_place(tmp_path):
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    of = {name: Loudness(name="loud", model=str(tmp_path / name)).fingerprint() for name in "abc"}
    assert of["a"] == of["b"] != of["c"]


def test_fingerprint_tells_two_classes_of_one_name_in_two_packages_apart(monkeypatch):
    before = BASE.fingerprint()
    monkeypatch.setattr(Loudness, "__module__", "another.package")
    assert BASE.fingerprint() != before


def test_fingerprint_is_the_same_on_every_run_and_after_travel():
    # Worked out once and written down: a change here means that every stored cue is computed anew.
    assert MediaFacts(name="media").fingerprint() == "785862f5ed87cd1f"
    assert Synchronisation(name="sync", model="org/model", revision="a" * 40).fingerprint() == "e72e4d536bfdd40e"
    assert cloudpickle.loads(cloudpickle.dumps(BASE)).fingerprint() == BASE.fingerprint()
