"""Caption writers: from all that is known of a clip to one sentence about what can be heard.

`CaptionWriter` is what every writer has in common; `TemplateWriter` needs no model.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from apache_beam.ml.inference.base import ModelHandler

from model_handlers.base import Items, Loaded


@dataclass(frozen=True)
class Brief:
    """What a writer is told of a clip: every cue's items, by cue name."""

    clip_id: str
    cues: Mapping[str, Items]


@dataclass(frozen=True)
class Draft:
    """What a writer answers: a caption, or the reason why it wrote none; and the seconds that it took."""

    caption: str = ""
    abstained: str = ""
    seconds: float = 0.0


@dataclass(kw_only=True)
class CaptionWriter(ModelHandler[Brief, Draft, Loaded]):
    """A writer on Beam's `ModelHandler` contract. A subclass supplies `load` and `write`; its fields are its row."""

    batch_size: int = 16

    version: ClassVar[int] = 1  # raise it when the code changes what is written

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it has to be at least 1")
        super().__init__(min_batch_size=self.batch_size, max_batch_size=self.batch_size)

    @property
    def needs(self) -> tuple[str, ...]:
        """The cues without which it cannot write."""
        return ()

    def load(self) -> Any:
        """Returns the model that `write` is given."""
        raise NotImplementedError

    def write(self, briefs: Sequence[Brief], model: Any) -> list[Draft]:
        """Returns one draft for each brief, in order."""
        raise NotImplementedError

    def load_model(self) -> Loaded:
        return Loaded(self.load)

    def run_inference(
        self, batch: Sequence[Brief], model: Loaded, inference_args: dict[str, Any] | None = None
    ) -> list[Draft]:
        started = time.perf_counter()
        drafts = self.write(batch, model.get())
        if len(drafts) != len(batch):
            raise AssertionError(f"{type(self).__name__}: {len(drafts)} drafts for {len(batch)} briefs")
        seconds = (time.perf_counter() - started) / len(batch)
        return [replace(draft, seconds=seconds) for draft in drafts]

    def get_num_bytes(self, batch: Sequence[Brief]) -> int:
        return sum(len(str(brief)) for brief in batch)

    def get_metrics_namespace(self) -> str:
        return "earshot.caption"

    def fingerprint(self) -> str:
        """``Class:`` and 16 hex digits that change when the writer's code or parameters do."""
        params = {name: value for name, value in asdict(self).items() if name != "batch_size"}
        facts = json.dumps([type(self).__name__, self.version, params], sort_keys=True)
        return f"{type(self).__name__}:{hashlib.sha256(facts.encode()).hexdigest()[:16]}"


# Where a picture's caption says where it was taken: the phrase that ends it ("on a beach", "at a train station"). What
# precedes that phrase is what is seen, and has no place in the sentence; nor has a phrase with no place in it.
_OTHER = r"\b(?:above|along|and|behind|beside|by|near|next|of|over|under|with)\b"
_PLACE = re.compile(rf".*\b(?P<place>(?:on|in|at|inside|outside) (?:a|an|the) (?:(?!{_OTHER})[a-z' -])+)$")
_SENTENCES = (
    "{sounds} can be heard{place}.",
    "The sound of {sounds} is heard{place}.",
    "{sounds} sounds{place}.",
)


@dataclass(kw_only=True)
class TemplateWriter(CaptionWriter):
    """One sentence from audio tags and image caption, by rule.

    What sounds comes from the tags alone: those of at least `min_score`, at most `at_most` of them. Where it sounds is
    the place phrase that ends the image caption. A thing that was both heard and seen is named as the picture's
    caption names it ("a dog"). With no tag sure enough the writer abstains.

    Attributes:
        tags: name of the cue that says what sounds.
        scene: name of the cue whose text may end in a place; empty for sentences without one.
        min_score: probability from which a tag counts as heard.
        at_most: how many sounds a sentence names.
    """

    tags: str = "audio_tags"
    scene: str = "image_caption"
    min_score: float = 0.3
    at_most: int = 3

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.tags, self.scene) if self.scene else (self.tags,)

    def load(self) -> None:
        """There is nothing to load."""

    def write(self, briefs: Sequence[Brief], model: None) -> list[Draft]:
        return [self.sentence(brief) for brief in briefs]

    def sentence(self, brief: Brief) -> Draft:
        """Writes the sentence for one clip."""
        tags = brief.cues.get(self.tags, ())
        heard = [item.text for item in tags if (item.score or 0.0) >= self.min_score][: self.at_most]
        if not heard:
            best = max((item.score or 0.0 for item in tags), default=0.0)
            return Draft(abstained=f"no audio tag reaches {self.min_score:g} (best {best:.2f})")
        seen = " ".join(item.text for item in brief.cues.get(self.scene, ())).lower().rstrip(". ")
        place = _PLACE.match(seen)
        sounds = _enumerate(_nouns(heard, seen))
        digest = hashlib.sha256(brief.clip_id.encode()).digest()
        pattern = _SENTENCES[digest[0] % (2 if len(heard) > 1 else len(_SENTENCES))]
        sentence = pattern.format(sounds=sounds, place=f" {place['place']}" if place else "")
        return Draft(caption=sentence[0].upper() + sentence[1:])


def _nouns(tags: Sequence[str], seen: str) -> list[str]:
    """Each tag's name: with the article under which it was seen where all of them were, else bare for all.

    ``"Vehicle horn, car horn, honking"`` is one tag with several names, of which the first counts.
    """
    names = [[name.strip().lower() for name in tag.split(",")] for tag in tags]
    found = [re.search(rf"\b(?:a|an|the) (?:{'|'.join(map(re.escape, some))})\b", seen) for some in names]
    return [match.group() if all(found) and match else some[0] for match, some in zip(found, names, strict=True)]


def _enumerate(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
