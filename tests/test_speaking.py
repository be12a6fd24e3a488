import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest

from demo import speaking
from demo.speaking import FORMS, LONGEST_S, SPEED_WPM, VOICES, WORDS, Voice, loudness, make_phrase, make_voice, say


def spoken(count: int) -> list[tuple[str, Voice]]:
    rng = np.random.default_rng(3)
    return [(make_phrase(rng), make_voice(rng)) for _ in range(count)]


def fingerprint(count: int) -> str:
    return hashlib.sha256(b"".join(say(*one, 16_000).tobytes() for one in spoken(count))).hexdigest()


def test_the_same_phrase_in_the_same_voice_is_the_same_sound_in_whatever_order_and_thread():
    wanted = spoken(24)
    first = [say(*one, 16_000) for one in wanted]
    speaking._spoken.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda one: say(*one, 16_000), reversed(wanted)))
    assert all(np.array_equal(a, b) for a, b in zip(first, reversed(again), strict=True))


def test_another_process_hears_the_same():
    code = "from tests.test_speaking import fingerprint; print(fingerprint(6))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == fingerprint(6)


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100])
def test_speech_fills_its_time_and_peaks_at_one(rate):
    phrase, voice = spoken(1)[0]
    sound = say(phrase, voice, rate)
    assert sound.dtype == np.float32
    assert len(sound) == pytest.approx(speaking.seconds_of(phrase, voice) * rate, abs=2)
    assert np.abs(sound).max() == pytest.approx(1, abs=0.15)  # resampling may reach a little further
    edge = round(0.05 * rate)
    assert np.abs(sound[:edge]).max() > 0.015
    assert np.abs(sound[-edge:]).max() > 0.015


def test_voices_differ_and_speed_is_heard():
    phrase = "the train leaves at nine"
    sounds = [say(phrase, Voice(name), 22_050).tobytes() for name in VOICES]
    assert len(set(sounds)) == len(VOICES) >= 8
    slow, fast = (len(say(phrase, Voice("en", speed), 22_050)) for speed in SPEED_WPM)
    assert slow > 1.1 * fast


def test_no_phrase_takes_longer_than_the_longest():
    for form, name in product(FORMS, VOICES):
        phrase = speaking._PLACES.sub(lambda place: max(place[1].split("|"), key=len), form)
        assert 0.7 < speaking.seconds_of(phrase, Voice(name, SPEED_WPM[0])) < LONGEST_S, phrase


def test_the_grammar_uses_all_its_words_and_no_others():
    rng = np.random.default_rng(1)
    phrases = {make_phrase(rng) for _ in range(3000)}
    assert {word for phrase in phrases for word in phrase.split()} == set(WORDS)
    assert len(phrases) > 200
    assert 60 <= len(WORDS) <= 80


def test_syllables_begin_where_it_grows_loud():
    phrase, voice = "where is the red coat", Voice("en-us")
    level = loudness(phrase, voice)
    assert level.max() == 1
    assert level.min() < 0.1  # the closure of a consonant
    assert len(level) == pytest.approx(speaking.seconds_of(phrase, voice) / speaking.STEP_S, abs=1)
    found = speaking.syllables(phrase, voice)
    assert 3 <= len(found) <= 5
    assert np.diff(found).min() > 0.2
    assert all(level[round(at / speaking.STEP_S)] > 0.4 for at in found)


def test_voices_that_are_not_there_and_phrases_without_sound_are_refused():
    with pytest.raises(ValueError, match="no voice 'nobody'"):
        say("it is cold today", Voice("nobody"), 16_000)
    with pytest.raises(ValueError, match="no sound for ''"):
        say("", Voice("en"), 16_000)


def test_without_the_package_it_says_what_to_install():
    code = "import sys; sys.modules['espeakng_loader'] = None; from demo.speaking import *; say('x', Voice('en'), 8000)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode
    assert "pip install 'earshot-captions[demo-speech]'" in done.stderr
