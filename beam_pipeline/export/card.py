"""The dataset card, ``README.md``: what is in it, how it was made, by which models and under which licences.

What comes from clips is escaped: it is text on the page, whatever renders the card.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from beam_pipeline.export.licences import Licence, licence_of
from beam_pipeline.export.splits import HELD_OUT
from beam_pipeline.export.tally import Tally
from beam_pipeline.export.target import Target
from beam_pipeline.review.figures import ReviewFigures, Share, review_figures
from transforms.splits import BENCHMARK, TEST, TRAIN

# The Hub's categories of size.
_SIZES = {1e3: "n<1K", 1e4: "1K<n<10K", 1e5: "10K<n<100K", 1e6: "100K<n<1M", 1e7: "1M<n<10M"}
_MARKUP = re.compile(r"([\\`*_{}\[\]#|~!$^])|(?<=http)(:)|(?<=https)(:)|(?<=www)(\.)", re.IGNORECASE)
_SHOWN = 400  # characters of one text
_PATHS = (
    "Rows hold `uri` and `origin`, which are paths and addresses: where a clip's media lay, and the list that named "
    "it. See that they may be public before you publish this."
)


def card(manifest: dict[str, Any], version: int, name: str, tally: Tally, target: Target) -> str:
    """Writes the card.

    Args:
        manifest: of the version.
        version: its number.
        name: of the dataset.
        tally: of what was exported.
        target: the format, all of which is written.
    """
    models = models_of(manifest)
    restricted = [model for model, _, licence in models if licence.restricted]
    parts = [
        _head(manifest, name, tally, bool(restricted), target.head),
        f"# {said(name)}\n\nCaptions of what can be heard in video clips, written by [Earshot](#how-it-was-made).",
        _warning(manifest, restricted),
        _loading(tally, target),
        _figures(tally),
        _PATHS if target.tells_paths else "",
        _reviews(tally),
        _made(manifest, version),
        _models(models),
        _rejections(manifest),
        _examples(tally),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def models_of(manifest: dict[str, Any]) -> list[tuple[str, str, Licence]]:
    """Each model of a version, what it was used for, and its licence; handlers that need none are left out."""
    used: dict[str, list[str]] = {}
    cues = {**manifest["cues"], **({"separation": one} if (one := manifest.get("separation")) else {})}
    for cue, facts in cues.items():
        if not facts["model"].isidentifier():  # else it is a handler's class, which reads what is there
            used.setdefault(facts["model"], []).append(cue)
    questions = manifest.get("questions") or {}
    for purpose, model in (("captions", manifest.get("model")), ("questions", questions.get("model"))):
        if model:
            used.setdefault(model, []).append(purpose)
    return [(model, ", ".join(purposes), licence_of(model)) for model, purposes in used.items()]


def said(text: object) -> str:
    """Text from outside as text of a Markdown page, in one line: nothing in it is markup, HTML or a link."""
    line = " ".join(str(text).split())
    line = line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
    marked = _MARKUP.sub(lambda found: f"\\{found[0]}", _spelt(line))
    return html.escape(marked, quote=False).replace("@", "&#64;")


def _spelt(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _head(manifest: dict[str, Any], name: str, tally: Tally, restricted: bool, head: Sequence[str]) -> str:
    languages = [manifest.get("checks", {}).get("language", "en"), *manifest.get("languages", ())]
    number = tally.captions.total()
    size = next((said_ for most, said_ in _SIZES.items() if number < most), "n>10M")
    licence = ["license: unknown"]
    if restricted:
        licence = ["license: other", "license_name: models-for-research-or-non-commercial-use"]
        licence.append("license_link: README.md")
    lines = [
        "---",
        f"pretty_name: {json.dumps(_spelt(name), ensure_ascii=False)}",
        *licence,
        f"language: {json.dumps(list(dict.fromkeys(languages)))}",
        "task_categories: [audio-text-to-text, text-to-audio]",
        "tags: [audio, audio-captioning, sound, earshot]",
        f"size_categories: [{json.dumps(size)}]",
        *head,
        "---",
    ]
    return "\n".join(lines)


def _warning(manifest: dict[str, Any], restricted: Sequence[str]) -> str:
    parts = []
    if restricted:
        names = ", ".join(map(said, restricted))
        parts.append(
            "> **For research or non-commercial use only:** some of the models that made these captions allow nothing "
            f"else ({names}). See [Models](#models)."
        )
    if notice := manifest.get("notice"):
        parts.append(f"> {said(notice)}")
    return "\n>\n".join(parts)


def _loading(tally: Tally, target: Target) -> str:
    """How to load the first split that was written, training's where there is one."""
    if not tally.captions:
        return ""
    first = TRAIN if TRAIN in tally.captions else next(iter(tally.captions))
    asked = first if first in tally.pairs else next(iter(tally.pairs), "")
    code = target.loading(target.wanted.audio, first, asked)
    return f"## Load it\n\n`PATH` is this folder.\n\n```python\n{code}\n```"


def _figures(tally: Tally) -> str:
    rows = [
        (split, f"{number:,}", f"{tally.mean_words(split):.1f}", f"{tally.pairs[split]:,}")
        for split, number in tally.captions.items()
    ]
    total, words = tally.captions.total(), tally.words.total()
    rows.append(("all", f"{total:,}", f"{words / total if total else 0:.1f}", f"{tally.pairs.total():,}"))
    lines = [
        "## Figures",
        _table(("split", "captions", "words a caption", "questions"), rows),
        f"Vocabulary: {len(tally.vocabulary):,} different words, counted in lower case.",
    ]
    if tally.captions[HELD_OUT]:
        lines.append(
            f"`{TEST}` is what people listened to and corrected. `{HELD_OUT}` are clips of the same videos, and clips "
            "set aside for testing that nobody listened to: do not train on them if you test on the others."
        )
    if tally.captions[BENCHMARK]:
        lines.append(f"`{BENCHMARK}` are clips of public test sets: do not train on them if you evaluate on those.")
    if tally.unchecked:
        lines.append(
            f"Questions that are not here: {tally.unchecked:,}, about clips whose captions people corrected; nobody "
            "has checked them against the new text."
        )
    if tally.left_out:
        lines.append("Left out, clip by clip in `left_out.csv`:")
        lines.append(_table(("reason", "clips"), [(why, f"{n:,}") for why, n in tally.left_out.most_common()]))
    return "\n\n".join(lines)


def _reviews(tally: Tally) -> str:
    if tally.reviews is None or not tally.reviews.reviews:
        return ""
    found: ReviewFigures = review_figures(tally.reviews.reviews)
    shares = {
        "captions that correspond": found.corresponds,
        "words that were changed": found.modified_words,
        "words that cannot be heard": found.inaudible_words,
        "detail, 1 to 3": found.detail,
        "hallucination, 1 to 5, 5 is none": found.hallucination,
    }
    rows = [(name, *_share(share)) for name, share in shares.items() if share is not None]
    people = "1 person" if len(found.raters) == 1 else f"{len(found.raters)} people"
    return "\n\n".join(
        [
            "## What people say of it",
            f"{people} listened to {found.clips:,} clips. This is of the captions as they were written. A clip whose "
            "caption was corrected has the corrected one here, also where the one that was written did not correspond; "
            "where that did not and nobody rewrote it, the clip is left out.",
            _table(("", "value", "95 % interval", "clips"), rows),
        ]
    )


def _share(share: Share) -> tuple[str, str, str]:
    """An interval that samples of clips made has no width where all clips say the same: it would say too much."""
    interval = "all the same" if share.low == share.high else f"{share.low:.3f} to {share.high:.3f}"
    return f"{share.value:.3f}", interval, f"{share.count:,}"


def _made(manifest: dict[str, Any], version: int) -> str:
    facts = {
        "profile": manifest.get("profile"),
        "version": version,
        "digest of its records": manifest.get("digest"),
        "made": manifest.get("finished"),
        "by": f"Earshot {manifest.get('earshot', '?')} on Apache Beam {manifest.get('apache_beam', '?')}",
        "clips": PurePosixPath((manifest.get("source") or {}).get("clips") or "").name,
        "cues": ", ".join(manifest.get("order") or manifest["cues"]),
        "captions' writer": manifest.get("model") or manifest["writer"],
        "its prompt": manifest.get("prompt"),
        "prompt of the questions": (manifest.get("questions") or {}).get("prompt"),
        "filters": _setting(manifest["filters"]),
        "checks": _setting(manifest.get("checks")),
        "similarity": _setting(manifest.get("similarity")),
        "splits": _setting(_split_rule(manifest)),
    }
    synced = (
        "clips whose sound does not belong to the picture were dropped, " if manifest["filters"].get("sync") else ""
    )
    text = (
        f"Each clip was decoded, models said what is seen and heard in it (its cues), {synced}and a writer that was "
        "told the cues wrote one sentence about what can be heard. A caption that failed a check was written again or "
        "dropped."
    )
    rows = [(name, said(value)) for name, value in facts.items() if value]
    return f"## How it was made\n\n{text}\n\n{_table(('', ''), rows)}"


def _split_rule(manifest: dict[str, Any]) -> dict[str, Any]:
    """The rule, with the names of the lists of benchmark clips alone: where they lay is nobody's business."""
    rule = dict(manifest.get("split_rule") or {})
    if lists := rule.get("benchmarks"):
        rule["benchmarks"] = {name: PurePosixPath(path).name for name, path in lists.items()}
    return rule


def _setting(value: Any) -> str:
    """A profile's table in words; what it leaves empty is left out."""
    if isinstance(value, dict):
        told = {name: _setting(one) for name, one in value.items()}
        between = "; " if any(isinstance(one, dict) for one in value.values()) else ", "
        return between.join(f"{name}: {text}" for name, text in told.items() if text)
    if isinstance(value, list | tuple):
        return " and ".join(map(str, value))
    return "" if value is None or value is False else str(value)


def _models(models: Iterable[tuple[str, str, Licence]]) -> str:
    rows = [
        (said(model), said(purpose), f"**{said(it.name)}**" if it.restricted else said(it.name), said(it.source))
        for model, purpose, it in models
    ]
    if not rows:
        return ""
    text = (
        "What Earshot knows of the models' licences, and from where. Only models that it knows are marked: one whose "
        "licence is unknown may be for research only as well. It is no legal advice: check them before you publish "
        "this dataset or sell what you train on it, and the terms of the clips as well."
    )
    return f"## Models\n\n{text}\n\n{_table(('model', 'for', 'licence', 'said where'), rows)}"


def _rejections(manifest: dict[str, Any]) -> str:
    counts, reasons = manifest["counts"], manifest.get("reasons", {})
    rows = [(said(reason), f"{number:,}") for reason, number in sorted(reasons.items(), key=lambda one: -one[1])]
    if not rows:
        return ""
    text = f"Of {counts['clips_in']:,} clips {counts['captions']:,} got a caption. What became of the others:"
    return f"## What was dropped\n\n{text}\n\n{_table(('reason', 'clips'), rows)}"


def _examples(tally: Tally) -> str:
    rows = [(said(row["clip_id"]), said(row["caption"])) for row in tally.examples]
    return f"## Some captions\n\n{_table(('clip', 'caption'), rows)}" if rows else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
