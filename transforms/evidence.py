"""What bears out a text that was written of a clip: the words of its cues, compared by their stems."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from model_handlers.base import Item, Items
from transforms import words

_SAYS_NOTHING = ("no speech", "language ")  # how the items of a transcript begin that hold no speech


def said(items: Items) -> Items:
    """What of a transcript was said: neither how sure it is that nobody speaks, nor in which language somebody does."""
    return tuple(item for item in items if not item.text.startswith(_SAYS_NOTHING))


def spoken(items: Items) -> bool:
    """Whether a transcript holds anything that was said."""
    return bool(said(items))


def borne_out(
    cues: Mapping[str, Items], transcripts: Collection[str], language: str = "en", but: Collection[str] = ()
) -> set[str]:
    """Stems of all that the cues say, but for transcripts, which are evidence of speech only.

    Args:
        cues: by name.
        transcripts: which of them hold what is said.
        language: of the cues, ISO 639-1.
        but: names of cues that do not count.
    """
    known: set[str] = set()
    for name, items in cues.items():
        if name in but:
            continue
        if name in transcripts:
            known |= {words.stem("speech")} if spoken(items) else set()
        else:
            known.update(*(words.stems(item.text, language) for item in items))
    return known


def shares(some: set[str], known: set[str]) -> bool:
    """Whether a stem is among the known ones, or one begins the other, as "thunder" does "thunderstorm"."""
    if some & known:
        return True
    return any(
        min(len(one), len(other)) >= 4 and (one.startswith(other) or other.startswith(one))
        for one in some
        for other in known
    )


def heard(cues: Mapping[str, Items], transcripts: Collection[str], sight: Collection[str]) -> Iterator[Item]:
    """What the cues of the sound say, but for what is said in it."""
    for name, items in cues.items():
        if name not in transcripts and name not in sight:
            yield from items
