"""Inputs that are no tensor of one shape: token ids and a mask, padded to the longest, through data and training."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from quickstudy import DataModule, Predictor, Task, Trainer
from quickstudy.algorithms import STRATEGIES
from quickstudy.batches import Batch, join, size, take
from quickstudy.data.samples import Samples
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, DataError, DataWarning
from quickstudy.learning.answering import answered
from quickstudy.modality import MODALITIES, Modality
from quickstudy.nets import Encoder
from quickstudy.saved import model_folder

WORDS, EACH = 40, 12


class Bag(nn.Module):
    """The mean of what a small network makes of each token, in which padding has no part."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 8)
        self.mix = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8))

    def forward(self, tokens: Batch) -> Tensor:
        mask = tokens["mask"][..., None].to(self.embed.weight.dtype)
        features: Tensor = (self.mix(self.embed(tokens["ids"])) * mask).sum(1) / mask.sum(1)
        return features


def read(text: str) -> dict[str, Any]:
    """Return the tokens of a text: letters by their place, and a mask."""
    ids = np.array([ord(letter) - 65 for letter in text])
    return {"ids": ids, "mask": np.ones(len(ids), np.bool_)}


class TokenData(DataModule):
    """Texts of letters."""

    load = staticmethod(read)


def texts(code: int) -> list[str]:
    """Return texts of 2 to 11 letters, of which a class has three that it likes best."""
    generator = np.random.default_rng(code)
    liked = (code + np.array([0, 11, 23])) % WORDS
    return [
        "".join(
            chr(65 + (generator.choice(liked) if generator.random() < 0.8 else generator.integers(WORDS)))
            for _ in range(length)
        )
        for length in generator.integers(2, 12, EACH)
    ]


def table(codes: range) -> Table:
    return Table.build(
        [text for code in codes for text in texts(code)], [f"c{code}" for code in codes for _ in range(EACH)]
    )


def data(**options: Any) -> TokenData:
    return TokenData(table(range(8)), val=table(range(8, 12)), test=table(range(12, 16)), **options)


def trainer(**options: Any) -> Trainer:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(accelerator="cpu", **quiet, **options)


PLAN = {"ways": 3, "shots": 2, "queries": 2, "meta_batch_size": 4, "epoch_length": 12, "test_epoch_length": 8}


def wider(text: str) -> dict[str, Any]:
    """Return the same with zeros behind that the mask leaves out."""
    return {name: np.pad(part, (0, 5)) for name, part in read(text).items()}


@pytest.mark.parametrize("strategy", ["default", "prototypicalnetworks", "anil", "maml", "reptile", "metaoptnet"])
def test_padding_has_no_part_in_training(strategy: str) -> None:
    weights, results = [], []
    for reading in (read, wider):
        torch.manual_seed(0)
        plan = {} if strategy == "default" else PLAN
        # Not Adam, which divides what rounding leaves of a gradient of zero by itself.
        options = {"optimizer": "SGD", "learning_rate": 1e-2}
        model = Task(backbone=Bag(), training_strategy=strategy, training_strategy_kwargs=plan, **options)
        running = trainer(max_epochs=1, precision="64-true")
        tested = table(range(8)) if strategy == "default" else table(range(12, 16))
        its = type("Data", (TokenData,), {"load": staticmethod(reading)})(table(range(8)), test=tested, batch_size=8)
        start = [parameter.detach().clone() for parameter in model.encoder.parameters()]
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", ".*trained on at least|.*learned from", DataWarning
            )  # of the ordinary one
            running.fit(model, datamodule=its)
            results.append(running.test(model, datamodule=its)[0])
        weights.append(list(model.encoder.parameters()))
        assert any((one - was).abs().max() > 1e-4 for one, was in zip(weights[-1], start, strict=True))
    assert max((one - other).abs().max().item() for one, other in zip(*weights, strict=True)) < 1e-10
    assert results[0]["test_accuracy"] == results[1]["test_accuracy"]


def test_neither_padding_nor_neighbours_change_an_embedding() -> None:
    torch.manual_seed(0)
    network = Bag().double()
    samples = Samples([*texts(0), *texts(1)], read)
    batch = samples.batch(np.arange(2 * EACH))
    together = network(batch)
    alone = torch.cat([network(samples.batch(np.array([row]))) for row in range(2 * EACH)])
    among = network(join([batch, {"ids": torch.zeros(1, 30, dtype=torch.long), "mask": torch.ones(1, 30)}]))[:-1]
    for other in (alone, among):
        assert (together - other).abs().max() < 1e-10


def test_a_transform_sees_each_example_as_it_was_read() -> None:
    seen: list[int] = []

    def reverse(example: Batch) -> Batch:
        seen.append(len(example["ids"]))
        return {"ids": example["ids"].flip(0), "mask": example["mask"]}

    samples = Samples(["ABC", "D"], read, transform=reverse)
    batch = samples.batch(np.array([0, 1]), [(0,), (1,)])
    assert seen == [3, 1]
    assert batch["ids"].tolist() == [[2, 1, 0], [3, 0, 0]]


@pytest.mark.parametrize("budget", [0, 1 << 20])
@pytest.mark.parametrize("rows", [[0, 1], [1, 0]])
def test_tensors_among_dicts_are_told(rows: list[int], budget: int) -> None:
    samples = Samples([torch.zeros(3), {"ids": torch.zeros(3)}], lambda item: item, budget=budget)
    with pytest.raises(DataError, match=r"input [01] and another differ in kind"):
        samples.batch(np.array(rows))


class Counting:
    """A ``read`` that notes in a file, which all processes write to, what it was called with."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def __call__(self, text: str) -> dict[str, Any]:
        with self.log.open("a") as file:
            file.write(f"{text}\n")
        return read(text)

    def calls(self) -> list[str]:
        return self.log.read_text().split()


MANY = [chr(65 + row // 26) * (1 + row % 7) + chr(65 + row % 26) for row in range(150)]
"""More than are tried for their size, each of its own."""


def test_dicts_are_decoded_once(tmp_path: Path) -> None:
    load = Counting(tmp_path / "log")
    samples, plain = Samples(MANY, load, budget=1 << 20), Samples(MANY, read)
    generator = np.random.default_rng(0)
    for _ in range(3):
        rows = generator.permutation(np.arange(len(MANY)))
        kept, again = samples.batch(rows), plain.batch(rows)
        assert all(torch.equal(kept[name], again[name]) and kept[name].dtype == again[name].dtype for name in again)
        kept["ids"].zero_()  # a batch is a copy
    assert sorted(load.calls()) == sorted(MANY)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_what_of_dicts_does_not_fit_is_read_each_time(share: float, tmp_path: Path) -> None:
    load = Counting(tmp_path / "log")
    index = 8 * (3 * len(MANY) + 1)  # where each begins, and how long its two parts are
    budget = index + int(share * sum(16 * -(-8 * len(text) // 16) + 16 for text in MANY))
    samples, rows = Samples(MANY, load, budget=budget), np.arange(len(MANY))
    assert samples.cached_bytes == (budget if share else 0)
    for _ in range(2):
        assert torch.equal(samples.batch(rows)["ids"], Samples(MANY, read).batch(rows)["ids"])
    calls = load.calls()
    kept = sum(calls.count(text) == 1 for text in MANY)
    assert kept == 0 if not share else 0.3 < kept / len(MANY) < 0.5
    assert kept + 2 * (len(MANY) - kept) <= len(calls) <= kept + 3 * (len(MANY) - kept)  # once more to be tried


@pytest.mark.parametrize("longest", [1, 5, 600])
def test_kept_dicts_are_gathered_at_once(longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(row: int) -> dict[str, Any]:
        length = row % longest
        numbers = torch.arange(1 + length, dtype=torch.float64) * row
        none, square = torch.empty(0, 2), torch.ones(1 + length % 7, 1 + length // 7 % 7, dtype=torch.int32) * row
        return {
            "numbers": numbers,
            "missing": numbers > 4,
            "short": numbers.bfloat16(),
            "none": none,
            "pairs": numbers[:length, None].expand(-1, 2),
            "square": square,
            "code": torch.tensor(row),
        }

    samples, plain = Samples(list(range(200)), load, budget=1 << 24), Samples(list(range(200)), load)
    samples.batch(np.random.default_rng(1).permutation(200))
    rows = np.random.default_rng(0).integers(200, size=50)
    wanted = plain.batch(rows)
    monkeypatch.setattr("quickstudy.data.samples.stack", None)
    found = samples.batch(rows)
    assert list(found) == list(wanted)
    assert all(found[name].dtype == leaf.dtype and torch.equal(found[name], leaf) for name, leaf in wanted.items())


def test_transforms_do_not_write_to_what_is_kept() -> None:
    def shout(example: Batch) -> Batch:
        example["ids"] += 1
        return example

    samples = Samples(["ABC", "D"], read, budget=1 << 10, transform=shout)
    for _ in range(2):
        assert samples.batch(np.array([0]), [(0,)])["ids"].tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("other", [{"ids": torch.zeros(2, 2)}, {"ids": torch.zeros(2), "mask": torch.zeros(2)}])
def test_dicts_of_another_form_are_not_kept(other: Batch) -> None:
    samples = Samples([{"ids": torch.zeros(3)}, other, {"ids": torch.ones(2)}], lambda item: item, budget=1 << 10)
    assert torch.equal(samples.batch(np.array([0, 2]))["ids"], torch.tensor([[0.0, 0, 0], [1, 1, 0]]))
    assert torch.equal(samples.batch(np.array([1]))["ids"], other["ids"][None])


def test_one_that_cannot_be_read_is_told_when_it_is_asked_for() -> None:
    samples = Samples(["AB", "", "C"], lambda text: read(text) if text else 1 / 0, budget=1 << 10)
    assert samples.batch(np.array([0, 2]))["mask"].tolist() == [[True, True], [True, False]]
    with pytest.raises(DataError, match="'' cannot be read: division by zero"):
        samples.batch(np.array([1]))


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_share_decoded_dicts(workers: int, tmp_path: Path) -> None:
    whole = Table.build(MANY, np.arange(len(MANY)) % 3)

    def steps(cache: Any, load: Any) -> list[Batch]:
        its = type("Counted", (DataModule,), {"load": staticmethod(load)})
        loader = its(train=whole, num_workers=workers, batch_size=16, cache=cache).train_dataloader()
        return [inputs for _ in range(3) for inputs, _ in loader]

    load = Counting(tmp_path / "log")
    for one, other in zip(steps("1MB", load), steps(False, read), strict=True):
        assert torch.equal(one["ids"], other["ids"]) and torch.equal(one["mask"], other["mask"])
    assert sorted(load.calls()) == sorted(MANY)


def test_tables_of_dicts_are_counted_selected_and_told_apart() -> None:
    inputs = {"x": torch.arange(12.0).view(6, 2), "count": torch.ones(6)}
    whole = Table.build(inputs, ["a", "b"] * 3)
    assert len(whole) == 6
    part = whole.select(np.array([5, 0]))
    assert part.inputs["x"].tolist() == [[10.0, 11.0], [0.0, 1.0]]  # type: ignore[index]
    other = Table.build({**inputs, "count": torch.zeros(6)}, ["a", "b"] * 3)
    assert whole.fingerprint == Table.build(dict(inputs), ["a", "b"] * 3).fingerprint != other.fingerprint
    with pytest.raises(DataError, match="6 inputs but 2 targets"):
        Table.build(inputs, ["a", "b"])
    assert size(Samples(inputs, read).batch(np.array([3, 1, 3]))) == 3
    assert torch.equal(take(inputs, 3)["x"], Samples(inputs, read).batch(np.array([3]))["x"][0])


def test_an_ordinary_network_trains_and_predicts_on_texts() -> None:
    torch.manual_seed(0)
    learned = table(range(4))
    model = Task(backbone=Bag(), learning_rate=3e-2, loss_fn=F.cross_entropy)
    running = trainer(max_epochs=8)
    with pytest.warns(DataWarning, match="model is to be trained on at least 48 of the 48 examples of this val"):
        running.fit(model, datamodule=TokenData(learned, val=learned, batch_size=8))
    predicted = running.predict(model, datamodule=TokenData(predict=Table.build(learned.inputs)))
    right = [one == name for one, name in zip(_flat(predicted), _names(learned), strict=True)]
    assert sum(right) > len(right) / 2


def _flat(predicted: Any) -> list[Any]:
    return [one for part in predicted for one in (part if isinstance(part, list) else [part])]


def _names(of: Table) -> list[str]:
    assert of.targets is not None
    return [of.classes[code] for code in of.targets.tolist()]


# ---- a predictor

CHANGED = ["prototypicalnetworks", "metaoptnet", "maml", "anil", "finetune"]


def predictor(strategy: str, reading: Any = read) -> Predictor:
    """Return one that learned two classes of texts, in float64."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"maml": {"adaptation_steps": 3}, "anil": {}}.get(strategy, {})
    if strategy in ("maml", "anil"):
        options = {**options, "head": "shared"}
    encoder, algorithm = Encoder(Bag()).double(), STRATEGIES[strategy](**options)
    shown = [*texts(0)[:4], *texts(1)[:3]]
    algorithm.meet(encoder, (8,), 3)
    made = Predictor(encoder, algorithm.double(), reading)
    return made.fit(shown, ["a"] * 4 + ["b"] * 3)


def changed(made: Predictor) -> Predictor:
    """Show it longer and shorter texts of old and new classes, and take away one."""
    made.add_class("c", texts(2)[:2]).add_examples("a", texts(0)[4:7]).rename_class("b", "d")
    return (
        made.add_class("e", ["AB"]).remove_class("c").calibrate([*texts(0)[7:], *texts(9)[:3]], ["a"] * 5 + ["x"] * 3)
    )


ASKED = [*texts(0)[8:], *texts(1)[5:9], *texts(5)[:2], "ABCDEFGHIJKLMNOPQRSTUVWX"]


def answers(made: Predictor) -> dict[str, Any]:
    return {
        "logits": made.predict_proba(ASKED).astype(np.float64),
        "exact": answered(made.knowledge, ASKED).logits.numpy(),
        "labels": made.predict(ASKED),
        "nearest": np.array([[near.distance for near in each] for each in made.nearest(ASKED, 3)]),
        "counts": made.counts_,
        "score": made.score(ASKED[:4], ["a", "a", "a", "d"]),
        "confidence": np.array(made.confidence_[:2]),
    }


def check_alike(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_allclose(found[name], value, atol=1e-6 if name in ("logits", "confidence") else 1e-10)
        else:
            assert found[name] == value, name


@pytest.mark.filterwarnings("ignore:the model learned from:quickstudy.errors.DataWarning")  # of another of its letters
@pytest.mark.parametrize("strategy", CHANGED)
def test_a_predictor_learns_texts_whatever_their_padding(strategy: str, tmp_path: Path) -> None:
    made = changed(predictor(strategy))
    expected = answers(made)
    assert expected["counts"] == {"a": 7, "d": 3, "e": 1} and "a" in expected["labels"]
    check_alike(answers(changed(predictor(strategy, wider))), expected)
    alone = np.concatenate([answered(made.knowledge, [text]).logits.numpy() for text in ASKED])
    np.testing.assert_allclose(alone, expected["exact"], atol=1e-10)
    batch = Samples(ASKED, read).batch(np.arange(len(ASKED)))
    np.testing.assert_allclose(answered(made.knowledge, batch).logits.numpy(), expected["exact"], atol=1e-10)
    assert made.predict(batch) == expected["labels"]
    made.save(tmp_path)
    again = Predictor.load(tmp_path, load=wider, backbone=Bag())
    check_alike(answers(again), expected)
    once = Predictor(**made.get_params()).fit([*texts(0)[:7], *texts(1)[:3], "AB"], ["a"] * 7 + ["d"] * 3 + ["e"])
    np.testing.assert_allclose(answered(once.knowledge, ASKED).logits.numpy(), expected["exact"], atol=1e-9)


@pytest.mark.filterwarnings("ignore:the model learned from:quickstudy.errors.DataWarning")  # of another of its letters
@pytest.mark.parametrize("strategy", ["prototypicalnetworks", "maml"])
def test_changes_of_texts_are_written_down_and_made_again(strategy: str, tmp_path: Path) -> None:
    made = predictor(strategy)
    made.save(tmp_path)
    with model_folder.serve(tmp_path) as journal:
        made.before_change = lambda change: journal.append(change, made.change_number)
        made.add_class("c", texts(2)[:2]).add_examples("a", ["A", *texts(0)[4:7]]).rename_class("b", "d")
        made.add_class("e", ["AB"]).remove_class("c")
    again = Predictor.load(tmp_path, load=wider, backbone=Bag())
    assert again.change_number == made.change_number == 5
    check_alike(answers(again), answers(made))
    again.save(tmp_path, after=5)
    check_alike(answers(Predictor.load(tmp_path, load=read, backbone=Bag())), answers(made))


def test_an_older_quickstudy_is_told_of_a_folder_of_texts(tmp_path: Path) -> None:
    for strategy, kept in (("prototypicalnetworks", {"kept"}), ("maml", {"kept.ids", "kept.mask", "kept_parts"})):
        predictor(strategy).save(tmp_path)
        description = json.loads((tmp_path / "predictor.json").read_text())
        assert description["format"] == 3
        assert description["input"]["parts"]["ids"]["dtype"] == "torch.int64"
        names = set(load_file(tmp_path / description["files"]["learned"]["name"]))
        assert {name for name in names if name.startswith("kept")} == kept


def test_of_texts_that_were_learned_it_warns_and_others_are_explained_in_words() -> None:
    for strategy in ("prototypicalnetworks", "maml"):
        made = predictor(strategy)
        with pytest.warns(DataWarning, match="learned from 2 of these 3 examples"):
            made.score([texts(0)[0], texts(1)[1], "ABCDEFGHIJKLMNOP"], ["a", "b", "b"])
        lines = made.explain(texts(1)[0], 2).splitlines()
        assert lines[0].startswith("answer: ") and lines[0].endswith(", what was asked")
        assert lines[1] == "b, the same" and lines[2].endswith(" away") and len(lines) == 3


@MODALITIES.register("made-up letters")
@dataclass(frozen=True)
class Letters(Modality):
    """Texts of letters, as long as they are."""

    called = "texts"

    def load(self, item: Any) -> Batch:
        return {name: torch.from_numpy(part) for name, part in read(item).items()}

    def made_up(self, count: int, generator: torch.Generator, like: Batch | None = None) -> Batch:
        lengths = torch.randint(1, 9, (count, 1), generator=generator)
        mask = torch.arange(9) < lengths
        return {"ids": torch.randint(WORDS, mask.shape, generator=generator) * mask, "mask": mask}

    def free_axes(self) -> dict[str, dict[int, str]]:
        return {"ids": {1: "L"}, "mask": {1: "L"}}


@pytest.mark.parametrize("form", ["pt2", "onnx"])
@pytest.mark.parametrize("strategy", ["prototypicalnetworks", "maml"])
def test_texts_of_any_length_go_through_a_graph(strategy: str, form: str, tmp_path: Path) -> None:
    made = predictor(strategy, Letters())
    for module in (made.knowledge.encoder, made.knowledge.algorithm):
        module.float()
    made.fit([*texts(0)[:4], *texts(1)[:3]], ["a"] * 4 + ["b"] * 3)
    made.export(tmp_path / f"texts.{form}")
    made.add_class("c", texts(2)[:2])
    done = made.export(tmp_path / f"texts.{form}", only_classes=True)
    assert done.difference < 1e-3 and done.flips == 0
    with safe_open(done.classes, "np") as file:
        about = json.loads(file.metadata()["quickstudy"])
    assert about["axes"] == {"ids": {"1": "L"}, "mask": {"1": "L"}}
    assert about["input"]["parts"]["ids"]["dtype"] == "int64"
    for asked in (["A"], ASKED, ["ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJ", "B"]):
        batch, learned = Samples(asked, read).batch(np.arange(len(asked))), load_file(done.classes)
        if form == "pt2":
            logits = torch.export.load(done.model).module()(batch, learned)[0]
        else:
            session = onnxruntime.InferenceSession(done.model)
            # In the order of the file, which older versions of torch demand of a dict.
            assert [each.name for each in session.get_inputs()] == ["ids", "mask", *learned]
            logits = torch.from_numpy(session.run(None, {n: v.numpy() for n, v in {**batch, **learned}.items()})[0])
        torch.testing.assert_close(logits, answered(made.knowledge, asked).logits, atol=1e-4, rtol=1e-4)
    if form == "onnx":  # an earlier file, whose graph takes them in another order
        earlier = onnx.load(done.model)
        inputs = [*earlier.graph.input]
        del earlier.graph.input[:]
        earlier.graph.input.extend([*inputs[:2], *reversed(inputs[2:])])
        onnx.save(earlier, done.model)
        assert made.export(done.model, only_classes=True).difference < 1e-3


def test_a_graph_of_inputs_that_nobody_can_make_up_needs_some(tmp_path: Path) -> None:
    made = predictor("prototypicalnetworks")
    made.knowledge.encoder.float()
    made.fit(["AB", "CD"], ["a", "b"])
    with pytest.raises(ConfigError, match=r"its inputs cannot be made up: give some, export\(path, inputs=...\)"):
        made.export(tmp_path / "texts.pt2")
    done = made.export(tmp_path / "texts.pt2", inputs=texts(3)[:5])
    assert done.inputs == 8 and done.flips == 0
