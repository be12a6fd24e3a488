import numpy as np

from demo import scenes
from demo.occasions import KINDS, make_occasion, make_occasions
from demo.sentences import NAMES
from demo.train_fusion_clap import captions_of, held, names_in, occasions, text_about


def test_texts_name_the_sounds_and_music_in_many_ways():
    rng = np.random.default_rng(0)
    texts = [text_about(("dog", "music"), rng) for _ in range(80)]
    assert len(set(texts)) > 40
    assert all(text[0].isupper() for text in texts)
    assert sum("plays at a" in text for text in texts) > 15  # said what music it is


def test_a_wrong_sound_takes_the_right_ones_place_in_every_style():
    occasion = make_occasion(100, 3, "music and thing")
    names = names_in(occasion)
    other = next(name for name in NAMES if name not in names)
    for right, wrong in zip(captions_of(occasion, names), captions_of(occasion, [other, *names[1:]]), strict=True):
        assert right != wrong
    assert captions_of(occasion, names)[0] == scenes.reference_caption(occasion)
    place = scenes.PLACES[occasion.place].phrase
    assert place not in "".join(captions_of(occasion, names, placed=False))


def test_swapped_captions_are_of_clips_in_which_only_other_things_are_heard():
    clips = make_occasions(100, 12, "good")
    by_caption = {scenes.reference_caption(one): names_in(one) for one in clips}
    for one in held(clips):
        assert not set(by_caption[one.swapped[0]]) & set(names_in(one.scene))
        assert len(one.matching) == len(one.swapped) == len(one.adjacent) == len(one.placeless) == 2


def test_it_learns_from_every_kind_of_occasion_in_turn():
    assert [one.kind for one in occasions(len(KINDS))] == list(KINDS)
