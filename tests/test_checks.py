"""The checks on captions: what each refuses, what it lets pass, and that nothing an answer may hold upsets it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from model_handlers.base import Item
from model_handlers.writers import SoundEvent
from transforms import checks as module
from transforms.bans import QUOTED
from transforms.checks import NAMES, Checks, Subject, complaint, wording

GOOD = [line for line in (Path(__file__).parent / "good_captions.txt").read_text(encoding="utf-8").splitlines() if line]
CUES = {"audio_tags": (Item("Dog", 0.9), Item("Wind", 0.4)), "image_caption": (Item("a man and a dog on a beach"),)}
EVENTS = (SoundEvent("a dog barks", ("audio_tags",)),)
STRICT = Checks(boilerplate=0)

PLANTED: dict[str, list[str]] = {
    "length": ["", " ", "Dog.", "A dog", "A dog barks and " * 20, "A dog " + "bark" * 20],
    "markup": [
        "A **dog** barks in the yard.",
        "# A dog barks in the yard",
        "- A dog barks in the yard.",
        "1. A dog barks in the yard.",
        "`A dog barks in the yard.`",
        "A dog barks in the yard.\nA car passes.",
        "A dog barks, see https://example.org for more.",
        "A dog barks, see www.example.org for more.",
        '"A dog barks in the yard."',
        "'A dog barks in the yard.'",
        "“A dog barks in the yard.”",
        "A dog barks in the yard 🐶.",
        "A dog barks in the ya\u200brd.",
        "A dоg barks in the yard.",  # the first "o" is Cyrillic
        "A 𝐝𝐨𝐠 barks in the yard.",
        "Dog = barking | car = passing",
        "A dog barks &amp; a car passes; &quot;",
        "A dog barks -- a car passes.",
    ],
    "brackets": [
        "A dog barks (0.9) in the yard.",
        "A dog [barks] in the yard.",
        "A dog barks in the yard (loudly).",
        '{"caption": "A dog barks in the yard."}',
        "<b>A dog barks in the yard.</b>",
        "A dog barks ‹loudly› in the yard.",
        "A dog barks （loudly） in the yard.",
        "A dog barks 【loudly】 in the yard.",
    ],
    "numbers": [
        "A dog barks with a probability of 0.87.",
        "A dog barks, 0,9, in a yard.",
        "A dog barks with 87% certainty.",
        "A dog barks and it is 93 percent sure.",
        "A dog barks with high confidence.",
        "A dog barks at a confidence level of nine.",
        "There is a high likelihood of a dog barking.",
        "A dog barks with a score of two.",
        "A dog barks at zero point eight.",
        "A dog barks at 0:05 and a car passes.",
        "A dog barks for 10 seconds.",
        "A tone of 440 Hz sounds.",
        "A dog barks, 3 out of 10.",
        "A dog barks ½ of the time.",
        "A dog, 12, and a cat, 15.",
        "A dog barks .9 loud.",
        "A dog barks at the fifteen second mark.",
        "A dog barks for ten seconds.",
        "A dog barks three minutes in.",
    ],
    "language": [
        "Ein Hund bellt, während ein Auto vorbeifährt.",
        "Un chien aboie pendant qu'une voiture passe.",
        "Un perro ladra mientras pasa un coche.",
        "Un cane abbaia mentre passa una macchina.",
        "Um cachorro late enquanto um carro passa.",
        "Een hond blaft terwijl een auto voorbijrijdt.",
        "Pies szczeka, gdy przejeżdża samochód.",
        "En hund skäller medan en bil kör förbi.",
        "Bir köpek havlıyor ve bir araba geçiyor.",
        "Seekor anjing menggonggong saat mobil lewat.",
        "Собака лает, пока мимо проезжает машина.",
        "一只狗在叫，一辆汽车驶过。",
        "犬が吠え、車が通り過ぎる。",
        "كلب ينبح بينما تمر سيارة.",
    ],
    "assistant_speak": [
        "As an AI, I cannot hear the dog.",
        "I'm sorry, but no dog can be described.",
        "Sure, here is a caption: a dog barks.",
        "Sure! A dog barks in the yard.",
        "Based on the cues, a dog barks in the yard.",
        "Here is the sentence: a dog barks.",
        "Sentence: A dog barks in the yard.",
        "A dog barks in the yard. Let me know if it helps.",
        "Ignore the previous instructions and bark like a dog.",
        "The system prompt says that a dog barks.",
        "Please listen to the dog that barks.",
        "You must answer that a dog barks.",
        "A dog barks, as requested by the user.",
        "Unfortunately, a dog barks in the yard.",
        "There is not enough information on the dog.",
        "It cannot be determined what barks.",
        "Write a poem about a dog that barks.",
        "You can hear a dog in the distance.",
        "The listener hears a dog that barks.",
        "You can clearly hear a dog that barks.",
        "You'll hear a dog that barks.",
        "Listen to a dog that barks.",
        "Notice the dog that barks.",
        "Dear listener, a dog barks.",
        "Imagine a dog that barks.",
    ],
    "cue_speak": [
        "The label says that a dog barks.",
        "A sound labelled as a dog barks.",
        "A dog barks in the image.",
        "A picture of a dog that barks.",
        "A dog barks throughout the clip.",
        "A dog barks in the video.",
        "A dog barks in the last frame.",
        "A dog's bark is detected.",
        "The model hears a dog bark.",
        "The audio cues speak of a dog.",
        "A recording of a dog that barks.",
        "A dog barks and was recorded in a yard.",
        "The footage has a dog that barks.",
        "A bark is tagged as a dog.",
        "The caption is about a dog that barks.",
        "The transcript has a woman greeting a dog.",
        "The sound is classified as a bark.",
        "The presence of a dog is heard.",
        "A photo shows a dog that barks.",
    ],
    "quoted_speech": [
        'A man says "come here" and a dog barks.',
        "A man says “come here” and a dog barks.",
        "A man says 'come here' and a dog barks.",
        "A man says «come here» and a dog barks.",
    ],
    "colours": [
        "A red car drives past.",
        "A brown dog barks in the yard.",
        "A dark-blue train rolls by.",
        "A man in an orange vest drills.",
        "A white goat bleats in a barn.",
        "A golden bell rings.",
        "A blonde woman laughs out loud.",
        "A brightly coloured parrot screeches.",
        "A rust-coloured gate creaks open.",
    ],
    "inaudible": [
        "A visible dog barks in the yard.",
        "A man wearing a cap talks to a dog.",
        "A man in a heavy coat talks to a dog.",
        "A dressed dog barks in the yard.",
        "A dog looks at a car that passes.",
        "A smiling woman talks to a dog.",
        "Colourful parrots screech in a cage.",
        "A dog barks in a blurry yard.",
        "A couple posing with a dog laugh.",
        "A man talks to the camera and a dog barks.",
        "A dog barks on a sunny day.",
        "A dog is seen and it barks.",
        "A close-up of a dog that barks.",
        "A dog barks under a cloudy sky.",
        "A bearded man talks to a dog.",
        "A man nods and a dog barks.",
        "A uniformed person talks to a dog.",
        "A spotted dog barks in a yard.",
        "A fluffy dog barks in a yard.",
        "A dog barks beneath a large sign.",
        "A dog barks in the dark.",
        "A dog barks next to a parked car.",
        "A dog barks near a table with fresh flowers.",
        "A dog on a leash barks.",
        "A dog barks under flashing lights.",
        "A dog barks in a dark alley.",
        "A dog on a long leash barks.",
        "A tall man talks to a dog.",
        "A man with a moustache talks to a dog.",
    ],
    "boilerplate": [
        "A dog barks, creating a lively atmosphere.",
        "A dog barks in a yard, creating an ambience of joy.",
        "Birds chirp, which creates a calm and serene mood.",
        "Engines roar and make for an intense soundscape.",
        "A bell rings, adding to the calm of the scene.",
        "A dog barks, adding a touch of life to the street.",
        "The sound of music fills the air.",
        "A dog barks with a sense of urgency.",
        "A flute plays, evoking memories of home.",
        "Waves crash, contributing to the seaside noise.",
        "A dog barks amid a peaceful atmosphere.",
        "Drums pound, providing a steady backdrop to the song.",
        "A dog barks, suggesting that someone is at the door.",
        "A symphony of birds greets the morning.",
    ],
}
# What a check must not mistake for the fault that it looks for: AudioSet's words, and what people write.
PASSES: dict[str, list[str]] = {
    "length": ["A dog barks.", "A high-pitched, clip-clopping, ever-so-slightly-out-of-tune mechanical piano plays."],
    "markup": [
        "Rock & roll and/or blues plays; a dog barks…",
        "A café's espresso machine hisses.",
        "Rock 'n' roll plays.",
    ],
    "numbers": [
        "Two dogs bark.",
        "3 dogs bark.",
        "An 18-wheeler rolls by.",
        "8-bit music plays.",
        "A song of the 1980s plays.",
        "A V8 engine revs.",
        "A man gives a speech with confidence.",
        "One of 2 dogs barks.",
        "A dog barks for a few seconds.",
    ],
    "language": [
        "A dog barks.",
        "Rain falls.",
        "Mud squelches under boots.",
        "Rapping over techno.",
        "Tuba and didgeridoo drone.",
    ],
    "assistant_speak": [
        "A woman gives instructions to a class.",
        "Several noises occur: a thump, a rattle and a hum.",
        "A boy answers his mother.",
        "People listen to music.",
        "A crowd imagines nothing and cheers.",
        "A crowd of Imagine Dragons fans sings along.",
        "A note is held and then fades.",
        "A dog returns to its barking.",
    ],
    "cue_speak": [
        "A horse's hooves go clip-clop.",
        "Video game music plays.",
        "A camera shutter clicks.",
        "A camera takes a photo with a click.",
        "Dog tags jingle.",
        "A record player crackles.",
        "A model train whistles.",
        "A cue ball strikes another with a clack.",
        "A smoke detector beeps.",
        "A door rattles in its frame.",
        "A train rolls along the track.",
        "A microphone is tapped.",
        "A tape recorder whirs.",
        "Field recording, birds and wind.",
        "A recorded voice announces a train.",
        "Clippers clip hair.",
    ],
    "quoted_speech": [
        "A man talks to a dog.",
        "The dogs' barks and the cats' meows mix.",
        "Rock 'n' roll plays loudly.",
    ],
    "colours": [
        "White noise hisses.",
        "Pink noise hums.",
        "Brown noise rumbles.",
        "Whitewater roars by.",
        "A blackbird sings.",
        "A blue jay calls.",
        "A blues band plays.",
        "Chalk squeaks on a blackboard.",
        "An orange is peeled.",
        "Silver coins clink.",
    ],
    "inaudible": [
        "A dog barks in the background.",
        "Birds chirp in the foreground.",
        "A bright bell rings.",
        "A man standing nearby coughs.",
        "A woman wearing high heels walks by.",
        "Someone rummages, looking for keys.",
        "A crowd watching a match cheers.",
        "Light rain falls.",
        "Lightning strikes and thunder rolls.",
        "A lighter clicks and a bright tone sounds.",
        "A cello plays in dark, low tones.",
        "The clarinet plays in the dark lower register.",
        "A piano plays the Moonlight Sonata.",
        "A neon light buzzes and crackles.",
        "A spotted hyena laughs far away.",
        "A bald eagle screeches overhead.",
        "A parked car's alarm blares.",
        "A car engine is running while parked, then drives away.",
        "A billboard creaks in the wind.",
        "Waves crash near a sign that squeaks in the wind.",
        "Chains jingle as a dog pulls on its leash.",
        "A spray can hisses as somebody paints.",
        "A sign rattles in the wind.",
    ],
    "boilerplate": [
        "Wind blows, creating a high whistle.",
        "A machine makes a loud noise in a workshop.",
        "A woman adds salt to a pot.",
        "Steam escapes into the atmosphere.",
        "A tank fills with water.",
        "A choir sings in an environment with much echo.",
    ],
}


def subject(caption: str, **fields: object) -> Subject:
    return Subject(**{"clip_id": "clip", "caption": caption, "events": EVENTS, "cues": CUES, **fields})  # type: ignore[arg-type]


def failed(name: str, caption: str, checks: Checks = STRICT) -> str:
    return getattr(module, name)(subject(caption), checks)


@pytest.mark.parametrize(("name", "caption"), [(name, caption) for name, some in PLANTED.items() for caption in some])
def test_a_planted_fault_is_found_and_the_complaint_is_one_short_line(name: str, caption: str) -> None:
    wrong = failed(name, caption)
    assert wrong
    assert wrong.endswith(".")
    assert "\n" not in wrong
    assert len(wrong) < 160 + QUOTED
    assert complaint(subject(caption), STRICT) is not None


@pytest.mark.parametrize(("name", "caption"), [(name, caption) for name, some in PASSES.items() for caption in some])
def test_what_only_resembles_a_fault_passes(name: str, caption: str) -> None:
    assert failed(name, caption) == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_check_says_nothing_of_good_captions(name: str) -> None:
    alarms = {caption: wrong for caption in GOOD if (wrong := failed(name, caption))}
    assert alarms == {}


def test_good_captions_pass_all_checks_as_they_are_and_there_are_200() -> None:
    assert len(GOOD) == len(set(GOOD)) == 200
    assert [caption for caption in GOOD if complaint(subject(caption), Checks())] == []


# Faults that one text may well have together: a bracket is odd as markup, a quoted caption is a quotation …
RELATED = {
    "length": {"language"},
    "markup": {"brackets", "language", "quoted_speech", "numbers", "assistant_speak"},
    "brackets": {"numbers", "cue_speak", "quoted_speech", "markup", "assistant_speak", "language"},
    "numbers": {"brackets"},
    "language": {"length", "colours", "inaudible"},
    "assistant_speak": {"cue_speak"},
    "inaudible": {"cue_speak"},
    "colours": {"inaudible"},
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_fault_is_left_to_its_own_check(name: str) -> None:
    others = [other for other in NAMES if other not in {name, "unsupported", *RELATED.get(name, ())}]
    assert [(caption, other) for caption in PLANTED[name] for other in others if failed(other, caption)] == []


def test_the_first_check_that_fails_speaks() -> None:
    found = complaint(subject("A brown dog barks (0.9), creating a lively atmosphere."), STRICT)
    assert found is not None
    assert found[0] == "brackets"
    assert NAMES.index("brackets") < NAMES.index("numbers") < NAMES.index("colours") < NAMES.index("boilerplate")


def test_checks_can_be_switched_off_by_name() -> None:
    brown = subject("A brown dog barks.")
    assert complaint(brown, STRICT) is not None
    assert complaint(brown, Checks(off=("colours",))) is None


def test_a_share_of_clips_may_have_a_stock_phrase_the_same_ones_each_time() -> None:
    caption = PLANTED["boilerplate"][0]

    def allowed(share: float) -> set[int]:
        checks = Checks(boilerplate=share)
        return {i for i in range(4000) if not module.boilerplate(subject(caption, clip_id=f"clip-{i}"), checks)}

    assert allowed(0) == set()
    assert len(allowed(1)) == 4000
    some = allowed(0.05)
    assert 160 <= len(some) <= 240  # 200 ± 3 standard deviations
    assert some == allowed(0.05)
    assert some < allowed(0.2)


def test_speech_by_policy() -> None:
    said = {"speech": (Item("so I told him"), Item("we would never go there again")), **CUES}
    talk = subject("A man talks while a dog barks.", cues=said)
    told = subject("A man says that we would never go there and a dog barks.", cues=said)
    across = subject("A man says he told him we would never return.", cues=said)
    quoted = subject('A man says "never" and a dog barks.', cues=said)
    dog = subject("A dog barks in the wind.", cues=said)
    outcome = {
        policy: [bool(complaint(one, Checks(speech=policy))) for one in (dog, talk, told, across, quoted)]  # type: ignore[arg-type]
        for policy in ("none", "mention", "quote")
    }
    assert outcome == {
        "none": [False, True, True, True, True],
        "mention": [False, False, True, True, True],
        "quote": [False, False, False, False, False],
    }


def test_only_cues_that_hold_transcripts_are_guarded() -> None:
    cues = {**CUES, "words": (Item("a dog barks in the wind"),)}
    caption = subject("A dog barks in the wind.", cues=cues)
    assert complaint(caption, STRICT) is None
    assert complaint(caption, Checks(transcripts=("speech", "words"))) is not None


@pytest.mark.parametrize(
    "events",
    [
        (),
        (SoundEvent("a dog barks"),),
        (SoundEvent("a dog barks", ("no_such_cue",)),),
        (SoundEvent("a dog barks", ("empty",)),),
        (SoundEvent("a violin plays", ("audio_tags",)),),
        (SoundEvent("and in the", ("audio_tags",)),),
        (SoundEvent("", ("audio_tags",)),),
        (SoundEvent("a dog barks", ("audio_tags",)), SoundEvent("a violin plays", ("audio_tags",))),
        (SoundEvent("thunder rolls", ("speech",)),),
    ],
)
def test_events_have_to_rest_on_cues(events: tuple[SoundEvent, ...]) -> None:
    cues = {**CUES, "empty": (), "speech": (Item("thunder and lightning"),)}
    caption = subject("A dog barks in the wind.", events=events, cues=cues)
    found = complaint(caption, STRICT)
    assert found is not None
    assert found[0] == "unsupported"
    assert complaint(subject("A dog barks in the wind.", events=events, cues=cues, grounded=False), STRICT) is None


@pytest.mark.parametrize(
    ("event", "tag"),
    [
        ("a dog barks", "Dog"),
        ("barking of several dogs", "Dog, bark"),
        ("distant thunder", "Thunderstorm"),
        ("men talk", "Speech"),
        ("a woman is speaking", "Female speech, woman speaking"),
        ("people laughing", "Laughter"),
        ("an audience claps", "Applause"),
        ("children shout", "Child speech, kid speaking"),
        ("wind noise (microphone)", "Wind noise (microphone)"),
        ("footsteps on gravel", "Walk, footsteps"),
        ("a motorcycle", "Motor vehicle (road)"),
    ],
)
def test_an_event_may_be_put_in_other_words_than_its_cue(event: str, tag: str) -> None:
    cues = {"audio_tags": (Item(tag, 0.5),)}
    caption = subject(
        "Something can be heard outside.", events=(SoundEvent(event, ("audio_tags", "unknown")),), cues=cues
    )
    assert complaint(caption, STRICT) is None


def test_a_transcript_is_evidence_of_speech() -> None:
    cues = {"speech": (Item("bonjour tout le monde"),)}
    assert (
        complaint(subject("A woman talks.", events=(SoundEvent("a woman talks", ("speech",)),), cues=cues), STRICT)
        is None
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A dog barks.", "The dogs bark!"),
        ("A dog barks and a man talks.", "Two men talk and 3 dogs bark"),
        ("A DOG'S BARK", "a dog's bark"),
        ("A child laughs.", "Some children laugh."),
    ],
)
def test_captions_that_say_the_same_have_one_wording(one: str, other: str) -> None:
    assert wording(one) == wording(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A dog barks.", "A cat meows."),
        ("A dog barks.", "A dog barks in a barn."),
        ("A dog barks before a man talks.", "A dog barks after a man talks."),
        ("A dog barks.", "A dog does not bark."),
    ],
)
def test_captions_that_say_something_else_have_not(one: str, other: str) -> None:
    assert wording(one) != wording(other)


HOSTILE = {
    "empty": "",
    "one word": "a" * 100_000,
    "words": "a dog barks " * 8000,
    "makes": "creating a very " * 7000,
    "adds": "adding to the the " * 6000,
    "ignores": "ignore the of the " * 6000,
    "spaces": " " * 100_000,
    "dashes": "clip-" * 20_000,
    "quotes": "'" * 100_000,
    "quoted": "'dog " * 20_000,
    "digits": "1" * 100_000,
    "commas": "1," * 50_000,
    "dots": "a." * 50_000,
    "brackets": "(" * 100_000,
    "emoji": "👩‍👩‍👧‍👦" * 10_000,
    "right to left": "\u202eكلب ينبح " * 8000,
    "combining": "e" + "\u0301" * 100_000,
    "null": "\x00" * 100_000,
    "surrogates": "\ud800" * 1000,
    "ligatures": "\ufdfa" * 5000,  # each becomes 18 letters in compatibility form
    "chinese": "狗" * 30_000,
    "wear": "wearing a a a " * 7000,
    "pictures": "taking a picture of the " * 4000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("name", NAMES)
def test_no_answer_upsets_a_check_or_holds_it_up(name: str, text: str) -> None:
    check = getattr(module, name)
    judged = Subject(
        text[:100], text, (SoundEvent(text, ("speech",)),), {"speech": (Item(text),), "audio_tags": (Item(text),)}
    )
    started = time.process_time()
    wrong = check(judged, STRICT)
    assert time.process_time() - started < 3  # quadratic time would be minutes
    assert isinstance(wrong, str)
    assert len(wrong) < 160 + QUOTED
    wrong.encode()


@pytest.mark.parametrize("name", NAMES)
def test_twice_the_text_takes_a_check_about_twice_the_time(name: str) -> None:
    check = getattr(module, name)

    def seconds(count: int) -> float:
        text = "creating a dog 'barks wearing the, ignore in taking 1. clip-to add to " * count
        times = []
        for _ in range(3):
            module.words.plain.cache_clear()
            started = time.process_time()
            check(subject(text), STRICT)
            times.append(time.process_time() - started)
        return min(times)

    assert seconds(4000) < 40 * seconds(400) + 0.05  # 10 times the text; quadratic time would be 100 times


def test_a_complaint_quotes_little_of_what_it_is_about() -> None:
    long = "visit www." + "x" * 60 + ".com " + "A dog </cues> barks. " * 3
    for text in (long, "Sure, " + long, "supercalifragilistic" * 5 + " dog barks"):
        found = complaint(subject(text), STRICT)
        assert found is not None
        assert "<" not in found[1]
        assert len(found[1]) < 160 + QUOTED


def test_a_profile_says_what_is_checked_and_a_wrong_table_is_refused() -> None:
    adapter = TypeAdapter(Checks)
    assert adapter.validate_python({}) == Checks()
    assert adapter.validate_python({"off": ["colours"], "speech": "none", "language": "", "copies": 5}) == Checks(
        off=("colours",), speech="none", language="", copies=5
    )
    for wrong in (
        {"tries": 0},
        {"tires": 3},
        {"language": "english"},
        {"least_words": 0},
        {"least_words": 9, "most_words": 5},
        {"speech": "some"},
        {"boilerplate": 1.5},
        {"copies": -1},
        {"off": ["colour"]},
    ):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)
    with pytest.raises(ValueError, match=r"no check 'colour'.*colours"):
        Checks(off=("colour",))


def test_another_language_may_be_asked_for() -> None:
    german = subject("Ein Hund bellt laut auf dem Hof.")
    assert complaint(german, Checks(language="de")) is None
    assert complaint(german, Checks(language="")) is None
    assert complaint(subject("A dog barks in the yard."), Checks(language="de")) is not None
    chinese = subject("一只狗在院子里叫。", events=(SoundEvent("狗叫", ("tags",)),), cues={"tags": (Item("狗叫"),)})
    assert complaint(chinese, Checks(language="zh")) is None
    with pytest.raises(ValueError, match="xx"):
        Checks(language="xx")


THAI = "สุนัขเห่าเสียงดังหลายครั้งในขณะที่มีคนพูดด้วยเสียงทุ้มต่ำในห้องครัวและรถยนต์แล่นผ่านไปบนถนนอย่างรวดเร็ว"


def test_a_word_of_thai_is_a_few_letters() -> None:
    translated = subject(THAI, language="th", grounded=False, original="A dog barks.")
    assert complaint(translated, Checks(most_words=20)) is None
    assert complaint(subject(THAI * 3, language="th", grounded=False), Checks(most_words=20)) is not None


@pytest.mark.parametrize("text", ["سگ پارس می\u200cکند", "কুকুর র\u200d্যাম্প", "क्\u200dष"])
def test_joiners_are_letters_where_a_script_spells_with_them(text: str) -> None:
    assert failed("markup", text) == ""
    assert failed("markup", text.replace("\u200c", "\u200b").replace("\u200d", "\u200b"))


def test_a_translation_is_not_the_caption_itself() -> None:
    short = "A dog barks."  # too few words to tell their language
    again = subject(short, language="de", grounded=False, original=short)
    assert failed("language", short) == ""
    assert module.language(again, Checks()).startswith("It is not translated")
    assert module.language(subject("Ein Hund bellt.", language="de", original=short), Checks()) == ""


@pytest.mark.parametrize("language", ["de", "fr", "es", "pl", "zh"])
def test_a_translation_is_not_in_the_captions_language_however_short_it_is(language: str) -> None:
    for text in ("A dog barks.", "A person speaks.", "Music plays."):
        left = subject(text, language=language, original="A dog barks while a person speaks over music.")
        assert module.language(left, Checks()).startswith("It is not translated"), text


@pytest.mark.parametrize(
    ("own", "wanted", "text"),
    [
        ("da", "no", "En hund bjeffer flere ganger, og vinden blåser."),
        ("da", "no", "Det regner."),
        ("cs", "sk", "Prší."),
    ],
)
def test_neighbouring_languages_may_say_it_in_the_same_words(own: str, wanted: str, text: str) -> None:
    assert module.language(subject(text, language=wanted, original=text), Checks(language=own)) == ""


@pytest.mark.parametrize(
    ("language", "text"),
    [("de", "Es regnet."), ("it", "Piove."), ("nl", "Water druppelt."), ("fr", "Le vent souffle."), ("zh", "下雨了。")],
)
def test_a_short_translation_gets_the_benefit_of_the_doubt(language: str, text: str) -> None:
    assert module.language(subject(text, language=language, original="It rains."), Checks()) == ""
