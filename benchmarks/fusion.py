"""How right the fusion_audio_demo profile is, against known truth, on occasions that training never saw.

Good clips of a held-out seed go through the whole pipeline; every figure is read off its records: what each cue says,
what the captions say, and what the questions are answered with. Captions are then swapped among the clips, for what the
CLAP filter makes of those that do not belong.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from beam_pipeline.config import Profile, load_profile
from beam_pipeline.run import run
from demo.music import GENRES
from demo.occasions import CLAUSES, MUSIC, SPEECH, make_occasions
from demo.questions import is_true
from demo.scenes import SOURCES
from demo.train_speech import word_errors
from demo.train_video import LATE_S, moves, near, things, told_rightly
from demo.world import read_truth, write_scenes
from model_handlers.base import Items
from model_handlers.similarity import Pair as Compared
from transforms.ingest import ClipSource
from transforms.records import Caption, Item, Pair, Rejection

Outcome = Caption | Rejection
Truth = Mapping[str, Any]
Verdicts = dict[str, list[bool]]
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


def swapped(profile: Profile, captions: list[Caption]) -> Verdicts:
    """Whether each caption is kept by the CLAP filter beside its own sound, and whether it is dropped beside another's.

    The other sound is the next clip's that shares none of what can be heard; and the next one's that shares some of it,
    but not all, which is the swaps_of case.
    """
    scorer = profile.scorer()
    assert scorer
    model = scorer.model.load_model()
    sounds = [next(cue.items for cue in caption.cues if cue.name == scorer.cue) for caption in captions]
    verdicts: Verdicts = defaultdict(list)
    swaps_of: dict[str, dict[int, int]] = defaultdict(dict)  # what they share → whose sound each caption is put beside

    def similar(caption: Caption, sound: Items) -> bool:
        (found,) = scorer.model.run_inference([Compared(caption.caption, sound)], model)
        return found.score >= scorer.least

    for number, caption in enumerate(captions):
        verdicts[KEPT].append(similar(caption, sounds[number]))
        own = named(caption.caption)
        for shift in range(1, len(captions)):
            other = (number + shift) % len(captions)
            theirs = named(captions[other].caption)
            if theirs != own:
                what = "share some of the sounds, but not all" if theirs & own else "share no sound"
                swaps_of[what].setdefault(number, other)
    for what, swaps in swaps_of.items():
        verdicts[f"CLAP filter: captions of clips that {what} dropped"] = [
            not similar(captions[number], sounds[other]) for number, other in swaps.items()
        ]
    return verdicts


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fusion", description=__doc__)
    parser.add_argument("--seed", type=int, default=150, help="a held-out seed, 100 to 199 (default: 150)")
    parser.add_argument("--clips", type=int, default=320, help="good clips, of all kinds (default: 320)")
    options = parser.parse_args(arguments)
    console, profile = Console(), load_profile("fusion_audio_demo")
    with tempfile.TemporaryDirectory(prefix="earshot-fusion-") as folder:
        with console.status(f"making {options.clips} clips"):
            write_scenes(make_occasions(options.seed, options.clips, "good"), Path(folder), processes=2)
        result = run(profile, ClipSource(f"{folder}/clips.csv"), folder)
        captions = list(result.read("captions"))
        rejected = list(result.read("rejected"))
        pairs = list(result.read("qa"))
        truths = {truth["clip_id"]: truth for truth in read_truth(Path(folder))}
    # A caption that the CLAP filter dropped was kept by nothing else, so it counts there as well.
    unlike = [one for one in rejected if one.reason == "dissimilar"]
    verdicts, facts = figures(truths, [*captions, *rejected], pairs)
    verdicts |= swapped(profile, captions)
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
