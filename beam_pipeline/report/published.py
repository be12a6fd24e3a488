"""What others have published of their datasets, to read one's own figures beside. Each number names its source."""

from __future__ import annotations

from dataclasses import dataclass

AUTO_ACD = "arXiv:2309.11500"
FUSION_AUDIO = "arXiv:2506.01111"


@dataclass(frozen=True)
class Published:
    """A dataset, as a paper reports it.

    Attributes:
        name: the dataset's.
        captions: how many, as far as the source tells ("57K" is 57,000).
        words: of a caption, on average.
        vocabulary: distinct words; ``None`` where the source says nothing.
        source: where that stands.
    """

    name: str
    captions: int
    words: float
    vocabulary: int | None
    source: str


_TABLE_5 = f"{AUTO_ACD}, table 5"
DATASETS = (
    Published("AudioCaps", 57_000, 8.8, 5_000, _TABLE_5),
    Published("Clotho", 30_000, 11.3, 4_000, _TABLE_5),
    Published("WavCaps", 400_000, 7.8, 29_000, _TABLE_5),
    Published("Auto-ACD", 1_500_000, 18.1, 22_000, _TABLE_5),
    Published("FusionAudio", 1_200_000, 47.18, None, FUSION_AUDIO),
)

# Auto-ACD, table 7: a check of 1,000 captions by hand.
CORRESPONDENCE = 0.924
MODIFIED_WORDS = 0.053
INAUDIBLE = 0.042
# Auto-ACD, section 7.5: 200 clips; captions that align with the sound, and clips with at least four of six cues right.
ALIGNED = 0.880
FOUR_CUES = 0.940
# Auto-ACD, table 8, by the cue that is its counterpart in `auto_acd.toml`: the paper's model, and its accuracy.
CUE_ACCURACY = {
    "image_caption": ("BLIP-2", 0.915),
    "objects": ("Grounding DINO", 0.755),
    "image_label": ("CLIP", 0.805),
    "place": ("Places365", 0.725),
    "audio_caption": ("AudioCaption", 0.770),
    "audio_tags": ("PANNs", 0.905),
}
# FusionAudio's ratings by people: detail of 3, hallucination of 5 where 5 is none, and the share rated 2 or less.
DETAIL = 2.55
HALLUCINATION = 3.74
LOW_HALLUCINATION = 0.07
# FusionAudio's questions: 4.8 million in the released files, with the mean lengths of question and answer in words.
QUESTION_WORDS = 14.8
ANSWER_WORDS = 26.4
