"""A domain of one's own whose inputs are texts: a vocabulary that training learns, and examples that are padded."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from quickstudy import DataModule, Predictor, Task, Trainer
from quickstudy.batches import Batch
from quickstudy.data.identity import identities, shared
from quickstudy.data.sources import listed_table
from quickstudy.data.stages import Stage, door
from quickstudy.data.table import Inputs, Table
from quickstudy.errors import ConfigError, DataError, DataWarning
from quickstudy.modality import MODALITIES, Modality, Wire

CLASSES, EACH = 12, 8


@MODALITIES.register("words")
@dataclass(frozen=True)
class Words(Modality):
    """Texts as the places of their words in a vocabulary; 1 for others, and 0 beyond their end."""

    called = "texts"
    in_cells = True
    learned = ("vocabulary",)
    wire = Wire("texts", ("text/plain",), {"type": "string"})
    longest: int = 8
    vocabulary: tuple[str, ...] = ()

    def fitted(self, inputs: Inputs) -> Self:
        if self.vocabulary:
            return self
        words = {word for row in range(len(inputs)) for word in inputs[row].split()}
        return self.with_options({"vocabulary": sorted(words)})

    def listed(self, inputs: Any) -> list[str]:
        return [inputs] if isinstance(inputs, str) else list(inputs)

    def load(self, item: Any) -> dict[str, Tensor]:
        places = {word: place for place, word in enumerate(self.vocabulary, 2)}
        ids = torch.tensor([places.get(word, 1) for word in item.split()[: self.longest]])
        if not len(ids):
            raise DataError(f"{item!r} has no word")
        return {"ids": ids, "mask": torch.ones(len(ids), dtype=torch.bool)}

    def free_axes(self) -> dict[str, dict[int, str]]:
        return {"ids": {1: "L"}, "mask": {1: "L"}}


class TextData(DataModule):
    """Texts with labels."""

    modality = Words()

    @door
    def from_lists(cls, stage: Stage, texts: Any, targets: Any) -> Table:
        """Take texts from memory, with one target each."""
        return listed_table(cls.modality.listed(texts), targets, list, skip=stage.skip)


class TextClassifier(Task):
    """Classifies texts."""

    modality = Words()


class Mean(nn.Module):
    """The mean of the embeddings of a text's words."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(200, 16)

    def forward(self, batch: Batch) -> Tensor:
        mask = batch["mask"][..., None].to(self.embed.weight.dtype)
        mean: Tensor = (self.embed(batch["ids"]) * mask).sum(1) / mask.sum(1)
        return mean


def texts(code: int) -> list[str]:
    """Return texts of 2 to 8 words, most of them the class's own three, the last in no other text."""
    generator = np.random.default_rng(code)
    own = [f"w{code}{letter}" for letter in "abc"]
    return [
        " ".join([*generator.choice([*own, "the"], generator.integers(1, 8)), f"n{code}of{row}"]) for row in range(EACH)
    ]


def rows(codes: range) -> dict[str, list[str]]:
    return {
        "text": [text for code in codes for text in texts(code)],
        "kind": [f"c{code}" for code in codes for _ in range(EACH)],
    }


def trainer(**options: Any) -> Trainer:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(accelerator="cpu", **quiet, **options)


def words_of(*codes: int) -> tuple[str, ...]:
    return tuple(sorted({word for code in codes for text in texts(code) for word in text.split()}))


def test_a_column_is_the_texts_and_a_checkpoint_keeps_their_vocabulary(tmp_path: Path) -> None:
    for name, codes in (("train", range(6)), ("test", range(6))):
        own = rows(codes)
        with (tmp_path / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "kind"), *zip(own["text"], own["kind"], strict=True)])
    data = TextData.from_csv("text", "kind", train_file=tmp_path / "train.csv", batch_size=8, longest=5)
    torch.manual_seed(0)
    model, running = TextClassifier(backbone=Mean(), learning_rate=0.05), trainer(max_epochs=6)
    running.fit(model, datamodule=data)
    assert data.modality == Words(5, words_of(*range(6)))
    assert model.load_options == {"longest": 5, "vocabulary": words_of(*range(6))}
    running.save_checkpoint(tmp_path / "model.ckpt")
    restored = TextClassifier.load_from_checkpoint(tmp_path / "model.ckpt", backbone=Mean())
    assert restored.load_options == model.load_options
    new = TextData.from_data_frame("text", predict_data_frame=pd.DataFrame(rows(range(6))).iloc[::-1])
    answers = trainer().predict(restored, datamodule=new)
    assert new.modality == data.modality
    right = [answer == name for answer, name in zip(answers, rows(range(6))["kind"][::-1], strict=True)]
    assert sum(right) > 0.9 * len(right)
    longer = TextData.from_data_frame("text", predict_data_frame=pd.DataFrame(rows(range(6))), longest=7)
    with pytest.warns(DataWarning, match=r"loaded with \{'longest': 5\}, and this has \{'longest': 7\}"):
        trainer().predict(restored, datamodule=longer)
    assert longer.modality == Words(7, words_of(*range(6)))
    assert restored.load_options == model.load_options, "what it is asked about changes nothing of how it reads"


def test_tensors_are_fed_to_any_model_as_they_are() -> None:
    torch.manual_seed(0)
    model = Task(backbone=nn.Flatten(), learning_rate=0.1)
    model.load_options = {"image_size": 8}  # of data that was read from files
    data = DataModule.from_tensors(test_data=torch.rand(4, 3), test_targets=["a", "b"] * 2)
    model.meet(data, "test")
    assert data.load_options == {}
    assert model.load_options == {"image_size": 8}


@pytest.mark.parametrize("by_class", [False, True], ids=["supervised", "few-shot"])
def test_what_is_learned_is_learned_from_training_inputs_alone(by_class: bool) -> None:
    data = TextData(Table.build(*rows(range(CLASSES)).values()), val_split=0.25, test_split=0.25)
    options = {"ways": 2, "shots": 1, "queries": 1, "meta_batch_size": 1, "epoch_length": 1, "test_epoch_length": 1}
    strategy = {"training_strategy": "prototypicalnetworks", "training_strategy_kwargs": options} if by_class else {}
    model = TextClassifier(backbone=Mean(), **strategy)
    trainer(fast_dev_run=True).fit(model, datamodule=data)
    train = data.table("train", by_class=by_class)
    assert train is not None
    words = {word for row in range(len(train)) for word in train.inputs[row].split()}
    assert set(data.modality.settings["vocabulary"]) == words
    if by_class:
        held_out = {word for code in range(CLASSES) if f"c{code}" not in train.classes for word in words_of(code)}
        assert held_out - {"the"}
        assert not (held_out - {"the"}) & words
    # The same data for another way of dividing it learns anew; a model that is trained goes on with what it knows.
    other = {} if by_class else {"training_strategy": "prototypicalnetworks", "training_strategy_kwargs": options}
    trainer(fast_dev_run=True).fit(TextClassifier(backbone=Mean(), **other), datamodule=data)
    assert set(data.modality.settings["vocabulary"]) != words
    trainer(fast_dev_run=True).fit(model, datamodule=data)
    assert set(model.load_options["vocabulary"]) == set(data.modality.settings["vocabulary"]) == words


def test_what_it_learned_goes_with_a_model_that_learns_further_classes(tmp_path: Path) -> None:
    data = TextData.from_lists(*rows(range(CLASSES)).values(), batch_size=16)
    torch.manual_seed(0)
    model = TextClassifier(backbone=Mean(), learning_rate=0.05)
    trainer(max_epochs=1).fit(model, datamodule=data)
    predictor = model.adapt(*rows(range(3)).values())
    predictor.add_class("c3", texts(3))
    asked = [text for code in range(4) for text in texts(code)]
    predictor.save(tmp_path)
    again = Predictor.load(tmp_path, backbone=Mean())
    assert again.get_params()["load"] == data.modality
    assert (again.predict_proba(asked) == predictor.predict_proba(asked)).all()
    assert predictor.predict("the w3a w3b", may_be_unknown=False) == ["c3"]


def test_a_missing_text_and_one_without_words_are_told_or_left_out() -> None:
    own = rows(range(2))
    frame = pd.DataFrame({**own, "text": ["", *own["text"][1:-1], "  "]})
    with pytest.raises(DataError, match=r"nothing in 2 rows: 0, 15.*inputs: column 'text'"):
        list(TextData.from_data_frame("text", "kind", train_data_frame=frame).train_dataloader())
    with pytest.warns(DataWarning, match="left out 2 rows: 0, 15"):
        data = TextData.from_data_frame("text", "kind", train_data_frame=frame, on_error="skip")
    assert len(data.table("train") or ()) == 2 * EACH - 2
    bad = TextData(Table.build(["one word", " ", "one"], ["a", "b", "b"]), on_error="skip")
    with pytest.warns(DataWarning, match="' ' has no word"):
        bad.train_dataloader()
    assert bad.modality == Words(vocabulary=("one", "word"))


def test_options_are_the_modality_s() -> None:
    table = Table.build(*rows(range(2)).values())
    assert TextData(table, longest=3).load_options == {"longest": 3}
    with pytest.raises(ConfigError, match="unknown data option 'longst'; did you mean 'longest'"):
        TextData(table, longst=3)


def test_examples_that_a_model_learned_from_are_found_among_texts_and_rows() -> None:
    train, test = ["a text", "another", "x" * 5000], ["another", "a third", "x" * 5000]
    assert shared(identities(train), identities(test)) == 2
    some, more = [{"city": "Bern", "rooms": 3}, {"city": "Basel", "rooms": 4}], [{"rooms": 3, "city": "Bern"}]
    assert shared(identities(more), identities(some)) == 1
    tree = {"ids": torch.arange(6).view(3, 2), "mask": torch.ones(3, 2)}
    part = {name: leaf[[2, 0]] for name, leaf in tree.items()}
    assert shared(identities(part), identities(tree)) == 2
