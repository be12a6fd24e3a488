"""The caption writer that needs no model: one sentence by rule."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from model_handlers.writers import Brief, CaptionWriter, Draft

# Where a picture's caption says where it was taken: the phrase that ends it ("on a beach", "at a train station"). What
# precedes that phrase is what is seen, and has no place in the sentence; nor has a phrase with no place in it.
_OTHER = r"\b(?:above|along|and|behind|beside|by|near|next|of|over|under|with)\b"
_PLACE = re.compile(rf".*\b(?P<place>(?:on|in|at|inside|outside) (?:a|an|the) (?:(?!{_OTHER})[a-z' -])+)$")
_BRACKETED = re.compile(r"\s*\([^()]*\)")
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

    version = 2

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
        pattern = _SENTENCES[digest[0] % (len(_SENTENCES) if place and len(heard) == 1 else 2)]
        sentence = pattern.format(sounds=sounds, place=f" {place['place']}" if place else "")
        return Draft(caption=sentence[0].upper() + sentence[1:])


def _nouns(tags: Sequence[str], seen: str) -> list[str]:
    """Each tag's name: with the article under which it was seen where all of them were, else bare for all.

    ``"Vehicle horn, car horn, honking"`` is one tag with several names, of which the first counts. What AudioSet puts
    in brackets ("Frying (food)") only tells one meaning of a name from another.
    """
    names = [[name.strip().lower() for name in _BRACKETED.sub("", tag).split(",")] for tag in tags]
    found = [re.search(rf"\b(?:a|an|the) (?:{'|'.join(map(re.escape, some))})\b", seen) for some in names]
    return [match.group() if all(found) and match else some[0] for match, some in zip(found, names, strict=True)]


def _enumerate(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
