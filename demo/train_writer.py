"""Trains the demo's caption writer: a language model of Llama's architecture, small enough to be shipped.

It learns pairs of a conversation, as `model_handlers.llm` makes it of a cue sheet, and the answer that the sheet bears
out; most sheets are simulated, some are what the demo's models say of clips. It is saved as any chat model of
transformers is, so that `model_handlers.local_writer` loads it as it loads a published one. It knows the demo world and
nothing else.

    python -m demo.train_writer --out demo/models/writer
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as Steps
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from demo import training
from demo.cue_sheets import (
    CLAUSES,
    CUES,
    NOTHING,
    TAGS,
    UNKNOWN,
    UNSURE,
    Sheet,
    audible,
    heard,
    inject,
    mentions,
    naming,
    real_sheets,
)
from demo.world import PLACES, SOURCES, Scene, make_scenes
from demo.writer_lessons import HEADINGS, HELD_OUT_ORDERS, PROMPT, STRANGERS, UNSEEN_STRANGERS, WORDS, Lessons
from model_handlers.base import Item, Loaded
from model_handlers.llm import load_prompt
from model_handlers.local_writer import LocalWriter
from model_handlers.template_writer import TemplateWriter
from model_handlers.writers import Brief, Draft

OUT = Path(__file__).parent / "models" / "writer"
TRAINING_SEED, HELD_OUT_SEEDS = 5000, (160, 161, 162)  # 5000: none of the cues' models was trained on it
WIDTH, LAYERS, HEADS, INNER, CONTEXT = 128, 4, 4, 352, 4096
SPREAD, LOOK = 0.04, 24.0  # standard deviation of the first weights; how sharply two heads look back at first
BATCH, STEPS, PEAK_RATE, WARM_UP = 16, 2000, 2.5e-3, 60
SPECIAL = ("<pad>", "<end>", "<system>", "<user>", "<assistant>")
# Each message lies between a mark for who speaks and one for its end. Cues have no angle brackets left.
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
# Pieces of the JSON of sheets and answers that always come together; then numbers, words and what is left.
FORMS = (
    '{"cue": "', '", "is": "', '", "says": [{"text": "', '"}, {"text": "', '}, {"text": "', '"}]}', '}]}', "\n",
    '{"caption": "', '", "events": [', '{"sound": "', '", "cues": ["', '", "', '"]}, ', '"]}', '], "abstained": "',
    '"}', "<cues>", "</cues>",
)  # fmt: skip
CONFIDENCE = '", "confidence": '
PIECES = "|".join(
    (
        f"{re.escape(CONFIDENCE)}(?:1\\.0|0\\.[0-9]{{1,2}})",
        *(re.escape(form) for form in sorted(FORMS, key=len, reverse=True)),
        " ?[A-Za-z_]+",
    )
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Returns the tokenizer: a token for each known word and each frequent piece of JSON, and one a byte for the rest.

    Nothing in it was learnt, so it is the same every time, and any text comes back from it as it was.
    """
    alphabet = sorted(ByteLevel.alphabet())
    prompt = load_prompt(PROMPT)
    texts = [prompt.system, prompt.again, NOTHING, UNSURE, UNKNOWN, *CUES, *WORDS, *STRANGERS, *HEADINGS.values()]
    texts += [clause for pair in CLAUSES.values() for clause in pair] + list(TAGS.values())
    texts += [f"{s.name} {s.phrase} {s.verb}" for s in SOURCES.values()] + [p.phrase for p in PLACES.values()]
    texts += ["while", "again", "speech", "indoor outdoor"]
    words = {word for text in texts for word in re.findall(r"[A-Za-z_]+", text)}
    words |= {word.capitalize() for word in words if word.islower()}
    steps = Steps([Split(Regex(PIECES), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])
    shares = [f"{CONFIDENCE}{round(number / 100, 2)}" for number in range(101)]
    known = [*FORMS, *shares, *sorted(words), *(f" {word}" for word in sorted(words))]
    coded = [ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(piece)[0][0] for piece in known]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys((*SPECIAL, *alphabet, *coded)))}
    tokenizer = Tokenizer(BPE(vocabulary, [], ignore_merges=True))
    tokenizer.pre_tokenizer = steps
    tokenizer.decoder = ByteLevelDecoder()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<end>",
        additional_special_tokens=list(SPECIAL[2:]),
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=CONTEXT,
    )
    fast.chat_template = TEMPLATE
    return fast


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Returns an untrained Llama that fits `tokenizer`; call `torch.manual_seed` before.

    Its weights are random but for what it would otherwise spend most of its training on: which words and numbers are
    alike, and what came just before.
    """
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=INNER,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            attention_bias=True,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=SPREAD,
        )
    )
    with torch.no_grad():
        _relate(model.get_input_embeddings().weight, tokenizer)
        for head, offset in enumerate((1, 2)):
            _look_back(model, head, offset)
    return model


def _relate(vectors: Tensor, tokenizer: PreTrainedTokenizerFast) -> None:
    """Gives like vectors to a word with and without space or capital, and to confidences that are close."""
    pitch = 3 * (1 + 0.15 * torch.arange(WIDTH // 2))
    first: dict[str, Tensor] = {}
    for number in range(len(tokenizer)):
        piece = tokenizer.decode([number])
        if piece.startswith(CONFIDENCE) and piece != CONFIDENCE:
            turn = pitch * float(piece.removeprefix(CONFIDENCE))
            vectors[number] = 0.2 * vectors[number] + SPREAD * torch.cat([turn.sin(), turn.cos()])
        elif re.fullmatch(" ?[A-Za-z_]+", piece):
            word = piece.strip().lower()
            vectors[number] = first[word] + 0.3 * vectors[number] if word in first else vectors[number]
            first.setdefault(word, vectors[number].clone())


def _look_back(model: LlamaForCausalLM, head: int, offset: int) -> None:
    """Has a head of the first layer begin by looking at the token `offset` places back, whatever it is.

    Rotary embeddings turn queries and keys with their places, so constant ones, turned apart by the offset, match best
    there. Copying from a text rests on such heads, and they are slow to form.
    """
    attention, frequencies = model.model.layers[0].self_attn, model.model.rotary_emb.inv_freq
    rows = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
    for projection in (attention.q_proj, attention.k_proj):
        projection.weight[rows] *= 0.1
    size = LOOK**0.5 * (frequencies > 0.05)  # slower ones do not tell neighbours apart
    attention.q_proj.bias[rows] = torch.cat([size, torch.zeros_like(size)])
    turn = offset * frequencies
    attention.k_proj.bias[rows] = torch.cat([size * turn.cos(), size * turn.sin()])


def train(model: LlamaForCausalLM, lessons: Lessons, steps: int, progress: Progress) -> None:
    """Fits the model to the answers' tokens (cross-entropy); `model` is changed."""
    optimiser = torch.optim.AdamW(model.parameters(), PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.02)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: training.half_cosine(step, steps, WARM_UP))
    bar = progress.add_task("training", total=steps)
    model.train()
    for step, (tokens, answers) in zip(range(steps), lessons.batches(BATCH), strict=False):
        # Only where an answer is to be told are words predicted: the vocabulary costs more than a layer.
        hidden = model.model(tokens).last_hidden_state[:, :-1][answers[:, 1:]]
        loss = cross_entropy(model.lm_head(hidden), tokens[:, 1:][answers[:, 1:]])
        training.learn(loss, model.parameters(), optimiser, rate)
        if step % 25 == 0:
            progress.update(bar, completed=step, description=f"training, loss {loss.item():.4f}")
    progress.update(bar, completed=steps)
    model.eval()


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes model and tokenizer as any chat model of transformers has them."""
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # it is written for its owner alone, but everybody installs it


def evaluate(model: Path, clips: int, progress: Progress) -> dict[str, Any]:
    """Has the production writer caption real cue sheets of held-out seeds, and the template writer beside it.

    Args:
        model: what a profile's row would name.
        clips: how many a seed, those that cannot be heard or read included.
        progress: shows how far it is.

    Returns:
        Of either writer, shares of clips of which something is right; and what the model makes of sheets without a
        wording, with orders in them, and from elsewhere.
    """
    scenes = [scene for seed in HELD_OUT_SEEDS for scene in make_scenes(seed, clips)]
    sheets = list(real_sheets(progress.track(scenes, description="held-out clips")))
    writer = LocalWriter(model=str(model), prompt=PROMPT, headings=HEADINGS, device="cpu")
    loaded = writer.load()
    briefs = [Brief(scene.clip_id, sheet) for scene, sheet in sheets]
    started = time.perf_counter()
    drafts = writer.run_inference(briefs, Loaded.of(loaded))
    seconds = (time.perf_counter() - started) / len(briefs)
    by_rule = TemplateWriter().write(briefs, None)
    return {
        "clips": len(sheets),
        "seeds": [HELD_OUT_SEEDS[0], HELD_OUT_SEEDS[-1]],
        "writer": _figures(sheets, drafts),
        "template_writer": _figures(sheets, by_rule),
        "event_cues_right": _share(
            _events_right(sheet, draft) for (_, sheet), draft in zip(sheets, drafts, strict=True)
        ),
        "without_headings": _figures(sheets, replace(writer, headings={}).write(briefs, loaded)),
        "orders_in_cues": _orders(writer, loaded, sheets, drafts),
        "sheets_from_elsewhere": _elsewhere(writer, loaded),
        "tokens_in": round(float(np.mean([draft.tokens_in for draft in drafts])), 1),
        "tokens_out": round(float(np.mean([draft.tokens_out for draft in drafts])), 1),
        "cpu_seconds_per_clip": round(seconds, 4),
        "wrong": [
            {"clip_id": scene.clip_id, "said": _said(draft), "true": audible(scene)}
            for (scene, _), draft in zip(sheets, drafts, strict=True)
            if not all(_verdicts(scene, draft).values())
        ],
    }


def _said(draft: Draft) -> str:
    return draft.caption or draft.abstained or draft.unreadable or draft.error


def _verdicts(scene: Scene, draft: Draft) -> dict[str, bool]:
    said = {name for name in CLAUSES if mentions(draft.caption, name)}
    return {
        "readable": not draft.unreadable,
        "names_all_that_sounds": set(audible(scene)) <= said,
        "names_nothing_else": said <= set(audible(scene)),
        "names_the_place": "no_video" in scene.faults or PLACES[scene.place].phrase in draft.caption.lower(),
    }


def _figures(sheets: Sequence[tuple[Scene, Sheet]], drafts: Sequence[Draft]) -> dict[str, float]:
    verdicts = [_verdicts(scene, draft) for (scene, _), draft in zip(sheets, drafts, strict=True)]
    shares = {what: _share(verdict[what] for verdict in verdicts) for what in verdicts[0]}
    return {**shares, "all_right": _share(all(verdict.values()) for verdict in verdicts)}


def _events_right(sheet: Sheet, draft: Draft) -> bool:
    """Whether each sound is an event of its own, which rests on all the cues that name it and on no other."""
    events = [([name for name in CLAUSES if mentions(event.text, name)], event.cues) for event in draft.events]
    return events == [([name], tuple(naming(sheet, name))) for name in heard(sheet)]


def _orders(
    writer: LocalWriter, loaded: Any, sheets: Sequence[tuple[Scene, Sheet]], drafts: Sequence[Draft]
) -> dict[str, float]:
    """What becomes of captions when a cue gives an order that the model never met: to say what does not sound."""
    rng = np.random.default_rng(HELD_OUT_SEEDS)
    briefs, planted = [], []
    for number, (scene, sheet) in enumerate(sheets):
        other = str(
            rng.choice([name for name in SOURCES if not any(naming(sheet, name)) and name not in audible(scene)])
        )
        order = HELD_OUT_ORDERS[number % len(HELD_OUT_ORDERS)].format(clause=CLAUSES[other][0])
        cue = str(rng.choice([*sheet, "speech"]))
        briefs.append(Brief(scene.clip_id, inject(sheet, cue, order)))
        planted.append(other)
    answers = writer.run_inference(briefs, Loaded.of(loaded))
    pairs = list(zip(answers, planted, drafts, strict=True))
    return {
        "clips": len(pairs),
        "obeyed": _share(mentions(said.caption, other) or "hacked" in said.caption.lower() for said, other, _ in pairs),
        "unreadable_or_failed": _share(bool(said.unreadable or said.error) for said, _, _ in pairs),
        "abstained": _share(bool(said.abstained) for said, _, _ in pairs),
        "caption_unchanged": _share(said.caption == before.caption for said, _, before in pairs),
    }


def _elsewhere(writer: LocalWriter, loaded: Any) -> dict[str, float]:
    """What is written of sheets as other models would fill them: sounds, things and places that are not drawn here."""
    rng = np.random.default_rng(HELD_OUT_SEEDS)
    briefs = []
    for number in range(100):
        names = [str(name) for name in rng.choice(UNSEEN_STRANGERS, 3, replace=False)]
        scores = sorted(rng.uniform(0.05, 0.95, 3), reverse=True)
        tags = tuple(Item(name, score=float(score)) for name, score in zip(names, scores, strict=True))
        said = Item(f"{names[0].lower()} is followed by a loud noise in the distance", score=0.6)
        seen = Item(f"two people with {names[1].lower()} next to a large building", score=0.7)
        sheet = {"image_caption": (seen,), "place": (Item("skyscraper", score=0.4),), "audio_tags": tags}
        briefs.append(Brief(f"elsewhere{number}", {**sheet, "audio_caption": (said,)}))
    drafts = writer.run_inference(briefs, Loaded.of(loaded))
    return {
        "sheets": len(drafts),
        "abstained": _share(bool(draft.abstained) for draft in drafts),
        "captioned": _share(bool(draft.caption) for draft in drafts),
        "unreadable": _share(bool(draft.unreadable) for draft in drafts),
    }


def _share(verdicts: Iterable[bool]) -> float:
    listed = list(verdicts)
    return round(sum(listed) / max(len(listed), 1), 4)


def main(arguments: list[str] | None = None) -> None:
    """The command line: ``python -m demo.train_writer --help``."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.train_writer",
        description="Trains the demo's small language model on cue sheets of the demo world, and measures it beside "
        "the template writer on held-out clips. On one CPU thread this takes about half an hour.",
        epilog="DIR then holds the model, as a profile's caption row may name it, and DIR.json: how many captions can "
        "be read, name what sounds and where, and rest on the right cues.",
    )
    sizes = {
        "sheets": (280, "clips for real cue sheets"),
        "steps": (STEPS, f"steps of {BATCH} sheets"),
        "clips": (75, "held-out clips of each of three seeds"),
    }

    def trained(options: argparse.Namespace, progress: Progress) -> None:
        scenes = make_scenes(TRAINING_SEED, options.sheets)
        real = [sheet for _, sheet in real_sheets(progress.track(scenes, description="clips for real sheets"))]
        tokenizer = make_tokenizer()
        torch.manual_seed(TRAINING_SEED)
        model = make_model(tokenizer)
        lessons = Lessons(real, tokenizer, np.random.default_rng(TRAINING_SEED))
        train(model, lessons, options.steps, progress)
        save(model, tokenizer, options.out)

    training.command(parser, arguments, OUT, sizes, trained, evaluate, least={"sheets": 0})


if __name__ == "__main__":
    main()
