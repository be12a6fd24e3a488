"""The numbers of a report: counted from rows whose numbers are known, and put into sections."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from beam_pipeline.compare import Comparison, Example, Side
from beam_pipeline.dataset import Dataset
from beam_pipeline.report.figures import DISSIMILAR, Figures, stage
from beam_pipeline.report.parts import Plot, Section, Table
from beam_pipeline.report.published import DATASETS
from beam_pipeline.report.sections import sections
from beam_pipeline.report.tallies import Bounded, Distinct, Histogram, Lengths
from beam_pipeline.report.wording import dollars, lasting, listed, number, percent
from beam_pipeline.review.figures import ReviewFigures, Share
from model_handlers.base import Item
from model_handlers.synchronisation import Draw, hits, to_item
from transforms.avro import to_record
from transforms.records import Attempt, Caption, Clip, Cue, Evidence, Failure, Pair, Rejection, Version

RULE = {"cue": "synchronisation", "required_hits": 2, "tolerance": 3, "least_probability": 0.5, "sources": []}
MANIFEST: dict[str, Any] = {
    "cues": {name: {"model": "", "fingerprint": "f"} for name in ("place", "speech", "loudness", "synchronisation")},
    "filters": {"sync": RULE},
    "similarity": {"cue": "clap", "least": 0.3},
    "costs": {},
}
Outcome = Caption | Rejection | Failure | Pair
NAMES = {Caption: "captions", Rejection: "rejected", Failure: "failed", Pair: "qa"}


def clip(clip_id: str, **more: Any) -> Clip:
    return Clip(clip_id, f"/media/{clip_id}.mp4", end_s=10.0, origin=f"list:{clip_id}", **more)


def cue(name: str, *items: tuple[str, float | None], skipped: str = "") -> Cue:
    return Cue("a", name, "f", f"model of {name}", tuple(Item(text, score) for text, score in items), skipped)


def captioned(clip_id: str, text: str = "A dog barks.", cues: tuple[Cue, ...] = (), **more: Any) -> Caption:
    return Caption(clip(clip_id), text, "TemplateWriter:0123", cues, "train", **more)


def guesses(*classes: tuple[int, int, float]) -> Cue:
    """Evaluations: drawn class, guessed class, and the probability of the guess; the rest lies far from the truth."""
    items = []
    for true, guessed, probability in classes:
        far = [other for other in range(21) if abs(other - true) > 3 and other != guessed]
        probabilities = [(1 - probability) / len(far) if other in far else 0.0 for other in range(21)]
        probabilities[guessed] = probability
        items.append(to_item(Draw(true, 0, 0), probabilities))
    return Cue("a", "synchronisation", "f", "sync", tuple(items))


def counted(outcomes: Iterable[Outcome], manifest: dict[str, Any] = MANIFEST) -> Figures:
    figures = Figures(manifest)
    for outcome in outcomes:
        figures.add(NAMES[type(outcome)], to_record(outcome))
    return figures


def shown(figures: Figures, comparison: Comparison | None = None, reviews: Any = None) -> dict[str, Section]:
    dataset = Dataset("/nowhere", 1, figures.manifest)
    return {section.name: section for section in sections(figures, dataset, comparison, reviews)}


def table(section: Section, name: str) -> Table:
    """The table of that plot, or with that title."""
    for part in section.parts:
        if isinstance(part, Plot) and part.name == name:
            assert part.table is not None
            return part.table
        if isinstance(part, Table) and part.title == name:
            return part
    raise AssertionError(f"no {name} in {section.name}")


def many() -> list[Outcome]:
    """A bit of everything."""
    place = cue("place", ("farm", 0.9), ("beach", 0.05))
    failed = Attempt("A dog (0.9) barks.", "brackets", "no brackets")
    longer = "The dog barks and the dog runs."
    return [
        captioned("1", longer, (place, guesses((10, 10, 0.9), (4, 6, 0.8))), similarity=0.5, attempts=(failed,)),
        captioned("2", "A Dog barks.", (cue("place", ("farm", 0.7)), cue("speech")), similarity=0.4, tokens_in=70),
        captioned(
            "3", "Rain falls.", (cue("place", skipped="no video track"),), versions=(Version("short", "de", "x"),)
        ),
        Rejection(clip("4"), "silent", "", (place, guesses((10, 0, 0.9)))),
        Rejection(clip("5"), "out_of_sync", "", (place, guesses((10, 20, 0.9), (10, 12, 0.3)))),
        Rejection(clip("6"), "caption_numbers", "", (place,), "x", (failed, Attempt("y", "numbers", ""))),
        Rejection(clip("7"), DISSIMILAR, "", (place,), "x", similarity=0.1),
        Rejection(clip("8"), "near_copy", "", (place,), "x", similarity=0.6),
        Rejection(clip("9"), "labelled_speech_and_music", ""),
        Failure(clip("10"), "media", "broken"),
        Failure(Clip("", "", origin="list:11"), "ingest", "no clip_id"),
        Failure(clip("12"), "place", "no digestion"),
        Failure(clip("13"), "caption", "no answer"),
        pair("sound", "open"),
        pair("sound", "choice"),
        pair("count", "open"),
    ]


def pair(kind: str, form: str) -> Pair:
    evidence = (Evidence("place", ()),)
    return Pair("1", "v", "s", 0.0, 10.0, "train", (), kind, form, "What is it?", "A dog", (), evidence, "w")


def test_every_row_is_counted_once_where_it_ended() -> None:
    figures = counted(many())
    assert figures.clips_in == 13
    assert dict(figures.counts) == {"captions": 3, "rejected": 6, "failed": 4}
    assert {name: sum(ends.values()) for name, ends in figures.lost().items()} == {
        "Listing": 1,
        "Label filter": 1,
        "Media and cues": 2,
        "Silence filter": 1,
        "Sync filter": 1,
        "Writing": 1,
        "Checks": 1,
        "Similarity": 1,
        "Copies": 1,
    }
    lines = table(shown(figures)["overview"], "funnel").rows
    assert ("Label filter: labelled_speech_and_music", "rejected", "1", "7.7 %") in lines
    assert sum(int(line[2]) for line in lines) == 10


@pytest.mark.parametrize(
    ("outcome", "reason", "expected"),
    [
        ("rejected", "no_caption", "Writing"),
        ("rejected", "caption_unreadable", "Checks"),
        ("rejected", "something_new", "Other"),
        ("failed", "an_own_cue", "Media and cues"),
        ("failed", "similarity", "Similarity"),
        ("failed", "questions", "Questions"),
        ("rejected", "media", "Other"),  # a reason is no step
    ],
)
def test_each_reason_has_a_stage(outcome: str, reason: str, expected: str) -> None:
    assert stage(outcome, reason) == expected


def test_lengths_of_captions_are_exact() -> None:
    found = Lengths()
    values = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
    for value in values:
        found.add(value)
    assert (found.count, found.mean, found.longest) == (10, 3.9, 9)
    assert [found.percentile(p) for p in (0, 10, 50, 90, 100)] == [1, 1, 3, 6, 9]
    assert math.isnan(Lengths().mean)
    assert (Lengths().percentile(50), Lengths().longest) == (0, 0)


def test_words_are_counted_in_lower_case_and_the_cloud_has_no_stop_words() -> None:
    figures = counted(many())
    assert dict(figures.vocabulary) == {
        **{"dog": 3, "the": 2, "barks": 2, "and": 1, "runs": 1},
        **{"a": 1, "rain": 1, "falls": 1},
    }
    assert figures.content_words(3) == [("dog", 3), ("barks", 2), ("falls", 1)]
    assert figures.words.mean == pytest.approx((7 + 3 + 2) / 3)
    lines = dict(table(shown(figures)["captions"], "caption-length").rows)
    assert (lines["mean"], lines["shortest"], lines["50 % have at most"], lines["longest"]) == ("4.00", "2", "3", "7")


def test_published_figures_stand_beside_ones_own() -> None:
    lines = {line[0]: line for line in table(shown(counted(many()))["captions"], "published-length").rows}
    assert lines["this dataset"][1:4] == ("3", "4.00", "8")
    assert lines["Auto-ACD"][1:] == ("1,500,000", "18.1", "22,000", "arXiv:2309.11500, table 5")
    assert lines["FusionAudio"][2:4] == ("47.18", "–")
    assert all(one.source.startswith("arXiv:") for one in DATASETS)


def test_coverage_tells_nothing_found_from_not_applicable_from_not_on_record() -> None:
    figures = counted(many())
    lines = {line[0]: line[1:6] for line in table(shown(figures)["cues"], "coverage").rows}
    assert lines["place"] == ("7", "0", "1", "5", "no video track (1)")
    assert lines["speech"] == ("0", "1", "0", "12", "–")
    assert lines["loudness"] == ("0", "0", "0", "13", "–")


def test_a_cue_that_the_manifest_lacks_is_counted_all_the_same() -> None:
    figures = counted([captioned("1", cues=(cue("smell", ("rose", 0.5)),))])
    assert figures.cues["smell"].with_items == 1


def test_confidence_is_of_what_a_cue_says_first_and_scales_stay_apart() -> None:
    tally = counted(many()).cues["place"]
    assert (tally.first.count, tally.all.count) == (7, 13)
    assert tally.first.mean == pytest.approx((6 * 0.9 + 0.7) / 7)
    scoreless = cue("speech", ("Hello", None))
    figures = counted([captioned("1", cues=(scoreless, cue("loudness", ("peak", -3.0), ("rms", -20.0))))])
    assert (figures.cues["speech"].items, figures.cues["speech"].scored) == (1, 0)
    assert figures.cues["loudness"].first.count == 0
    section = shown(figures)["cues"]
    assert "Without any score: speech." in section.said
    assert table(section, "Scores on another scale").rows == (
        ("loudness", "peak", "−3.0", "−3.0", "−3.0"),
        ("loudness", "rms", "−20.0", "−20.0", "−20.0"),
    )
    levels = cue("loudness", *((f"band {n}", -1.0 - n) for n in range(12)))
    section = shown(counted([captioned("1", cues=(levels,))]))["cues"]
    assert table(section, "Scores on another scale").rows == (("loudness", "all", "−12.0", "−6.5", "−1.0"),)
    assert not any(isinstance(part, Plot) and part.name == "confidence" for part in section.parts)


def test_guesses_are_judged_as_the_filter_judges_them() -> None:
    evaluations = guesses((10, 10, 0.9), (4, 6, 0.8), (10, 12, 0.3), (10, 14, 0.9))
    figures = counted([captioned("1", cues=(evaluations,))])
    tally = figures.synchronisation["synchronisation"]
    assert dict(tally.kinds[True]) == {"exact": 1, "tolerable": 1, "unsure": 1, "error": 1}
    assert dict(tally.off[True]) == {0: 1, 2: 2, 4: 1}
    assert tally.hits[True][hits(evaluations.items, 3, 0.5)] == 1


def test_what_was_dropped_before_the_sync_filter_is_no_part_of_it() -> None:
    figures = counted(many())
    [tally] = figures.synchronisation.values()
    assert (tally.hits[True].total(), tally.hits[False].total()) == (1, 1)
    section = shown(figures)["synchronisation"]
    assert "2 clips were judged; 1 (50.0 %) was rejected" in section.said
    lines = table(section, "sync-hits").rows
    assert lines == (("0", "0", "1"), ("1", "0", "0"), ("2", "1", "0"))


def test_without_a_sync_filter_evaluations_are_known_by_their_form() -> None:
    evaluations = replace(guesses((10, 13, 0.2)), name="lip_sync")
    figures = counted([captioned("1", cues=(evaluations,))], {**MANIFEST, "filters": {}})
    tally = figures.synchronisation["lip_sync"]
    assert dict(tally.kinds[True]) == {"tolerable": 1}  # Auto-ACD's rule: however unsure
    odd = cue("objects", ("true=maybe", 0.5))
    assert not counted([captioned("1", cues=(odd,))], {**MANIFEST, "filters": {}}).synchronisation


def test_similarity_tells_captions_from_what_was_rejected_for_it_and_later() -> None:
    figures = counted(many())
    assert {name: one.count for name, one in figures.similarity.items()} == {"captions": 2, DISSIMILAR: 1, "other": 1}
    section = shown(figures)["similarity"]
    assert "1 of 4 (25.0 %) fell below 0.3." in section.said
    [plot] = section.parts
    assert isinstance(plot, Plot)
    assert "threshold 0.3" in plot.svg
    assert table(section, "similarity").rows[0] == ("captions", "2", "0.450", "0.401", "0.400", "0.500")
    bare = shown(counted(many(), {**MANIFEST, "similarity": None}))["similarity"]
    assert "no threshold was set" in bare.said


def test_checks_count_answers_and_what_became_of_their_clips() -> None:
    figures = counted(many())
    section = shown(figures)["checks"]
    assert figures.first_try() == pytest.approx(2 / 3)
    assert "66.7 % of the captions passed all checks with the first answer. 3 answers did not pass." in section.said
    assert table(section, "checks").rows == (("brackets", "2", "1", "1"), ("numbers", "1", "0", "1"))
    assert table(section, "Answers that a caption took").rows == (
        ("1 answer", "2", "66.7 %"),
        ("2 answers", "1", "33.3 %"),
    )


def test_questions_by_kind_and_form() -> None:
    section = shown(counted(many(), {**MANIFEST, "pairs": {"published": 3, "dropped": {"grounded": 2}}}))["questions"]
    assert table(section, "questions").rows == (("sound", "2", "1", "1"), ("count", "1", "0", "1"))
    assert table(section, "Questions that were not taken").rows == (("grounded", "2", "100 %"),)
    assert "3 questions about 1 of 3 captioned clips: 3.0 a clip" in section.said
    assert "3.0 words on average and an answer 2.0" in section.said


def test_questions_of_which_none_was_taken_are_accounted_for() -> None:
    manifest = {**MANIFEST, "pairs": {"published": 0, "dropped": {"grounded": 172}}}
    section = shown(counted([captioned("1")], manifest))["questions"]
    assert section.said == "No question that was written was taken."
    assert table(section, "Questions that were not taken").rows == (("grounded", "172", "100 %"),)
    assert "questions" not in shown(counted([captioned("1")]))


def test_distinct_texts_are_counted_in_flat_memory() -> None:
    found = Distinct()
    assert found.count == 0
    for number_of in (1, 2, 3, 2):
        found.add(str(number_of))
    assert found.count == 3
    for number_of in range(30_000):
        found.add(str(number_of))
    assert found.count == pytest.approx(30_000, rel=0.002)


def test_clips_of_sources_that_the_filter_does_not_judge_are_not_counted_as_judged() -> None:
    right, wrong = guesses((10, 10, 0.9), (10, 10, 0.9)), guesses((10, 0, 0.9))
    rows: list[Outcome] = [
        replace(captioned("1", cues=(wrong,)), clip=clip("1", source="vggsound")),
        replace(captioned("2", cues=(right,)), clip=clip("2", source="audioset")),
        Rejection(clip("3", source="audioset"), "out_of_sync", "", (wrong,)),
    ]
    manifest = {**MANIFEST, "filters": {"sync": {**RULE, "sources": ["audioset"]}}}
    section = shown(counted(rows, manifest))["synchronisation"]
    assert section.said.startswith(
        "1 clip of other sources than audioset was not judged. 2 clips were judged; 1 (50.0 %) was"
    )
    assert table(section, "sync-hits").rows == (("0", "0", "1"), ("1", "0", "0"), ("2", "1", "0"))
    none = shown(counted(rows[:1], manifest))["synchronisation"]
    assert (none.said, none.parts) == ("1 clip of other sources than audioset was not judged.", ())


def test_a_caption_that_was_published_without_a_form_took_no_further_answer() -> None:
    text = "A dog barks."
    refused = Attempt(text, "length", "detailed: too short")
    marked = Attempt(text, "length", "without detailed: too short")
    rows = [captioned("1", text, attempts=(refused, marked)), captioned("2", text, attempts=(marked,)), captioned("3")]
    figures = counted(rows, {**MANIFEST, "forms": ["detailed"], "versions": {"missing": {"detailed": 2}}})
    assert dict(figures.answers.counts) == {1: 2, 2: 1}
    assert figures.first_try() == pytest.approx(1 / 3)
    assert dict(figures.checks["captions"]) == {"length": 1}
    section = shown(figures)["checks"]
    assert "2 captions were published without a form or language that never passed." in section.said
    forms = table(shown(figures)["captions"], "In other forms and languages").rows
    assert forms == (("detailed", "", "0", "0 %", "2"),)


def test_a_transcript_without_speech_says_nothing() -> None:
    silent = cue("speech", ("no speech", 0.97))
    spoken = cue("speech", ("no speech", 0.1), ("language en", 0.99), ("Hello there", 0.6))
    tally = counted([captioned("1", cues=(silent,)), captioned("2", cues=(spoken,))]).cues["speech"]
    assert (tally.with_items, tally.empty, tally.items) == (1, 1, 1)
    assert (tally.first.count, tally.first.mean) == (1, 0.6)


def test_the_highest_medians_are_named_as_they_are_shown() -> None:
    def said(*scores: float) -> str:
        cues = tuple(cue(name, ("x", score)) for name, score in zip(("place", "objects"), scores, strict=True))
        parts = shown(counted([captioned("1", cues=cues)], {**MANIFEST, "cues": {}}))["cues"].parts
        return next(part.said for part in parts if isinstance(part, Plot) and part.name == "confidence")

    assert said(0.994, 0.9999).startswith("The highest median is that of objects: 1.00.")
    assert said(0.9991, 0.9999).startswith("The highest medians are those of place, objects: 1.00.")


def test_the_ends_of_the_scale_are_told_without_ties_broken_by_chance() -> None:
    rows = [Rejection(clip("1"), "silent", ""), Failure(clip("2"), "media", "broken"), captioned("3")]
    found = shown(counted(rows, {**MANIFEST, "costs": {"a": {"clips": 0, "seconds": 0.0}}}))
    funnel = next(part for part in found["overview"].parts if isinstance(part, Plot))
    assert funnel.said == "Most were lost here: media and cues, silence filter, 1 clip each."
    assert found["cost"].said == "No time is on record of the run that made this version."
    assert found["cues"].parts[0].said == "Every cue says something of 0 % of all clips."  # type: ignore[union-attr]


def test_a_plot_of_some_steps_says_so() -> None:
    costs = {f"s{n:02}": {"clips": 1, "seconds": 1.0} for n in range(20)}
    [plot] = shown(counted(many(), {**MANIFEST, "costs": costs}))["cost"].parts
    assert isinstance(plot, Plot)
    assert plot.said.endswith("The plot has the 15 longest of 20 steps.")


def test_what_cannot_be_told_is_said_where_it_would_stand() -> None:
    figures = counted(many())
    dataset = Dataset("/nowhere", 1, figures.manifest)
    left_out = {"of another caption": 19, "of clips that are gone": 1}
    found = {it.name: it for it in sections(figures, dataset, "v1: cannot be read", None, left_out)}
    assert found["differences"].said == "The version before cannot be compared with this one: v1: cannot be read"
    assert found["review"].said == "No review counts. 20 reviews do not count."
    assert table(found["review"], "Reviews that do not count").rows[0] == ("of another caption", "19", "95.0 %")
    [damaged] = [it for it in sections(figures, dataset, None, "ann.jsonl, line 1") if it.name == "review"]
    assert damaged.said == "The reviews cannot be told: ann.jsonl, line 1"


def test_forms_splits_and_durations() -> None:
    figures = counted(many())
    assert dict(figures.forms) == {("short", "de"): 1}
    assert dict(figures.splits) == {"train": 3}
    assert (figures.seconds, figures.lasting) == (30, 3)
    assert "The captioned clips last 30.0 s in all." in shown(figures)["overview"].said
    tags = Cue("1", "tags", "f", "m", (Item("dog", None, 0.0, 9.0),))
    header = Cue("1", "media", "f", "MediaFacts", (Item("audio aac", None, 0.0, 7.5),))
    open_ended = captioned("1", cues=(tags, header))
    record = to_record(replace(open_ended, clip=replace(open_ended.clip, end_s=None)))
    figures.add("captions", record)
    assert (figures.seconds, figures.lasting) == (37.5, 4)
    figures.add("captions", {**record, "cues": record["cues"][:1]})
    assert (figures.seconds, figures.lasting) == (46.5, 4)
    assert "last at least 46.5 s in all; the length of 4 is known." in shown(figures)["overview"].said


def test_names_that_recur_are_listed_and_sentences_are_not() -> None:
    rows = [
        captioned(str(n), cues=(cue("place", ("farm", 0.9)), cue("video", ("a man walks by the sea", 0.9))))
        for n in range(5)
    ]
    rows += [captioned(str(n), cues=(cue("place", ("beach", 0.9)), cue("video", ("a cat", 0.9)))) for n in range(2)]
    section = shown(counted(rows))["contents"]
    assert [part.name for part in section.parts if isinstance(part, Plot)] == ["cue-place"]
    assert table(section, "cue-place").rows == (("farm", "5", "71.4 %"), ("beach", "2", "28.6 %"))


def test_costs_by_step() -> None:
    costs = {
        "place": {"clips": 10, "seconds": 20.0, "gpu_seconds": 15.0},
        "caption": {"clips": 4, "seconds": 60.0, "tokens_in": 1000, "tokens_out": 200, "dollars": 0.0123},
        "media": {"clips": 0, "seconds": 0.0},
    }
    section = shown(counted(many(), {**MANIFEST, "costs": costs}))["cost"]
    assert "worked for 1.3 min" in section.said
    found = table(section, "cost")
    assert found.head == ("step", "clips", "time", "a clip", "on a GPU", "tokens in", "tokens out", "dollars")
    assert found.rows[0] == ("caption", "4", "1.0 min", "15.0 s", "–", "1,000", "200", "0.0123")
    assert found.rows[1] == ("place", "10", "20.0 s", "2.0 s", "15.0 s", "–", "–", "–")
    assert found.rows[-1] == ("together", "–", "1.3 min", "–", "15.0 s", "1,000", "200", "0.0123")


def test_differences_name_kinds_reasons_and_examples() -> None:
    counts = {"added": 1, "removed": 0, "rewritten": 2, "ended_otherwise": 0, "details": 0, "unchanged": 7}
    example = Example(
        "c1", "list:1", Side("captioned", "x" * 5000), Side("rejected: silent", "peak"), ("place: other items",)
    )
    found = Comparison("/d", 3, 4, counts, {"rewritten": {"place: other items": 2}}, {"rewritten": [example]})
    section = shown(counted(many()), found)["differences"]
    assert "Of 10 clips in version 3 or 4, 7 ended with the same record in both." in section.said
    assert ("", "place: other items", "2") in table(section, "differences").rows
    [line] = table(section, "Another caption: 1 of 2").rows
    assert (line[0], len(line[1]), line[2], line[3]) == ("c1", 600, "rejected: silent: peak", "place: other items")


def test_reviews_stand_beside_the_papers() -> None:
    share = Share(0.9, 0.85, 0.94, 200)
    found = ReviewFigures(
        reviews=220,
        clips=200,
        raters=("ada", "bob"),
        corresponds=share,
        detail=Share(2.4, 2.3, 2.5, 180),
        cues={"place": share, "sound": share},
        agreement={"corresponds": 0.7, "detail": None},
    )
    section = shown(counted(many()), reviews=found)["review"]
    assert "90.0 % of the captions correspond to the sound (95 % interval 85.0–94.0 %)." in section.said
    assert table(section, "Beside the papers' own checks").rows == (
        ("captions that correspond", "0.900", "0.850–0.940", "200", "0.924", "Auto-ACD (arXiv:2309.11500, table 7)"),
        ("detail, of 3", "2.40", "2.30–2.50", "180", "2.55", "FusionAudio (arXiv:2506.01111)"),
    )
    cues = table(section, "Cues that were right").rows
    assert [line[4:] for line in cues] == [("0.725", "Places365"), ("–", "–")]
    assert table(section, "Agreement of the raters (Krippendorff's alpha)").rows == (
        ("corresponds", "0.700"),
        ("detail", "–"),
    )
    assert "review" not in shown(counted(many()), reviews=ReviewFigures())


def test_an_empty_dataset_has_an_overview_and_nothing_else() -> None:
    found = shown(counted([], {"cues": {}, "filters": {}}))
    assert list(found) == ["overview"]
    assert found["overview"].said == "Of 0 clips, 0 (–) were captioned, 0 rejected and 0 failed."
    assert found["overview"].parts == ()


def test_where_nothing_was_captioned_the_rest_is_shown() -> None:
    found = shown(counted([outcome for outcome in many() if isinstance(outcome, Rejection)]))
    assert "captions" not in found
    assert "None" not in found["similarity"].said
    assert "fell below" in found["similarity"].said
    assert {"overview", "cues", "synchronisation", "checks"} <= found.keys()


def test_huge_counts_fit_a_line() -> None:
    figures = counted(many())
    figures.counts["captions"] = 2_000_000_000
    figures.words.counts[18] = 2_000_000_000
    figures.words.sum += 18 * 2_000_000_000
    figures.vocabulary["dog"] = 9_000_000_000
    found = shown(figures)
    assert found["overview"].said.startswith("Of 2,000,000,010 clips, 2,000,000,000 (> 99.9 %) were captioned")
    length = next(part for part in found["captions"].parts if isinstance(part, Plot) and part.name == "caption-length")
    assert ">1.8G<" in length.svg


def test_the_order_of_rows_does_not_matter() -> None:
    outcomes = many()
    first = shown(counted(outcomes))
    random.Random(3).shuffle(outcomes)
    assert shown(counted(outcomes)) == first


def test_a_counter_of_texts_stays_bounded() -> None:
    found = Bounded(at_most=3)
    for text in ("b", "a", "b", "c", "d", "e", "a", "d"):
        found.add(text)
    assert found.most_common() == [("a", 2), ("b", 2), ("c", 1)]
    assert (found.others, found.total) == (3, 8)


def test_a_histogram_keeps_what_lies_beyond_and_leaves_out_what_is_no_number() -> None:
    found = Histogram(0, 1, 10)
    for value in (-5.0, 0.05, 0.55, 1.0, 7.0, math.nan, math.inf):
        found.add(value)
    assert found.bins == [2, 0, 0, 0, 0, 1, 0, 0, 0, 2]
    assert (found.count, found.least, found.greatest) == (5, -5.0, 7.0)
    assert found.quantile(0.5) == pytest.approx(0.55)
    assert math.isnan(Histogram(0, 1, 2).quantile(0.5))


def test_numbers_in_words() -> None:
    assert [number(value) for value in (None, math.nan, 1234567, -2)] == ["–", "–", "1,234,567", "−2"]
    shares = [percent(a, b) for a, b in ((1, 3), (0, 3), (3, 3), (1, 9999), (9999, 10000), (1, 0))]
    assert shares == ["33.3 %", "0 %", "100 %", "< 0.1 %", "> 99.9 %", "–"]
    assert [lasting(s) for s in (7200, 90, 3.21, 0.004, 0)] == ["2.0 h", "1.5 min", "3.2 s", "4.0 ms", "0.0 s"]
    limits = [lasting(s) for s in (0.09996, 0.0994, 59.96, 57.2, 3599.0, 0.00001)]
    assert limits == ["0.1 s", "99.4 ms", "1.0 min", "57.2 s", "1.0 h", "< 0.1 ms"]
    assert [dollars(value) for value in (0.0035, 0.00001, 12.345, 0)] == ["0.0035", "< 0.0001", "12.35", "0.0000"]
    assert listed([("a_b", 2), ("c", 1), ("d", 1), ("e", 1)]) == "a b (2), c (1), d (1) and 1 more"


def test_hostile_texts_stay_within_their_sentence_and_their_cell() -> None:
    evil = "\u202e<script>alert(1)</script>\x00\n" + "x" * 5000
    outcomes = [captioned(str(n), evil, (cue("place", (evil[:60], 0.9)),)) for n in range(3)]
    outcomes += [replace(one, clip=replace(one.clip, source=evil, labels=(evil, "$x^2_{$"))) for one in outcomes]
    outcomes += [
        captioned("z", cues=(cue("place", ("farm", 0.9)), cue("speech", skipped=evil)), model=evil, prompt=evil)
    ]
    example = Example(evil, "list:1", None, Side("captioned", evil), (evil,))
    counts = dict.fromkeys(("added", "removed", "rewritten", "ended_otherwise", "details", "unchanged"), 1)
    found = shown(counted(outcomes), Comparison("/d", 1, 2, counts, {"added": {evil: 1}}, {"added": [example]}))
    for section in found.values():
        assert section.said.isprintable()
        for part in section.parts:
            tables = [part] if isinstance(part, Table) else [part.table] if part.table else []
            assert isinstance(part, Table) or part.said.isprintable()
            cells = [cell for one in tables for row in one.rows for cell in row]
            assert all(cell.isprintable() and len(cell) <= 600 for cell in cells), part
