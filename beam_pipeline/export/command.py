"""``earshot export``: a version of a dataset in the form that a training needs."""

from __future__ import annotations

import argparse
import json

EPILOG = """examples:
  earshot export out/ --to hf --output hf/                      # the captions, without sound
  earshot export out/ --to hf --output hf/ --audio flac --questions
  earshot export out/ --to webdataset --output shards/ --audio flac --rate 16000 --split train --split test
  earshot export out/ --to auto_acd --output acd/               # the columns of Auto-ACD's release, and start and end

forms:
  hf            a folder for datasets.load_dataset("hf/"), or to be uploaded to the Hub as it is
  webdataset    tar shards by split: <key>.flac, <key>.json, <key>.txt
  parquet       one table with everything, nested: pandas.read_parquet("OUT/captions.parquet")
  csv           a table a split, without the cues; README.md there has the call of pandas.read_csv that changes nothing
  jsonl         a row a line, with everything
  lhotse        recordings, supervisions and cuts: lhotse.CutSet.from_file("OUT/cuts.jsonl.gz"); without --audio they
                refer to the media files
  auto_acd      Auto-ACD's CSV files
  fusion_audio  FusionAudio's JSON lists of instructions

README.md in the folder is a dataset card: figures, how it was made, the models' licences, and how to load it. Texts are
written exactly as they are; one that begins with = is a formula to a spreadsheet, so import CSV files there as text.

Where clips were reviewed (`earshot review`), these are the test split, with the captions as people left them: also one
that does not correspond, if it was rewritten; if it was not, the clip is left out. The clips of their videos, and the
other clips of the test split, go to the split held_out. --no-reviews leaves that.

A clip whose sound is asked for and cannot be read is left out and listed, with the reason, in left_out.csv. The folder
appears when it is whole; an export that was stopped begins again. --output is a folder of this machine.
"""
DESCRIPTION = "Writes the current version of a dataset in a form that a training reads."
FORMS = ("hf", "webdataset", "parquet", "csv", "jsonl", "lhotse", "auto_acd", "fusion_audio")
MOST_RATE = 384_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments, description and examples."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("dataset", metavar="DIR", help="the dataset's folder, as given to `earshot run --output`")
    parser.add_argument("--to", required=True, choices=FORMS, help="the form")
    parser.add_argument("--output", required=True, metavar="OUT", help="a new or empty folder")
    parser.add_argument("--version", type=int, metavar="N", help="default: the current one")
    parser.add_argument(
        "--audio", choices=("none", "flac", "wav"), default="none", help="the clips' sound, mono, 16 bits"
    )
    parser.add_argument("--rate", type=int, default=48_000, metavar="HZ", help="of the sound (default: 48000)")
    parser.add_argument(
        "--split", action="append", default=[], metavar="SPLIT", help="only this one; may be repeated (default: all)"
    )
    parser.add_argument(
        "--questions", action="store_true", help="the questions and answers as well, where there are any"
    )
    parser.add_argument(
        "--shard-mb", type=int, default=500, metavar="MB", help="size of a shard of hf and webdataset (default: 500)"
    )
    parser.add_argument("--no-reviews", action="store_true", help="splits and captions as the run left them")
    parser.add_argument("--json", action="store_true", help="for machines: what was exported")


def main(options: argparse.Namespace) -> int:
    """Runs the command with the options of `add_arguments`; returns its exit status. Raises `ConfigError`.

    The status is 1 where no clip's sound could be read, or a split that was asked for has no caption.
    """
    from beam_pipeline.export.export import Export, empty_shown, export, exported_shown

    found: Export = export(
        options.dataset,
        options.to,
        options.output,
        version=options.version,
        audio=None if options.audio == "none" else options.audio,
        rate=options.rate,
        splits=options.split,
        questions=options.questions,
        shard_mb=options.shard_mb,
        reviews=not options.no_reviews,
    )
    if options.json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        exported_shown(found)
    empty_shown(found)
    return 1 if found.empty or (found.tally.without_media and not found.tally.captions) else 0
