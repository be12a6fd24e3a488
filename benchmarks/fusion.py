"""How right the fusion_audio_demo profile is, against known truth, on occasions that training never saw.

Good clips of a held-out seed go through the whole pipeline; every figure is read off its records: what each cue says,
what the captions say, and what the questions are answered with. Captions are then swapped among the clips, for what the
CLAP filter makes of those that do not belong. Of clips with a foreign soundtrack it is measured whether captions and
answers are of the sound, and not of the picture.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from beam_pipeline.config import Profile, load_profile
from beam_pipeline.run import run
from demo.music import GENRES
from demo.occasions import CLAUSES, MUSIC, SPEECH, make_occasion, make_occasions
from demo.questions import is_true
from demo.scenes import PLACES, SOURCES
from demo.train_speech import word_errors
from demo.train_video import LATE_S, moves, near, things, told_rightly
from demo.world import read_truth, write_scenes
from model_handlers.similarity import Pair as Compared
from transforms.ingest import ClipSource
from transforms.records import Caption, Item, Pair, Rejection

Outcome = Caption | Rejection
Truth = Mapping[str, Any]
Verdicts = dict[str, list[bool]]
T = TypeVar("T")
FIELDS = ("genre", "instruments", "tempo", "mood")
KEPT = "CLAP filter: captions of the clip itself kept"
# What else a clause may be called in a caption: the piece that plays is music.
ALIASES = {MUSIC: ("music", *GENRES), SPEECH: ("speaks", "speech", "talks")}


def items(outcome: Outcome, name: str) -> tuple[Item, ...]:
    """The items of one cue of a record."""
    return next((cue.items for cue in outcome.cues if cue.name == name), ())


def text_of(outcome: Outcome, name: str) -> str:
    """What a cue of one item says; empty where it says nothing."""
    return next((item.text for item in items(outcome, name)), "")


def transcript(outcome: Outcome) -> str:
    """All that is said, without the times."""
    return " ".join(item.text for item in items(outcome, "speech") if item.start_s is not None)


def words(text: str) -> list[str]:
    """In lower case, without punctuation."""
    return re.findall(r"[a-z']+", text.lower())


def named(text: str) -> set[str]:
    """Which of the world's sounds a text mentions: a thing by its verb or its name, speech and music by theirs."""
    text = text.lower()
    found = {name for name, source in SOURCES.items() if source.verb in text or source.phrase in text}
    return found | {name for name, some in ALIASES.items() if set(some) & set(words(text))}


def sounding(truth: Truth) -> set[str]:
    """What sounds in a clip."""
    return {name for name, clause in CLAUSES.items() if clause in truth["sound"]}


def attributes(text: str) -> dict[str, str]:
    """``genre: waltz; tempo: fast`` as a mapping."""
    return {name: value.strip() for name, value in re.findall(r"(\w+): ([^;]+)", text)}


def of_cues(truth: Truth, outcome: Outcome, verdicts: Verdicts) -> None:
    """Adds what is right of one clip's cues."""
    heard, said = sounding(truth), text_of(outcome, "sound")
    tags = {item.text for item in items(outcome, "audio_tags") if (item.score or 0) >= 0.5}
    verdicts["sound: names all that sounds and nothing else"].append(named(said) == heard)
    if truth["order"]:
        in_order = ", then ".join(CLAUSES[name] for name in truth["order"])
        verdicts["sound: two events, one after the other: both and their order"].append(said == in_order)
    verdicts["audio tags: speech where it is, at 0.5"].append(("Speech" in tags) == (SPEECH in heard))
    verdicts["audio tags: music where it is, at 0.5"].append(("Music" in tags) == (MUSIC in heard))
    if SPEECH not in heard:
        verdicts["speech: nothing where nobody speaks"].append(not transcript(outcome))
    if truth["music"]:
        true, found = attributes(truth["music"]), attributes(text_of(outcome, "music"))
        for name in FIELDS:
            verdicts[f"music: {name}"].append(found.get(name) == true[name])
    where = PLACES[truth["heard_place"]].phrase
    verdicts["acoustic scene: the place is right"].append(text_of(outcome, "acoustic_scene") == where)
    verdicts["place: the first is right"].append(text_of(outcome, "place") == truth["place"])
    of_video(truth["video"], text_of(outcome, "video"), verdicts)


def of_video(true: str, said: str, verdicts: Verdicts) -> None:
    """Adds what is right of what a clip's video cue says, motion by motion."""
    verdicts["video: names all that is there and nothing else"].append(sorted(things(said)) == sorted(things(true)))
    begins, told = dict(moves(true)), moves(said)
    first = dict(reversed(told))
    for name, at in begins.items():
        right = near(first.get(name), at)
        verdicts["video: what moves is told, with the second of its first motion or one beside it"].append(right)
        if at >= LATE_S:
            verdicts[f"video: the same, of what does not move in the first {LATE_S} s"].append(right)
    verdicts["video: what is told to move first does so in that second or one beside it"] += told_rightly(told, begins)


def of_caption(truth: Truth, caption: Caption, verdicts: Verdicts) -> None:
    """Adds what is right of one clip's caption and its forms."""
    heard = sounding(truth)
    verdicts["caption: names everything that sounds"].append(heard <= named(caption.caption))
    verdicts["caption: names nothing else"].append(named(caption.caption) <= heard)
    verdicts["caption: names the place"].append(PLACES[truth["heard_place"]].phrase in caption.caption)
    if truth["order"]:
        text = caption.caption.lower()
        at = [text.find(CLAUSES[name]) for name in truth["order"]]
        verdicts["caption: two events in their order, joined by then"].append(-1 < at[0] < at[1] and "then" in text)
    forms = {version.form: version.text for version in caption.versions}
    for form, sounds in (("speech", {SPEECH}), ("music", {MUSIC}), ("sound", set(SOURCES))):
        verdicts[f"form {form}: there where there is something to say, and only then"].append(
            bool(forms.get(form)) == bool(heard & sounds)
        )
    short = forms.get("short", "")
    verdicts["form short: at most 12 words, nothing that does not sound"].append(
        0 < len(short.split()) <= 12 and named(short) <= heard
    )


def figures(
    truths: Mapping[str, Truth], ended: Iterable[Outcome], pairs: Iterable[Pair]
) -> tuple[Verdicts, dict[str, str]]:
    """What was right, clip by clip; and what is no share."""
    verdicts: Verdicts = defaultdict(list)
    errors = spoken = 0
    for outcome in ended:
        truth = truths[outcome.clip.clip_id]
        of_cues(truth, outcome, verdicts)
        true = words(truth["transcript"])
        errors += word_errors(words(transcript(outcome)), true) if true else 0
        spoken += len(true)
        if isinstance(outcome, Caption):
            of_caption(truth, outcome, verdicts)
    for pair in pairs:
        true = is_true(pair, truths[pair.clip_id])
        verdicts[f"questions, {pair.kind} ({pair.form})"].append(true)
        verdicts["questions: the answer agrees with the world"].append(true)
    return verdicts, {"speech: word error rate": f"{errors / max(spoken, 1):.1%} of {spoken} words"}


def of_foreign(truths: Mapping[str, Truth], captions: Iterable[Caption], pairs: Iterable[Pair]) -> Verdicts:
    """What is right of clips whose sound is of another occasion than their picture."""
    verdicts: Verdicts = defaultdict(list)
    for caption in captions:
        truth = truths[caption.clip.clip_id]
        others = {place.phrase for name, place in PLACES.items() if name != truth["heard_place"]}
        right = named(caption.caption) == sounding(truth)
        verdicts["foreign soundtrack, caption: names what sounds and nothing else"].append(right)
        verdicts["foreign soundtrack, caption: names no other place than the one that is heard"].append(
            not any(phrase in caption.caption for phrase in others)
        )
    for pair in pairs:
        verdicts["foreign soundtrack, questions: the answer agrees with the world"].append(
            is_true(pair, truths[pair.clip_id])
        )
    return verdicts


def swapped(profile: Profile, captions: list[Caption]) -> Verdicts:
    """Whether each caption is kept by the CLAP filter beside its own sound, and dropped beside each other clip's.

    Clips of which the very same is heard are left out. Of the others some share a sound with the caption's: speech and
    music are in many.
    """
    scorer = profile.scorer()
    assert scorer
    model = scorer.model.load_model()
    sounds = [next(cue.items for cue in caption.cues if cue.name == scorer.cue) for caption in captions]
    heard = [named(caption.caption) for caption in captions]
    verdicts: Verdicts = defaultdict(list)
    for number, caption in enumerate(captions):
        found = scorer.model.run_inference([Compared(caption.caption, sound) for sound in sounds], model)
        for other, one in enumerate(found):
            kept = one.score >= scorer.least
            if other == number:
                verdicts[KEPT].append(kept)
            elif heard[other] != heard[number]:
                share = "share a sound" if heard[other] & heard[number] else "share none"
                verdicts["CLAP filter: captions of each other clip dropped"].append(not kept)
                verdicts[f"CLAP filter: … of those that {share}"].append(not kept)
    return verdicts


def parted(records: Iterable[T], apart: Callable[[T], bool]) -> tuple[list[T], list[T]]:
    """The records of which something is not true, and those of which it is."""
    found: tuple[list[T], list[T]] = [], []
    for one in records:
        found[apart(one)].append(one)
    return found


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fusion", description=__doc__)
    parser.add_argument("--seed", type=int, default=150, help="a held-out seed, 100 to 199 (default: 150)")
    parser.add_argument("--clips", type=int, default=320, help="good clips, of all kinds (default: 320)")
    parser.add_argument("--foreign", type=int, default=40, help="clips with a foreign soundtrack (default: 40)")
    options = parser.parse_args(arguments)
    console, profile = Console(), load_profile("fusion_audio_demo")
    with tempfile.TemporaryDirectory(prefix="earshot-fusion-") as folder:
        odd = [make_occasion(options.seed, options.clips + n, fault="foreign") for n in range(options.foreign)]
        with console.status(f"making {options.clips + options.foreign} clips"):
            good = make_occasions(options.seed, options.clips, "good")
            write_scenes([*good, *odd], Path(folder), processes=2)
        result = run(profile, ClipSource(f"{folder}/clips.csv"), folder)
        foreign = {one.clip_id for one in odd}
        captions, of_odd = parted(result.read("captions"), lambda one: one.clip.clip_id in foreign)
        rejected, _ = parted(result.read("rejected"), lambda one: one.clip.clip_id in foreign)
        pairs, odd_pairs = parted(result.read("qa"), lambda one: one.clip_id in foreign)
        truths = {truth["clip_id"]: truth for truth in read_truth(Path(folder))}
    # A caption that the CLAP filter dropped was kept by nothing else, so it counts there as well.
    unlike = [one for one in rejected if one.reason == "dissimilar"]
    verdicts, facts = figures(truths, [*captions, *rejected], pairs)
    verdicts |= swapped(profile, captions) | of_foreign(truths, of_odd, odd_pairs)
    verdicts[KEPT] += [False for _ in unlike]
    table = Table(title=f"fusion_audio_demo on {options.clips} clips of seed {options.seed}", title_justify="left")
    table.add_column("what")
    table.add_column("right", justify="right")
    table.add_column("share", justify="right")
    for what, right in verdicts.items():
        table.add_row(what, f"{sum(right)} of {len(right)}", f"{sum(right) / len(right):.1%}" if right else "")
    for what, value in facts.items():
        table.add_row(what, "", value)
    console.print(table)
    reasons = result.manifest["reasons"]
    console.print(f"{result.manifest['counts']} {reasons} {result.manifest.get('pairs', {})}", highlight=False)


if __name__ == "__main__":
    main()
