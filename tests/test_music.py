from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from demo.music import GENRES, INSTRUMENTS, MOODS, TEMPOS, Music, make_music, onsets, play, score

RATE = 16_000


def piece(**changes: object) -> Music:
    return replace(Music("waltz", 100.0, ("piano",), "cheerful", 5), **changes)


def test_pieces_are_drawn_evenly_and_each_property_is_independent_of_the_others():
    rng = np.random.default_rng(0)
    pieces = [make_music(rng) for _ in range(1500)]
    assert {(one.genre, one.tempo, one.mood) for one in pieces} == {
        (genre, tempo, mood) for genre in GENRES for tempo in TEMPOS for mood in MOODS
    }
    assert {one.instruments for one in pieces if len(one.instruments) == 1} == {(name,) for name in INSTRUMENTS}
    assert 0.4 < np.mean([len(one.instruments) == 2 for one in pieces]) < 0.6
    assert all(list(one.instruments) == sorted(one.instruments) for one in pieces)


def test_it_is_described_as_the_cue_says_it():
    waltz = piece(instruments=("flute", "piano"), tempo_bpm=160.0)
    assert waltz.described() == "genre: waltz; instruments: flute, piano; tempo: fast; mood: cheerful"


@pytest.mark.parametrize("instrument", INSTRUMENTS)
@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_every_instrument_plays_at_every_rate_throughout(instrument, rate):
    sound = play(piece(instruments=(instrument,)), rate, 4.0)
    assert sound.dtype == np.float32
    assert sound.shape == (4 * rate,)
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() == pytest.approx(1, abs=1e-6)
    seconds = np.sqrt((sound.reshape(4, rate) ** 2).mean(axis=1))
    assert seconds.min() > 0.02


def test_a_piece_is_the_same_each_time_and_another_with_another_seed():
    assert np.array_equal(play(piece(), RATE, 3.0), play(piece(), RATE, 3.0))
    assert score(piece(), 5.0) != score(piece(seed=6), 5.0)


def test_a_waltz_has_a_bass_and_two_chords_in_each_bar_of_three_beats():
    notes = score(piece(tempo_bpm=60.0, mood="sad", instruments=("flute", "piano")), 12.0)
    lead = max({"flute", "piano"}, key=lambda name: sum(n.seconds >= 1 for n in notes if n.instrument == name))
    at_once = Counter(round(n.start_s, 3) for n in notes if n.instrument != lead)
    assert at_once == {float(beat): 1 if beat % 3 == 0 else 3 for beat in range(12)}


def test_reggae_plays_its_chords_off_the_beat():
    music = piece(genre="reggae", tempo_bpm=60.0, mood="sad", instruments=("guitar", "piano"))
    notes = score(music, 8.0)
    chords = [n.start_s for n in notes if sum(abs(n.start_s - m.start_s) < 1e-6 for m in notes) >= 3]
    assert {round(at % 1, 3) for at in chords} == {0.5}


@pytest.mark.parametrize("tempo", TEMPOS)
def test_the_pulse_of_a_march_is_its_tempo(tempo):
    bpm = sum(TEMPOS[tempo]) / 2
    beats = onsets(piece(genre="march", mood="sad", tempo_bpm=bpm, instruments=("flute", "piano")), 8.0)
    gaps = [np.diff(times).min() for times in beats.values()]
    assert min(gaps) == pytest.approx(60 / bpm, rel=0.51)  # the melody may move between two beats
    assert max(gaps) == pytest.approx(60 / bpm, abs=1e-3)


def test_sad_melodies_are_slower_than_tense_ones_and_minor():
    sad, tense = (score(piece(mood=mood, instruments=("flute", "piano")), 8.0) for mood in ("sad", "tense"))
    assert len(tense) > 1.5 * len(sad)
    third = {mood: chords[0][1] for mood, (_, chords) in MOODS.items()}
    assert third == {"cheerful": 4, "sad": 3, "tense": 3}


def test_two_instruments_are_both_heard_and_alone_each_sounds_different():
    duo = piece(instruments=("flute", "guitar"))
    assert {note.instrument for note in score(duo, 4.0)} == {"flute", "guitar"}
    spectra = {}
    for name in INSTRUMENTS:
        spectrum = np.abs(np.fft.rfft(play(piece(instruments=(name,)), RATE, 4.0)))
        bands = np.add.reduceat(spectrum**2, np.arange(0, len(spectrum), 500))
        spectra[name] = bands / bands.sum()
    for name in INSTRUMENTS:
        assert all(np.abs(spectra[name] - spectra[other]).sum() > 0.1 for other in INSTRUMENTS if other != name), name


def test_the_last_note_ends_with_the_piece():
    sound = play(piece(mood="tense", tempo_bpm=150.0), RATE, 3.33)
    assert len(sound) == round(3.33 * RATE)
    assert abs(sound[-1]) < 1e-3
