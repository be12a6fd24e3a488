import json

import numpy as np
import pytest
import torch

from demo import train_audio_tags
from demo.occasions import make_occasion
from demo.soundtrack import synthesise_audio
from demo.train_audio_tags import CHECKPOINT, Lessons, begin_with
from demo.train_fusion_tags import CLASSES, OUT, held_out_occasions, measure, spans, training_occasion
from model_handlers.audio_tags import LABELS, AudioTags
from model_handlers.base import Example, Item
from model_handlers.nets.cnn14 import Cnn14


def test_a_crop_is_tagged_with_what_is_heard_in_it_and_with_nothing_else():
    clip = [("Dog", 1.0, 1.28), ("Bell", 6.0, 6.4), ("Music", 0.5, 9.5), ("Speech", 2.0, 4.0)]
    lessons = Lessons(torch.zeros(1, 1, 1001, 64), [clip])
    starts = torch.tensor([0, 110, 390, 450])
    targets = lessons.targets(torch.zeros(4, dtype=torch.long), starts, 200, CLASSES)
    named = [{CLASSES[i] for i in row.nonzero()[:, 0].tolist()} for row in targets]
    # from 1.1 s on, 0.18 s of the bark are left; of the speech, 0.1 s from 3.9 s on
    assert named == [{"Dog", "Music"}, {"Music", "Speech"}, {"Music"}, {"Music", "Bell"}]


def test_spans_are_the_events_the_phrases_and_the_music_with_its_instruments():
    occasion = make_occasion(1000, 0, "music and thing")
    names = {label for label, _, _ in spans(occasion)}
    assert "Music" in names
    assert len(names) == 2 + len(occasion.piece.instruments)
    spoken = [span for span in spans(make_occasion(1000, 0, "speech")) if span[0] == "Speech"]
    assert [span[1:] for span in spoken] == [(start, end) for _, start, end in make_occasion(1000, 0, "speech").said()]
    assert spans(training_occasion(1000, 1)) == []  # one in 32 is silent
    assert all(set(label for label, _, _ in spans(one)) <= set(CLASSES) for one in held_out_occasions(20))


def test_it_begins_as_the_tagger_that_it_builds_on():
    old, new = Cnn14(classes=len(train_audio_tags.CLASSES), width=4), Cnn14(classes=len(CLASSES), width=4)
    old.load_state_dict(torch.load(train_audio_tags.OUT / CHECKPOINT, weights_only=True)["model"])
    begin_with(new, train_audio_tags.OUT)
    frames = torch.randn(2, 1, 320, 64)
    with torch.inference_mode():
        known, all_of_them = old.eval().logits(frames), new.eval().logits(frames)
    assert torch.allclose(all_of_them[:, : known.shape[1]], known, atol=1e-5)
    assert CLASSES[: known.shape[1]] == train_audio_tags.CLASSES


def test_measuring_counts_clips_and_tags():
    scenes = [make_occasion(100, 0, "speech"), make_occasion(100, 0, "alone")]
    (thing, _, _), *_ = spans(scenes[1])
    right = [(Item("Speech", 0.9), Item("Dog", 0.2)), (Item(thing, 0.8), Item("Music", 0.4))]
    figures = measure(scenes, right)
    assert figures["speech_right"] == figures["music_right"] == figures["things_all_right"] == 1.0
    wrong = measure(scenes, [right[0], (Item("Speech", 0.7),)])
    assert wrong["speech_right"] == wrong["things_all_right"] == 0.5
    assert [one["clip"] for one in wrong["wrong"]] == [scenes[1].clip_id]


@pytest.mark.parametrize(
    ("kind", "labels"), [("speech over music", {"Speech", "Music"}), ("speech", {"Speech"}), ("music", {"Music"})]
)
def test_the_demo_model_hears_speech_and_music_on_held_out_clips(kind, labels):
    assert (OUT / LABELS).is_file()
    handler = AudioTags(name="audio_tags", model=str(OUT), device="cpu", top=len(CLASSES))
    clips = [make_occasion(150, index, kind) for index in range(3)]
    examples = [Example(one.clip_id, synthesise_audio(one, 32_000)) for one in clips]
    for items in handler.predict(examples, handler.load()):
        assert {item.text for item in items if item.score > 0.5} & {"Speech", "Music"} == labels


def test_its_figures_were_measured_on_held_out_clips():
    figures = json.loads(OUT.with_suffix(".json").read_text(encoding="utf-8"))
    assert figures["speech_right"] >= 0.98
    assert figures["music_right"] >= 0.98
    assert np.isfinite(figures["things_all_right"])
