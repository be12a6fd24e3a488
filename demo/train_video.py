"""Trains the demo's video language model: an Idefics3, small enough to be shipped, that tells what is seen and when.

It is shown a clip's frames, each after its time, and says what is where, and at what second each thing moves first.
Its eyes are those of the demo's image captioner to begin with. They learn from single frames which things are there,
which of them move, and where it is; the language model learns to answer from tokens that say all this outright. Then
the eyes' tokens are made as much like those as can be, and the language model gets used to them. Training uses world
seeds from 1000 upwards; the figures in ``video.json`` are measured on seeds from 100, on MP4 files written, decoded and
asked about as a run does it.

    python -m demo.train_video --help
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)

from demo import training
from demo.films import (
    EVERY_S,
    FRAMES,
    NOUNS,
    SHORT_SIDE,
    SIDE,
    THINGS,
    TIMES_S,
    Films,
    draw_films,
    glimpsed,
    make_image_processor,
    normalise,
    story,
)
from demo.occasions import watched
from demo.scenes import PLACES, SOURCES
from demo.train_audio_tags import share
from demo.train_speech import held_out_occasions
from model_handlers.base import Example
from model_handlers.chat import Chat, dated
from model_handlers.views import MomentsView

OUT = Path(__file__).parent / "models" / "video"
EYES = Path(__file__).parent / "models" / "image_caption"  # whose vision transformer this one's begins as
QUESTION = "What is seen, and when?"
WIDTH = 96
SEEING_BATCH, TELLING_BATCH = 64, 16
FEWEST = 8  # frames of a clip in training
SEEING_RATE, TELLING_RATE, SETTLING_RATE = 1e-3, 1.5e-3, 5e-4  # at their peaks
WARM_UP = 100  # steps until then
REPORTED = 50  # every how manieth step is told
PAD, START, END, UNKNOWN, FAKE, PICTURE, GLOBAL = (
    *("<pad>", "<|im_start|>", "<end_of_utterance>", "<unk>"),
    *("<fake_token_around_image>", "<image>", "<global-img>"),
)
TEMPLATE = (
    "{% for message in messages %}<|im_start|> {% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<end_of_utterance>{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


def make_processor() -> Idefics3Processor:
    """Returns the processor: frames to 64 × 64, and a token for each word of the world's questions and answers."""
    stamps = [f"00:{second:02d}" for second in range(int(EVERY_S * FRAMES))]
    phrases = [source.phrase for source in SOURCES.values()] + [f"a {name}" for name in THINGS]
    words = {word for phrase in phrases for word in phrase.split()} | {*QUESTION.split(), "the", "moves", "moves;"}
    words |= {f"{phrase.split()[-1]}," for phrase in phrases} | {"and"}  # of three things
    for place in PLACES.values():
        words |= {*place.phrase.split(), f"{place.phrase.split()[-1]};"}
    special = (PAD, START, END, UNKNOWN, FAKE, PICTURE, GLOBAL)
    tokens = (*special, *stamps, *(f"{stamp}:" for stamp in stamps), *sorted(words))
    tokenizer = Tokenizer(WordLevel({token: number for number, token in enumerate(tokens)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, unk_token=UNKNOWN)
    fast.add_special_tokens({"additional_special_tokens": [START, END, FAKE, PICTURE, GLOBAL]})
    return Idefics3Processor(make_image_processor(), fast, image_seq_len=1, chat_template=TEMPLATE)


def make_model(tokenizer: PreTrainedTokenizerFast) -> Idefics3ForConditionalGeneration:
    """Returns an Idefics3 with the eyes of `EYES` and random weights elsewhere; each frame is one token."""
    eyes = {"hidden_size": WIDTH, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4}
    text: dict[str, Any] = {"hidden_size": WIDTH, "intermediate_size": 256, "num_hidden_layers": 4}
    text |= {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 4, "initializer_range": 0.05}
    text |= {"vocab_size": len(tokenizer), "max_position_embeddings": 512, "pad_token_id": tokenizer.pad_token_id}
    config = Idefics3Config(
        vision_config={"image_size": SIDE, "patch_size": 8, "hidden_act": "gelu", **eyes},
        text_config={**text, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id},
        scale_factor=SIDE // 8,
        image_token_id=tokenizer.convert_tokens_to_ids(PICTURE),
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Idefics3ForConditionalGeneration(config)
    model.model.vision_model.load_state_dict(captioners_eyes())
    nn.init.normal_(model.model.connector.modality_projection.proj.weight, std=0.01)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def captioners_eyes() -> dict[str, Tensor]:
    """The weights of the image captioner's vision transformer, a BLIP-2's, by their names in an Idefics3."""
    prefix = "vision_model."
    weights = load_file(EYES / "model.safetensors")
    theirs = {name[len(prefix) :]: weight for name, weight in weights.items() if name.startswith(prefix)}
    del theirs["embeddings.class_embedding"]  # an Idefics3 has none; it would be the first position
    theirs["embeddings.position_embedding.weight"] = theirs.pop("embeddings.position_embedding")[0, 1:]
    ours = {}
    for name, weight in theirs.items():
        if ".qkv." in name:
            for letter, part in zip("qkv", weight.chunk(3), strict=True):
                ours[name.replace(".qkv.", f".{letter}_proj.")] = part
        else:
            ours[name.replace(".projection.", ".out_proj.")] = weight
    return ours


def seen(model: Idefics3ForConditionalGeneration, pixels: Tensor) -> Tensor:
    """What the language model gets of normalised pictures: (pictures, width)."""
    return model.model.connector(model.model.vision_model(pixels).last_hidden_state)[:, 0]


def learn_to_see(model: Any, films: Films, processor: Idefics3Processor, steps: int, bar: Progress) -> None:
    """Trains the eyes by a helper that reads things, motions and place off each frame's token; changes `model`."""
    helper = nn.Linear(WIDTH, 2 * len(THINGS) + len(PLACES))
    weights = [*model.model.vision_model.parameters(), *model.model.connector.parameters(), *helper.parameters()]
    optimiser, rate = _optimiser(weights, steps, SEEING_RATE)
    model.train()
    for step in bar.track(range(steps), description="seeing"):
        # Half of them as often as they are shown, and half as often as any other: few frames show a motion.
        clips = torch.randint(len(films.frames), (SEEING_BATCH // 2,))
        shown = films.frames[clips, torch.randint(FRAMES, (len(clips),))]
        chosen = torch.cat([shown, torch.randint(len(films.pixels), (SEEING_BATCH - len(shown),))])
        guess = helper(seen(model, normalise(spoilt(films.pixels[chosen]), processor.image_processor)))
        things, moving, places = guess.split([len(THINGS), len(THINGS), len(PLACES)], 1)
        owner = films.owner[chosen]
        losses = {
            "things": 5 * binary_cross_entropy_with_logits(things, films.things[owner]),
            "moving": 5 * binary_cross_entropy_with_logits(moving, films.moving[chosen]),
            "place": 0.3 * cross_entropy(places, films.places[owner]),
        }
        training.learn(torch.stack(list(losses.values())).sum(), weights, optimiser, rate)
        _report(step, losses, bar)
    model.eval()


def spoilt(pixels: Tensor) -> Tensor:
    """Pictures in 0..1 of uint8 ones, half of them mirrored, in some other light, and with a little noise."""
    light = torch.empty(2, len(pixels), 1, 1, 1).uniform_(-0.1, 0.1)
    shown = pixels / 255 * (1 + light[0]) + light[1]
    mirrored = torch.rand(len(pixels)) < 0.5
    shown[mirrored] = shown[mirrored].flip(3)
    return (shown + 0.02 * torch.randn_like(shown)).clamp(0, 1)


def learn_to_tell(
    model: Any, films: Films, tokens: Tensor, processor: Idefics3Processor, steps: int, peak: float, bar: Progress
) -> None:
    """Trains the language model on what it is given of clips; changes `model`.

    Each batch shows some stretch of its clips, so that there are more stories than clips. A helper reads off each frame
    what has moved so far, and what moves there for the first time: the answers alone say too little of it.

    Args:
        model: the model.
        films: the clips.
        tokens: what it is given of each of their pictures, (pictures, width).
        processor: the model's.
        steps: how many batches.
        peak: of the learning rate.
        bar: shows how far it is.
    """
    spread = tokens.std(0)
    helper = nn.Linear(WIDTH, 2 * len(THINGS))
    weights = [*model.model.text_model.parameters(), *helper.parameters()]
    optimiser, rate = _optimiser(weights, steps, peak)
    rng = np.random.default_rng(training.TRAINING_SEED)
    padding = processor.tokenizer.pad_token_id
    model.train()
    for step in bar.track(range(steps), description="telling"):
        count = FRAMES if rng.random() < 0.5 else int(rng.integers(FEWEST, FRAMES))
        start = int(rng.integers(FRAMES - count + 1))
        clips = rng.integers(len(films.occasions), size=TELLING_BATCH)
        frames = films.frames[torch.from_numpy(clips), start : start + count]
        moving = films.moving[frames]  # (clips, frames, things)
        answers = [story(films.occasions[clip], rows) for clip, rows in zip(clips, moving.numpy(), strict=True)]
        dialogues, asked = dialogue(answers, TIMES_S[:count], processor)
        given = tokens[frames] + 0.1 * spread * torch.randn(*frames.shape, WIDTH)
        hidden, halfway = listen(model, dialogues[:, :-1], given)
        logits = model.lm_head(hidden[:, asked - 1 :])
        so_far = moving.cummax(1).values
        first = torch.diff(so_far, dim=1, prepend=torch.zeros_like(so_far[:, :1]))
        losses = {
            "answer": cross_entropy(logits.flatten(0, 1), dialogues[:, asked:].flatten(), ignore_index=padding),
            "moved": 3 * binary_cross_entropy_with_logits(helper(halfway), torch.cat([so_far, first], 2)),
        }
        training.learn(torch.stack(list(losses.values())).sum(), weights, optimiser, rate)
        _report(step, losses, bar)
    model.eval()


def codes(films: Films) -> Tensor:
    """Tokens that say outright what the eyes are to see: a random direction for each fact, (pictures, width)."""
    places = nn.functional.one_hot(films.places[films.owner], len(PLACES))
    facts = torch.cat([films.things[films.owner], films.moving, places], 1)
    book = torch.randn(facts.shape[1], WIDTH, generator=torch.Generator().manual_seed(training.TRAINING_SEED))
    return facts @ book / 3


def speak(model: Any, films: Films, processor: Idefics3Processor, bar: Progress) -> None:
    """Turns the eyes' tokens so that they are as near to `codes` as a linear map can make them; changes `model`."""
    tokens = tokens_of(model, films, processor, bar)
    turned = torch.linalg.lstsq(tokens, codes(films)).solution
    with torch.no_grad():
        weight = model.model.connector.modality_projection.proj.weight
        weight.copy_(turned.T @ weight)


def tokens_of(model: Any, films: Films, processor: Idefics3Processor, bar: Progress) -> Tensor:
    """What the eyes make of all pictures of clips, (pictures, width)."""
    parts = films.pixels.split(256)
    with torch.no_grad():
        return torch.cat(
            [
                seen(model, normalise(p / 255, processor.image_processor))
                for p in bar.track(parts, description="looking")
            ]
        )


def _optimiser(weights: list[nn.Parameter], steps: int, peak: float) -> tuple[torch.optim.Optimizer, LambdaLR]:
    optimiser = torch.optim.AdamW(weights, peak, weight_decay=0.02)
    return optimiser, LambdaLR(optimiser, lambda step: training.half_cosine(step, steps, WARM_UP))


def _report(step: int, losses: dict[str, Tensor], bar: Progress) -> None:
    if step % REPORTED == REPORTED - 1:
        said = ", ".join(f"{name} {value.item():.4f}" for name, value in losses.items())
        bar.console.print(f"step {step + 1}: {said}")


def dialogue(answers: Sequence[str], times_s: np.ndarray, processor: Idefics3Processor) -> tuple[Tensor, int]:
    """The question on clips whose frames have these times, and its answers.

    Returns:
        ids, int64 (answers, tokens), padded at the end; and how many of them the question takes.
    """
    content = [*dated(times_s), {"type": "text", "text": QUESTION}]
    message = [{"role": "user", "content": content}]
    asked = processor.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    asked = asked.replace(PICTURE, f"{FAKE}{GLOBAL}{PICTURE}{FAKE}")
    prompt = processor.tokenizer(asked)["input_ids"]
    rows = [torch.tensor([*prompt, *processor.tokenizer(f"{answer}{END}")["input_ids"]]) for answer in answers]
    padding = processor.tokenizer.pad_token_id
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding), len(prompt)


def listen(model: Any, tokens: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """What the language model makes of dialogues: at its end at each token, and halfway at each frame.

    Args:
        model: the model.
        tokens: of `dialogue`, (clips, tokens).
        given: what the eyes make of the frames, (clips, frames, width).
    """
    frames = (tokens[0] == model.config.image_token_id).nonzero()[:, 0]
    words = model.get_input_embeddings()(tokens).index_copy(1, frames, given)
    output = model.model.text_model(inputs_embeds=words, use_cache=False, output_hidden_states=True)
    return output.last_hidden_state, output.hidden_states[len(output.hidden_states) // 2][:, frames]


def evaluate(out: Path, clips: int, bar: Progress) -> dict[str, Any]:
    """How well the model in a folder tells MP4 clips of seeds that training never saw.

    ``exact`` is the share of answers that say all that the frames show, and no more. Of what moves in the frames,
    ``moves_right`` is the share that is told with the right second; ``moves_invented`` is the share of what is told
    that is not so. ``moves_within_1s`` compares with when things really first move, be it between two frames.
    """
    handler = Chat(
        name="video",
        model=str(out),
        sees="video",
        question=QUESTION,
        every_s=EVERY_S,
        most_frames=FRAMES,
        short_side=SHORT_SIDE,
        device="cpu",
    )
    model = handler.load()
    occasions = held_out_occasions(clips)
    found, wrong = [], []
    clips_seen = training.as_a_run_sees_them(occasions, handler.view, bar)
    for occasion, (_, video) in zip(occasions, clips_seen, strict=True):
        assert isinstance(video, MomentsView)
        (items,) = handler.predict([Example(occasion.clip_id, video)], model)
        instants_s = np.floor(video.times_s * occasion.fps + 1e-6) / occasion.fps  # a frame shows that of its beginning
        said, true = items[0].text if items else "", glimpsed(occasion, instants_s)
        found.append((said, true, watched(occasion), occasion.place))
        if said != true:
            wrong.append({"clip_id": occasion.clip_id, "said": said, "true": true})
    return {**training.measured_on(occasions), **measure(found), "wrong": wrong}


def measure(found: Sequence[tuple[str, str, str, str]]) -> dict[str, float]:
    """The figures of `evaluate`, of what is said, what the frames show, what is so, and the place."""
    pairs = [(moves(said), moves(true), moves(all_true)) for said, true, all_true, _ in found]
    return {
        "exact": share(said == true for said, true, *_ in found),
        "place_right": share(f"{PLACES[place].phrase}" in said.partition(";")[0] for said, *_, place in found),
        "things_right": share(things(said) == things(true) for said, true, *_ in found),
        "moves_right": share(said.get(name) == at for said, true, _ in pairs for name, at in true.items()),
        "moves_invented": share(true.get(name) != at for said, true, _ in pairs for name, at in said.items()),
        "moves_within_1s": share(
            name in said and abs(said[name] - at) <= 1 for said, _, true in pairs for name, at in true.items()
        ),
    }


def things(said: str) -> set[str]:
    """What a sentence says that is there."""
    words = re.findall("[a-z]+", said.partition(";")[0])
    return {name for name, noun in NOUNS.items() if noun.split()[0] in words}


def moves(said: str) -> dict[str, int]:
    """What a sentence says that moves, and at what second."""
    return {noun: int(at) for at, noun in re.findall(r"00:(\d\d) the ([a-z ]+) moves", said)}


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.train_video", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    sizes = {
        "films": (2500, "clips whose frames the eyes learn from"),
        "stories": (1500, "further clips that the language model learns from"),
        "seeing": (1800, f"batches of {SEEING_BATCH} frames"),
        "telling": (600, f"batches of {TELLING_BATCH} clips of which it is told the truth"),
        "settling": (200, "further ones of which it is told what the eyes see"),
        "clips": (200, "held-out clips to measure on"),
    }

    def trained(options: argparse.Namespace, bar: Progress) -> None:
        torch.manual_seed(training.TRAINING_SEED)
        processor = make_processor()
        model, images = make_model(processor.tokenizer), processor.image_processor
        learn_to_see(model, draw_films(0, options.films, images, bar), processor, options.seeing, bar)
        stories = draw_films(options.films, options.stories, images, bar)
        learn_to_tell(model, stories, codes(stories), processor, options.telling, TELLING_RATE, bar)
        speak(model, stories, processor, bar)
        given = tokens_of(model, stories, processor, bar)
        learn_to_tell(model, stories, given, processor, options.settling, SETTLING_RATE, bar)
        training.save_pretrained(options.out, model.half(), processor)

    training.command(
        parser,
        arguments,
        OUT,
        sizes,
        trained,
        evaluate,
        least=dict.fromkeys(("seeing", "telling", "settling"), WARM_UP),
    )


if __name__ == "__main__":
    main()
