"""Sequences: entities in texts, and answers to questions, by an encoder of English sentences; dates, and what is said.

python benchmarks/sequences.py --root data

What speech is trained with was chosen on a tenth of the training recordings, and what dates are on others than those
of training and test; all else was set before it was run.
Each trained figure stands beside one that learns little: the names that training had, the passage that has most words
in common with the question, the date of the training text that is the most alike.
"""

from __future__ import annotations

import datetime
import io
import random
import re
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from babel.dates import format_date
from domains import InTurns, main
from embeddings import QUIET
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from quickstudy import DataModule, Trainer
from quickstudy.audio import SpeechRecognition, SpeechRecognitionData
from quickstudy.batches import fold, stack
from quickstudy.functional.intervals import mean_interval, proportion_interval
from quickstudy.functional.quotations import agreement
from quickstudy.kinds.entities import entities_of, in_iob2
from quickstudy.kinds.metrics import Found
from quickstudy.nets.transformers_bridge import TransformersEncoder
from quickstudy.text import (
    QuestionAnswering,
    QuestionAnsweringData,
    TextClassificationData,
    TextClassifier,
    TokenClassificationData,
    TokenClassifier,
    Translation,
    TranslationData,
)
from quickstudy.text.conll import conll_texts
from quickstudy.text.elements import given_spans
from quickstudy.text.squad import squad_questions
from quickstudy.text.words import PLAIN, signs_of, word_spans

BACKBONE, BATCH, LENGTH = "minilm", 8, 256
RATE, OUT = 8_000, "lucas"
LOCALES, FORMATS = ("en", "de", "fr", "es"), ("full", "long", "medium")
DATES, UNSEEN, DATES_AT_ONCE = 44_800, 500, 64
OF_DATES: dict[str, Any] = {"dropout": 0.0}
DATES_RATE = 4e-3
Recording = tuple[str, str, Any]
"""A speaker, a digit, and samples."""
_WORD = re.compile(r"\w+|[^\w\s]")


def schedule(steps: int, rate: float) -> dict[str, Any]:
    """Return the options of an optimizer whose rate rises and falls once, in so many steps."""
    options = {"max_lr": rate, "total_steps": steps, "pct_start": 0.1, "interval": "step"}
    return {
        "optimizer": ("AdamW", {"weight_decay": 1e-2}),
        "learning_rate": rate / 25,
        "lr_scheduler": ("OneCycleLR", options),
    }


def trained(model: Any, data: DataModule, epochs: int) -> float:
    """Train a model, and return the seconds of a processor that it took."""
    began = time.process_time()
    Trainer(max_epochs=epochs, **QUIET).finetune(model, datamodule=data, strategy="no_freeze")
    return round(time.process_time() - began, 1)


def tested(model: Any, data: DataModule) -> dict[str, float]:
    """Return the figures of a test, in percent."""
    (found,) = Trainer(**QUIET).test(model, datamodule=data, verbose=False)
    told = {name.removeprefix("test_"): round(100 * float(value), 2) for name, value in found.items()}
    return {name: value for name, value in told.items() if name not in ("loss", "examples")}


# ---- entities


def known_names(words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> Any:
    """Return what tags words by the names that training had, the longest first, each by its commonest class."""
    counts: dict[tuple[str, ...], Counter[str]] = {}
    for text, own in zip(words, tags, strict=True):
        for span in entities_of(in_iob2(own)):
            name = tuple(word.lower() for word in text[span.start : span.end])
            counts.setdefault(name, Counter())[span.label] += 1
    labels = {name: told.most_common(1)[0][0] for name, told in counts.items()}
    longest = max(map(len, labels))

    def tagged(text: Sequence[str]) -> list[str]:
        found, place = ["O"] * len(text), 0
        while place < len(text):
            for length in range(min(longest, len(text) - place), 0, -1):
                label = labels.get(tuple(word.lower() for word in text[place : place + length]))
                if label is not None:
                    found[place : place + length] = [f"B-{label}", *[f"I-{label}"] * (length - 1)]
                    place += length - 1
                    break
            place += 1
        return found

    return tagged


def f1_of(told: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the F1 of entities in percent, with its interval over texts."""
    return f1_of_spans(*([set(entities_of(in_iob2(own))) for own in tags] for tags in (told, true)))


def f1_of_spans(told: Sequence[set[Any]], true: Sequence[set[Any]]) -> dict[str, float]:
    """Return the same of spans."""
    figures = [[len(own & right), len(own), len(right)] for own, right in zip(told, true, strict=True)]
    measure = Found(["all"])
    measure.update(torch.tensor(figures).float())
    estimate = measure.estimates()["f1"]
    return {"f1": round(100 * estimate.mean, 2), "f1_ci95": round(100 * estimate.ci95, 2)}


def entities(root: Path) -> dict[str, Any]:
    """Find entities of WNUT17: from 2,000 sentences by a probe on frozen states, and by training on all."""
    files = {stage: root / "text" / f"wnut17_{stage}.conll.gz" for stage in ("train", "val", "test")}
    words, tags = conll_texts(files["train"])
    asked, truth = conll_texts(files["test"])
    assert tags is not None and truth is not None
    baseline = known_names(words, tags)
    torch.manual_seed(0)
    began = time.process_time()
    probe = TokenClassifier(backbone=BACKBONE).adapt(words[:2000], tags[:2000])
    learned = round(time.process_time() - began, 1)
    found = probe.predict(asked, "labels")
    data = TokenClassificationData.from_conll(train_file=files["train"], test_file=files["test"], batch_size=32)
    epochs = 5
    torch.manual_seed(0)
    steps = epochs * -(-len(words) // 32)
    model = TokenClassifier(backbone=BACKBONE, **schedule(steps, 2e-4))
    seconds = trained(model, data, epochs)
    return {
        "linear probe, 2,000 sentences, frozen": {**f1_of(found, truth), "cpu_seconds": learned},
        "trained on all": {**tested(model, data), "train_cpu_seconds": seconds},
        "names of training alone": f1_of([baseline(text) for text in asked], truth),
    }


def words(root: Path) -> dict[str, Any]:
    """Ask who has learned lists of words in plain text, and part lists that were joined by blanks again."""
    texts, tags = conll_texts(root / "text" / "wnut17_train.conll.gz")
    asked, truth = conll_texts(root / "text" / "wnut17_test.conll.gz")
    assert tags is not None and truth is not None
    joined, signs = [" ".join(text) for text in asked], signs_of(texts)
    shares = {}
    for name, known in (("learned of training", signs), ("by signs alone", PLAIN)):
        parted = [[text[start:end] for start, end in word_spans(text, known)] for text in joined]
        shares[f"texts parted again as they were, {name}"] = round(
            100 * float(np.mean([own == text for own, text in zip(parted, asked, strict=True)])), 2
        )
    true = []
    for text, own in zip(asked, truth, strict=True):
        places = given_spans(text)
        spans = entities_of(in_iob2(own))
        true.append({(places[span.start][0], places[span.end - 1][1], span.label) for span in spans})
    torch.manual_seed(0)
    probe = TokenClassifier(backbone=BACKBONE).adapt(texts[:2000], tags[:2000])
    f1 = {
        name: f1_of_spans([{(one["start"], one["end"], one["label"]) for one in own} for own in found], true)
        for name, found in (("lists of words", probe.predict(asked)), ("plain text", probe.predict(joined)))
    }
    return {**shares, "linear probe, 2,000 sentences": f1}


# ---- answers


def articles(root: Path) -> tuple[DataModule, list[dict[str, str]], list[Any]]:
    """Return questions on articles to learn from and on others, and the latter with their answers."""
    questions, answers = squad_questions(root / "text" / "xquad_en.json.gz")
    data = QuestionAnsweringData.from_lists(
        train_questions=questions[:826],
        train_answers=answers[:826],
        test_questions=questions[826:],
        test_answers=answers[826:],
        batch_size=BATCH,
        max_length=LENGTH,
    )
    return data, questions[826:], answers[826:]


def agreed(told: Sequence[str], answers: Sequence[Any]) -> dict[str, float]:
    """Return F1 and exact match of answers in percent, with their intervals over questions."""
    figures = torch.tensor(
        [agreement(own, [one["text"] for one in true]) for own, true in zip(told, answers, strict=True)]
    )
    found = {}
    for name, column in zip(("exact_match", "f1"), figures.unbind(1), strict=True):
        middle, half = mean_interval(column)
        found |= {name: round(100 * float(middle), 2), f"{name}_ci95": round(100 * float(half), 2)}
    return found


def in_common(question: dict[str, str], lengths: dict[str, float], width: int) -> str:
    """Return the passage of so many words that has the rarest words in common with its question."""
    asked = {word.lower() for word in _WORD.findall(question["question"])}
    places = [found.span() for found in _WORD.finditer(question["context"])]
    rare = [lengths.get(word.lower(), 0.0) * (word.lower() in asked) for word in _WORD.findall(question["context"])]
    around = np.convolve(rare, np.ones(21), "same")
    best = int(around.argmax())
    start, end = max(best - width // 2, 0), min(best + (width + 1) // 2, len(places)) - 1
    return question["context"][places[start][0] : places[end][1]]


def answers(root: Path) -> dict[str, Any]:
    """Answer the questions on the last 16 of XQuAD's 48 articles, by training on those on the others."""
    data, questions, truth = articles(root)
    contexts = list(dict.fromkeys(question["context"] for question in questions))
    counts = Counter(word.lower() for context in contexts for word in {*_WORD.findall(context)})
    rarity = {word: float(np.log(len(contexts) / count)) for word, count in counts.items()}
    torch.manual_seed(0)
    epochs = 5
    model = QuestionAnswering(backbone=BACKBONE, **schedule(epochs * -(-826 // BATCH), 3e-4))
    seconds = trained(model, data, epochs)
    return {
        "trained": {**tested(model, data), "train_cpu_seconds": seconds},
        "rarest words in common": agreed([in_common(one, rarity, 3) for one in questions], truth),
        "first words of the context": agreed([" ".join(one["context"].split()[:3]) for one in questions], truth),
    }


def step(root: Path) -> dict[str, Any]:
    """Time steps of training against a plain loop of transformers' own model, in turns, from texts in tokens."""
    import transformers

    data, *_ = articles(root)
    model = QuestionAnswering(backbone=BACKBONE)
    table = model.kind.fitting(data.table("train"))  # type: ignore[arg-type]
    annotations = table.annotations
    assert annotations is not None and isinstance(model.encoder.backbone, TransformersEncoder)
    config = model.encoder.backbone.network.config
    reads = data.modality.with_options({"tokenizer": model.encoder.backbone.reads["options"]["tokenizer"]})
    began = time.process_time()
    kept = [reads(table.inputs[row]) for row in range(128)]
    reading = (time.process_time() - began) / len(kept)
    ends = [annotations.target(row, example)["ends"] for row, example in enumerate(kept)]  # type: ignore[call-overload]

    def plain() -> Iterator[None]:
        twin = transformers.AutoModelForQuestionAnswering.from_config(config).train()
        optimizer = torch.optim.AdamW(twin.parameters(), lr=1e-4)
        while True:
            for rows in torch.randperm(len(kept)).split(BATCH):
                batch: Any = stack([{**kept[row], "ends": ends[row]} for row in rows.tolist()])
                windows, places = fold(batch["windows"]), fold(batch["ends"])
                there = windows["mask"].any(1)
                asked = {
                    "input_ids": windows["ids"][there],
                    "attention_mask": windows["mask"][there].long(),
                    "token_type_ids": windows["types"][there],
                    "start_positions": places[there, 0],
                    "end_positions": places[there, 1],
                }
                optimizer.zero_grad()
                twin(**asked).loss.backward()
                optimizer.step()
                yield

    ratios, ours = list[float](), list[float]()
    for seed in range(3):
        torch.manual_seed(seed)
        model = QuestionAnswering(backbone=BACKBONE, optimizer="AdamW", learning_rate=1e-4)
        turns = InTurns(plain())
        few = QuestionAnsweringData(data.table("train").select(np.arange(128)), batch_size=BATCH, max_length=LENGTH)  # type: ignore[union-attr]
        Trainer(max_epochs=1, callbacks=[turns], **QUIET).fit(model, datamodule=few)
        ratios.append(turns.ratio)
        ours.append(turns.step)
    middle, half = mean_interval(torch.tensor(ratios))
    return {
        "batch size": BATCH,
        "milliseconds of a step": round(1000 * float(np.median(ours)), 1),
        "time of quickstudy / plain transformers": {"mean": round(float(middle), 3), "ci95": round(float(half), 3)},
        "share of reading": round(BATCH * reading / float(np.median(ours)), 4),
    }


# ---- dates


def said(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Return different days of two centuries as four languages say them, by the CLDR, and as ISO 8601 does."""
    draw, first = random.Random(seed), datetime.date(1900, 1, 1)
    days = [first + datetime.timedelta(days=number) for number in draw.sample(range(200 * 365), count)]
    texts = [format_date(day, draw.choice(FORMATS), locale=draw.choice(LOCALES)) for day in days]
    return texts, [day.isoformat() for day in days]


def of_dates() -> TranslationData:
    """Return days to learn from and others to test on; those between chose the settings."""
    texts, targets = said(UNSEEN + DATES + UNSEEN, 0)
    return TranslationData.from_lists(
        train_texts=texts[UNSEEN:-UNSEEN],
        train_targets=targets[UNSEEN:-UNSEEN],
        test_texts=texts[:UNSEEN],
        test_targets=targets[:UNSEEN],
        batch_size=DATES_AT_ONCE,
        vocabulary_size=300,
    )


def plain_dates(data: TranslationData, model: Translation) -> dict[str, Any]:
    """Learn the same batches in a plain loop of transformers' own model, from other weights, and write by it."""
    import transformers

    torch.manual_seed(1)
    config = model.encoder.backbone.options["config"]
    twin = transformers.T5ForConditionalGeneration(transformers.T5Config(**config)).train()
    began = time.process_time()
    loader = data.batch_loader("train", kind=model.kind)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=DATES_RATE / 25, weight_decay=1e-2)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, DATES_RATE, total_steps=len(loader), pct_start=0.1)
    for batch in loader:
        optimizer.zero_grad()
        twin(**asked_of(batch["input"], batch["target"])).loss.backward()
        optimizer.step()
        rates.step()
    seconds = round(time.process_time() - began, 1)
    twin.eval()
    right = []
    for batch in data.batch_loader("test", kind=model.kind):
        inputs, targets = batch["input"], batch["target"]
        written = twin.generate(
            input_ids=inputs["ids"], attention_mask=inputs["mask"].long(), max_new_tokens=model.kind.longest
        )
        whole = torch.nn.functional.pad(written[:, 1:], (0, model.kind.longest))[:, : targets["tokens"].shape[1]]
        right += ((whole == targets["tokens"]) | ~targets["mask"]).all(1).tolist()
    rate, half = proportion_interval(sum(right), len(right))
    figures = {"exact_match": round(100 * rate, 2), "exact_match_ci95": round(100 * half, 2)}
    return {**figures, "train_cpu_seconds": seconds}


def asked_of(inputs: Any, targets: Any) -> dict[str, Any]:
    """Return a batch as transformers takes it."""
    labels = targets["tokens"].masked_fill(~targets["mask"], -100)
    return {"input_ids": inputs["ids"], "attention_mask": inputs["mask"].long(), "labels": labels}


def dates(root: Path) -> dict[str, Any]:
    """Learn to write dates in four languages as ISO 8601, from nothing, and test on days that were not seen."""
    data = of_dates()
    torch.manual_seed(0)
    model = Translation(backbone_kwargs=OF_DATES, **schedule(DATES // DATES_AT_ONCE, DATES_RATE))
    seconds = trained(model, data, 1)
    train, test = data.table("train"), data.table("test")
    assert train is not None and test is not None
    iso = [said(UNSEEN + DATES + UNSEEN, 0)[1][part] for part in (slice(UNSEEN, -UNSEEN), slice(UNSEEN))]
    alike = Levenshtein.normalized_similarity
    nearest = [process.extractOne(text, train.inputs, scorer=alike)[2] for text in test.inputs]
    right = sum(iso[0][row] == true for row, true in zip(nearest, iso[1], strict=True))
    rate, half = proportion_interval(right, UNSEEN)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trained": {**tested(model, data), "train_cpu_seconds": seconds},
        "plain transformers": plain_dates(data, model),
        "date of the most similar training text": {
            "exact_match": round(100 * rate, 2),
            "exact_match_ci95": round(100 * half, 2),
        },
    }


def dates_step(root: Path) -> dict[str, Any]:
    """Time steps of training on dates against a plain loop of transformers' own model, in turns, from tokens."""
    import transformers

    data = of_dates()
    few = TranslationData(data.table("train").select(np.arange(2048)), batch_size=DATES_AT_ONCE, vocabulary_size=300)
    model = Translation(backbone_kwargs=OF_DATES)
    model.meet(few, "fit")
    table = model.kind.fitting(few.table("train"))
    assert table.annotations is not None
    began = time.process_time()
    inputs = [few.modality(table.inputs[row]) for row in range(len(table))]
    targets = [table.annotations.target(row, example) for row, example in enumerate(inputs)]
    reading = (time.process_time() - began) / len(inputs)
    config = model.encoder.backbone.options["config"]

    def plain() -> Iterator[None]:
        twin = transformers.T5ForConditionalGeneration(transformers.T5Config(**config)).train()
        optimizer = torch.optim.AdamW(twin.parameters(), lr=1e-3)
        while True:
            for rows in torch.randperm(len(inputs)).split(DATES_AT_ONCE):
                batch = [stack([part[row] for row in rows.tolist()]) for part in (inputs, targets)]
                optimizer.zero_grad()
                twin(**asked_of(*batch)).loss.backward()
                optimizer.step()
                yield

    ratios, ours = list[float](), list[float]()
    for seed in range(6):
        torch.manual_seed(seed)
        model = Translation(backbone_kwargs=OF_DATES, optimizer="AdamW", learning_rate=1e-3)
        turns = InTurns(plain())
        Trainer(max_epochs=3, callbacks=[turns], **QUIET).fit(model, datamodule=few)
        ratios.append(turns.ratio)
        ours.append(turns.step)
    middle, half = mean_interval(torch.tensor(ratios))
    return {
        "batch size": DATES_AT_ONCE,
        "milliseconds of a step": round(1000 * float(np.median(ours)), 1),
        "time of quickstudy / plain transformers": {"mean": round(float(middle), 3), "ci95": round(float(half), 3)},
        "share of reading": round(DATES_AT_ONCE * reading / float(np.median(ours)), 4),
    }


# ---- steps of texts that are as long


def by_length(root: Path) -> dict[str, Any]:
    """Train on sentences of all lengths, in any order and such that those of a step are about as long."""
    questions, _ = squad_questions(root / "text" / "xquad_en.json.gz")
    contexts = dict.fromkeys(question["context"] for question in questions)
    sentences = [one for context in contexts for one in re.split(r"(?<=[.!?])\s+", context) if one.strip()]
    found: dict[str, Any] = {"sentences": len(sentences), "batch size": 16}
    for backbone in ("small_transformer", BACKBONE):
        seconds = dict[str, float]()
        for sampler in (None, "by_length"):
            data = TextClassificationData.from_lists(
                train_texts=sentences,
                train_targets=[str(row % 4) for row in range(len(sentences))],
                batch_size=16,
                max_length=LENGTH,
                sampler=sampler,
            )
            model = TextClassifier(backbone=backbone)
            model.meet(data, "fit")
            masks = [batch["mask"] for batch, _ in data.batch_loader("train", kind=model.kind)]
            filled = sum(int((~mask).sum()) for mask in masks) / sum(mask.numel() for mask in masks)
            seconds[sampler or "any order"] = trained(model, data, 1)
            found[f"padding, {sampler or 'any order'}, {backbone}"] = round(filled, 3)
        found[f"CPU seconds of an epoch, {backbone}"] = seconds
    return found


# ---- speech


def spoken(root: Path) -> dict[tuple[str, str, str], list[Any]]:
    """Return the samples of recordings of digits, by part, digit and speaker."""
    import soundfile

    found: dict[tuple[str, str, str], list[Any]] = {}
    with zipfile.ZipFile(root / "audio" / "spoken_digits_8khz.zip") as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".wav"):
                part, digit, file = name.split("/")
                samples, rate = soundfile.read(io.BytesIO(archive.read(name)), dtype="int16")
                assert rate == RATE
                found.setdefault((part, digit, file.split("_")[0]), []).append(samples)
    return found


def strings(recordings: Sequence[Recording], count: int, seed: int) -> tuple[list[Any], list[str]]:
    """Return one to five digits in a row, by one speaker, and what is said.

    Args:
        recordings: of speaker, digit and samples.
        count: of strings.
        seed: of what is drawn: speakers, digits, and up to a tenth of a second of silence between them.
    """
    draw = np.random.default_rng(seed)
    by_speaker: dict[str, list[tuple[str, Any]]] = {}
    for speaker, digit, samples in recordings:
        by_speaker.setdefault(speaker, []).append((digit, samples))
    sounds, said = list[Any](), list[str]()
    for _ in range(count):
        own = by_speaker[sorted(by_speaker)[draw.integers(len(by_speaker))]]
        chosen = [own[draw.integers(len(own))] for _ in range(draw.integers(1, 6))]
        parts = [part for _, samples in chosen for part in (np.zeros(draw.integers(RATE // 10), np.int16), samples)]
        sounds.append(np.concatenate(parts))
        said.append(" ".join(digit for digit, _ in chosen))
    return sounds, said


def heard(
    learned: Sequence[tuple[str, str, Any]], asked: Sequence[tuple[str, str, Any]], epochs: int
) -> dict[str, Any]:
    """Learn strings of some recordings from nothing, and transcribe those of others."""
    sounds, said = strings(learned, 3200, 0)
    others, truth = strings(asked, 300, 1)
    data = SpeechRecognitionData.from_arrays(
        sampling_rate=RATE,
        train_arrays=sounds,
        train_targets=said,
        test_arrays=others,
        test_targets=truth,
        batch_size=16,
        sample_rate=RATE,
    )
    torch.manual_seed(0)
    model = SpeechRecognition(closed=True, backbone_kwargs={"dropout": 0.0}, **schedule(epochs * 200, 4e-3))
    seconds = trained(model, data, epochs)
    words = Counter(word for text in said for word in text.split())
    common = words.most_common(1)[0][0]
    guesses = [" ".join([common] * 3)] * len(truth)
    measure = model.kind.measure(True)
    measure.update(
        torch.tensor(
            [[*edits(told, true), len(true.split()), len(true)] for told, true in zip(guesses, truth, strict=True)]
        )
    )
    return {
        **tested(model, data),
        "train_cpu_seconds": seconds,
        "the commonest digit three times": {
            name: round(100 * one.mean, 2) for name, one in measure.estimates().items()
        },
    }


def speech(root: Path, epochs: int = 4) -> dict[str, Any]:
    """Transcribe digits in a row: official test recordings, and those of a speaker who was left out."""
    recordings = spoken(root)
    of_part = {
        part: [
            (speaker, digit, one) for (own, digit, speaker), some in recordings.items() if own == part for one in some
        ]
        for part in ("train", "test")
    }
    of_all = [*of_part["train"], *of_part["test"]]
    return {
        "test recordings": heard(of_part["train"], of_part["test"], epochs),
        "speaker left out": heard(
            [one for one in of_all if one[0] != OUT], [one for one in of_all if one[0] == OUT], epochs
        ),
    }


def speech_longer(root: Path) -> dict[str, Any]:
    """Transcribe them after ten times as much training."""
    return speech(root, 40)


def edits(told: str, true: str) -> tuple[int, int]:
    """Return how many words and letters are wrong."""
    return Levenshtein.distance(told.split(), true.split()), Levenshtein.distance(told, true)


MEASUREMENTS = {
    "entities": entities,
    "words": words,
    "answers": answers,
    "step": step,
    "dates": dates,
    "dates_step": dates_step,
    "by_length": by_length,
    "speech": speech,
    "speech_longer": speech_longer,
}

if __name__ == "__main__":
    main("sequences", __doc__, MEASUREMENTS)
