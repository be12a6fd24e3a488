"""What reviews come to: against arithmetic by hand, scipy's intervals, and the samples that intervals have to cover."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import binomtest

from beam_pipeline.report.of_reviews import reviews as report_of
from beam_pipeline.report.parts import Table
from beam_pipeline.review.figures import Share, alpha, distance, resampled, review_figures, wilson
from beam_pipeline.review.ratings import Review
from beam_pipeline.review.table import NAMES, PUBLISHED, figures_table, rows

GOOD = Review("ann", "a", 1, "captions", "A red dog barks loudly.", True, "A red dog barks loudly.")


def said(clip_id: str, rater: str = "ann", **what: object) -> Review:
    return replace(GOOD, clip_id=clip_id, rater=rater, **what)  # type: ignore[arg-type]


def test_four_captions_by_hand() -> None:
    cues = (("audio_tags", True), ("place", False), ("objects", True), ("image_label", True))
    figures = review_figures(
        [
            said("a", detail=3, hallucination=5, cues=(*cues, ("audio_caption", True), ("speech", True))),
            said("b", corrected="A brown dog barks.", detail=2, hallucination=3, cues=cues),
            said("c", corresponds=False, inaudible=("red",), detail=1, hallucination=1),
            said("d", corrected="a RED dog, barks loudly", hallucination=2, inaudible=("red dog", "loudly")),
            said("e", outcome="rejected", corresponds=False, hallucination=1),
        ]
    )
    assert (figures.reviews, figures.clips, figures.raters) == (4, 4, ("ann",))
    found = {
        name: share and (round(share.value, 4), share.count)
        for name, share in vars(figures).items()
        if name in NAMES and name != "cues"
    }
    assert found == {
        "corresponds": (0.75, 4),
        # Two of fifteen: red → brown, and loudly; case and commas are no words, and of c's words nothing was said.
        "modified_words": (0.1333, 3),
        "inaudible_words": (0.2, 4),  # one and three of twenty
        "inaudible_captions": (0.5, 4),
        "detail": (2.0, 3),
        "hallucination": (2.75, 4),
        "low_hallucination": (0.5, 4),
        "caption_right": (0.5, 4),  # a and d
        "four_cues": (0.5, 2),  # a has four, b three; of c and d no cue was judged
    }
    assert {name: (share.value, share.count) for name, share in figures.cues.items()} == {
        "audio_tags": (1.0, 2),
        "place": (0.0, 2),
        "objects": (1.0, 2),
        "image_label": (1.0, 2),
        "audio_caption": (1.0, 1),
        "speech": (1.0, 1),
    }
    assert set(figures.agreement.values()) == {None}


def test_who_refuses_a_caption_and_changes_no_word_does_not_make_the_rate_of_changes_better() -> None:
    changed = said("a", corrected="A brown dog barks loudly.", corresponds=False)
    refused = [said(f"r{index}", corresponds=False) for index in range(9)]
    found = review_figures([changed, *refused]).modified_words
    assert found is not None
    assert (found.value, found.count) == (0.2, 1)
    found = review_figures([changed, said("b"), said("c", corresponds=None)]).modified_words
    assert found is not None
    assert (found.value, found.count) == (pytest.approx(1 / 15), 3)
    assert review_figures(refused).modified_words is None


def test_only_the_papers_six_cues_can_be_four_right_ones() -> None:
    six = ("image_caption", "objects", "image_label", "place", "audio_tags", "audio_caption")
    others = tuple((name, True) for name in ("speech", "music", "labels", "video"))
    assert review_figures([said("a", cues=(*others, *((name, False) for name in six)))]).four_cues == Share(
        0.0, *wilson(0.0, 1), 1
    )
    too_few = said("b", cues=(*others, *((name, True) for name in six[:3])))
    assert review_figures([too_few]).four_cues is None
    assert review_figures([too_few, said("a", cues=tuple((name, True) for name in six[:4]))]).four_cues == Share(
        1.0, *wilson(1.0, 1), 1
    )


def test_an_interval_without_a_width_is_not_shown_as_one() -> None:
    reviews = [said("a", detail=3, corresponds=True, corrected="A red fox barks loudly.")]
    shown = {row.name: row.interval for row in rows(review_figures(reviews))}
    assert shown[NAMES["detail"]] == shown[NAMES["modified_words"]] == "–"
    assert shown[NAMES["corresponds"]] == "0.207 to 1.000"
    section = report_of(review_figures(reviews))
    assert section is not None
    tables = [part for part in section.parts if isinstance(part, Table)]
    found = {row[0]: row[2] for table in tables for row in table.rows}
    assert found["detail, of 3"] == found["words changed"] == "–"
    assert found["captions that correspond"] == "0.207–1.000"


def test_the_papers_share_of_aligned_captions_stands_beside_those_that_correspond() -> None:
    shown = {row.name: row.published for row in rows(review_figures([said("a")]))}
    assert shown[NAMES["corresponds"]] == "0.924 (Auto-ACD); 0.880 (Auto-ACD, 200 clips)"
    assert shown[NAMES["caption_right"]] == ""
    section = report_of(review_figures([said("a")]))
    assert section is not None
    (table,) = (part for part in section.parts if isinstance(part, Table))
    assert "0.880" in table.note
    assert {row[0]: row[4] for row in table.rows}["captions right as they are"] == "–"


def test_shares_have_wilsons_interval() -> None:
    figures = review_figures([said(f"c{index}", corresponds=index < 924) for index in range(1000)])
    wanted = binomtest(924, 1000).proportion_ci(method="wilson")
    assert figures.corresponds is not None
    assert (figures.corresponds.low, figures.corresponds.high) == pytest.approx((wanted.low, wanted.high))


@pytest.mark.parametrize(("successes", "count"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 20), (333, 1000)])
def test_wilsons_interval_is_scipys(successes: int, count: int) -> None:
    wanted = binomtest(successes, count).proportion_ci(method="wilson")
    assert wilson(successes / count, count) == pytest.approx((wanted.low, wanted.high))


def test_what_several_raters_say_of_a_clip_counts_once() -> None:
    figures = review_figures(
        [
            *(
                said("a", rater, corresponds=rater == "ann", detail=1, corrected="A dog barks loudly.")
                for rater in ("ann", "ben", "cy", "di")
            ),
            said("b", detail=3),
        ]
    )
    assert (figures.reviews, figures.clips, figures.raters) == (5, 2, ("ann", "ben", "cy", "di"))
    assert figures.corresponds == Share(0.625, *wilson(0.625, 2), 2)  # a quarter and one
    assert figures.detail is not None
    assert figures.detail.value == 2.0
    assert figures.modified_words is not None
    assert (figures.modified_words.value, figures.modified_words.count) == (0.1, 2)


def test_two_wordings_of_a_clip_are_two_captions() -> None:
    old = said("a", caption="A cat.", corrected="A dog.", corresponds=False)
    figures = review_figures([old, said("a", "ben")])
    assert figures.corresponds == Share(0.5, *wilson(0.5, 2), 2)
    assert figures.clips == 1
    assert figures.agreement["corresponds"] is None


def test_resampled_intervals_are_the_same_every_time_and_cover() -> None:
    rng, covered = np.random.default_rng(7), 0
    for _ in range(200):
        words = rng.integers(8, 20, 120)
        changed = rng.binomial(words, rng.choice([0.0, 0.2], 120, p=[0.75, 0.25]))  # captions are right or are not
        low, high = resampled(changed, words)
        assert (low, high) == resampled(changed, words)
        covered += low <= 0.05 <= high
    assert covered >= 176  # 95 % of 200 is 190; percentiles of a skewed rate fall a little short
    # words that were independent would have a narrower interval
    assert high - low > 1.15 * 2 * 1.96 * np.sqrt(0.05 * 0.95 / words.sum())


def test_ten_thousand_clips_are_resampled_in_little_memory() -> None:
    values = np.arange(10_000) % 5 + 1
    low, high = resampled(values, np.ones(10_000))
    spread = 1.96 * values.std() / 100
    assert (low, high) == pytest.approx((3 - spread, 3 + spread), abs=0.005)


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("", "", 0),
        ("a b c", "a b c", 0),
        ("a b c", "a c", 1),
        ("a c", "a b c", 1),
        ("a b c", "c b a", 2),
        ("a b", "", 2),
        ("kitten sat", "sitting on mats", 3),
    ],
)
def test_words_are_put_in_taken_out_or_replaced(old: str, new: str, wanted: int) -> None:
    assert distance(old.split(), new.split()) == wanted == distance(new.split(), old.split())


def test_alpha_is_krippendorffs_own_examples() -> None:
    """Of K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), sections C and E."""
    first = [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None]
    second = [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3]
    third = [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None]
    fourth = [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None]
    units = [[one for one in unit if one is not None] for unit in zip(first, second, third, fourth, strict=True)]
    assert alpha(units, range(1, 6)) == pytest.approx(0.743, abs=5e-4)
    assert alpha(units, range(1, 6), "ordinal") == pytest.approx(0.815, abs=5e-4)
    binary = zip([0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0], strict=True)
    assert alpha(list(map(list, binary)), (0, 1)) == pytest.approx(0.095, abs=5e-4)


def test_agreement_is_told_question_by_question() -> None:
    both = [
        said(clip_id, rater, corresponds=good, detail=detail, hallucination=5, cues=(("tags", good), ("place", True)))
        for rater in ("ann", "ben")
        for clip_id, good, detail in (("a", True, 1), ("b", False, 2), ("c", True, 3))
    ]
    agreement = review_figures([*both, said("d")]).agreement
    assert agreement["corresponds"] == agreement["detail"] == agreement["cues"] == pytest.approx(1.0)
    assert agreement["hallucination"] is None  # where all say the same there is nothing to agree on
    contrary = [replace(one, corresponds=not one.corresponds) if one.rater == "ben" else one for one in both]
    found = review_figures(contrary).agreement["corresponds"]
    assert found is not None
    assert found < 0


def test_of_nothing_there_are_no_figures() -> None:
    figures = review_figures([])
    assert (figures.reviews, figures.clips, figures.raters, figures.corresponds, figures.cues) == (0, 0, (), None, {})
    assert rows(figures) == []
    only_marks = review_figures([said("a", caption="...", corrected="...")])
    assert only_marks.modified_words is None


def test_the_table_stands_beside_the_papers_figures_and_forges_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[2J[red]cue[/]"
    reviews = [
        said(
            f"c{index}",
            rater,
            corresponds=index > 0,
            detail=2,
            hallucination=4,
            cues=((hostile, True), ("place", index > 1)),
        )
        for index in range(10)
        for rater in ("ann", "ben")
    ]
    figures = review_figures(reviews)
    Console(width=140, force_terminal=False).print(figures_table(figures, "Found"))
    shown = capsys.readouterr().out
    for wanted in (
        "0.900",
        "0.924 (Auto-ACD)",
        "0.053 (Auto-ACD)",
        "0.042 (Auto-ACD)",
        "2.55 (FusionAudio)",
        "3.74",
        "0.725 (Auto-ACD, Places365)",
    ):
        assert wanted in shown
    assert "20 reviews of 10 clips by ann, ben" in shown
    assert figures_table(review_figures([GOOD]), "").caption == "1 review of 1 clip by ann"
    assert "\x1b" not in shown
    assert "[red]cue[/]" in shown
    assert PUBLISHED.keys() <= vars(figures).keys()
