"""Several labels per example: F1 with intervals, and thresholds that validation data chooses, and who keeps them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from sklearn.metrics import f1_score
from torch import Tensor, nn

from quickstudy import ConfigError, DataError, Predictor, Trainer
from quickstudy.algorithms import STRATEGIES
from quickstudy.cli.named_pictures import named
from quickstudy.cli.predicting import Asked, answered, write_rows
from quickstudy.functional.intervals import student_quantile
from quickstudy.functional.labels import NAMED, best_cuts, f1_of_all
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.kinds.classification import Classification
from quickstudy.kinds.metrics import _CUTS, Cuts
from quickstudy.nets import Encoder
from quickstudy.runs.results import result_of, sentence
from quickstudy.text import Text
from quickstudy.trained import TrainedModel

QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def test_f1_is_scikit_learns_and_its_interval_that_of_leaving_each_example_out() -> None:
    generator = torch.Generator().manual_seed(0)
    there = torch.rand(200, 6, generator=generator) < torch.tensor([0.5, 0.3, 0.2, 0.1, 0.05, 0.0])
    named = there ^ (torch.rand(200, 6, generator=generator) < 0.1)
    codes = NAMED * named.to(torch.uint8) + there.to(torch.uint8)
    found, known = f1_of_all(codes), [0, 1, 2, 3, 4]  # nobody has the sixth
    without = [f1_of_all(codes[torch.arange(200) != row]) for row in range(200)]
    for name, labels in (("micro", range(6)), ("macro", known)):
        value, half = found[f"f1_{name}"]
        expected = f1_score(there.numpy()[:, labels], named.numpy()[:, labels], average=name)
        assert value == pytest.approx(expected, abs=1e-12)
        moved = np.array([one[f"f1_{name}"][0] for one in without])
        error = np.sqrt(199 / 200 * ((moved - moved.mean()) ** 2).sum())
        assert half == pytest.approx(student_quantile(0.975, 199) * error, rel=0.05)
    perfect = f1_of_all(torch.full((5, 2), 3, dtype=torch.uint8))["f1_micro"]
    assert perfect[0] == 1 and 0.1 < perfect[1] < 0.3, "five right ones are no certainty"
    assert f1_of_all(torch.zeros(3, 2, dtype=torch.uint8)) == {}


def test_the_best_cut_is_that_of_trying_all() -> None:
    generator = torch.Generator().manual_seed(1)
    targets = torch.rand(150, 3, generator=generator) < torch.tensor([0.4, 0.1, 0.0])
    logits = 3 * torch.randn(150, 3, generator=generator) + 3 * targets - 2
    cuts = Cuts(3)
    cuts.update(logits[:90], targets[:90])
    cuts.update(logits[90:], targets[90:])
    best = _CUTS[best_cuts(cuts.there, cuts.absent, 0)]
    for label in range(2):
        f1 = [f1_score(targets[:, label].numpy(), (logits[:, label] > cut).numpy()) for cut in _CUTS]
        assert f1_score(targets[:, label].numpy(), (logits[:, label] > best[label]).numpy()) == max(f1)
    assert best[2] == 0, "of what nobody has there is nothing to choose"
    together = best_cuts(cuts.there.sum(0, keepdim=True), cuts.absent.sum(0, keepdim=True), 0)
    assert cuts.compute()[2] > _CUTS[together][0], "with those of all labels it is theirs, or above, as nobody has it"
    nothing = Cuts(3)
    nothing.update(logits, torch.zeros(150, 3))
    assert not len(nothing.compute())


def rare(count: int, seed: int) -> tuple[Tensor, list[list[str]]]:
    """Examples of which a tenth has the label ``"rare"``, and half have ``"often"``, each told by a noisy number."""
    generator = torch.Generator().manual_seed(seed)
    there = torch.rand(count, 2, generator=generator) < torch.tensor([0.1, 0.5])
    noise = torch.randn(count, 2, generator=generator)
    return 1.5 * there + noise, [[n for n, has in zip(("rare", "often"), row, strict=True) if has] for row in there]


def test_validation_data_chooses_thresholds_and_all_that_is_made_of_the_model_keeps_them(tmp_path: Path) -> None:
    (train, labels), (val, of_val), (test, of_test) = (rare(count, seed) for seed, count in enumerate((300, 200, 100)))
    data = ImageClassificationData.from_tensors(
        train, labels, val_data=val, val_targets=of_val, test_data=test, test_targets=of_test, batch_size=50
    )
    model = ImageClassifier(backbone=nn.Flatten(), multi_label=True, learning_rate=0.1)
    trainer = Trainer(max_epochs=5, **{**QUIET, "enable_checkpointing": True, "default_root_dir": tmp_path})
    trainer.fit(model, datamodule=data)
    chosen = model.kind.thresholds
    assert model.classes == ("often", "rare") and chosen[1] < 0.5, "so few are never likely"

    # What comes after training is judged at its thresholds, and chooses none of its own.
    with torch.no_grad():
        chances, asked = model(val).sigmoid().numpy(), model(test).sigmoid().numpy()
    has, wanted = (np.array([[n in own for n in model.classes] for own in all_]) for all_ in (of_val, of_test))
    during = float(trainer.callback_metrics["val_f1_micro"])
    assert during == pytest.approx(f1_score(has, chances > 0.5, average="micro")), "of which they are the choice"
    for inputs, there, its in ((val, has, chances), (test, wanted, asked)):
        other = ImageClassificationData.from_tensors(val_data=inputs, val_targets=[of_val, of_test][inputs is test])
        (validated,) = trainer.validate(model, other, verbose=False)
        by_them = f1_score(there, its > np.array(chosen), average="micro")
        assert validated["val_f1"] == validated["val_f1_micro"] == pytest.approx(by_them)
    assert model.kind.thresholds == chosen
    (tested,) = trainer.test(model, data, verbose=False)
    named = asked > np.array(chosen)
    assert tested["test_f1_micro"] == pytest.approx(f1_score(wanted, named, average="micro"))
    assert tested["test_f1_macro"] == pytest.approx(f1_score(wanted, named, average="macro"))
    result = json.loads(json.dumps(result_of(model, tested, data)))
    assert trainer.outcome.f1() == pytest.approx({name: result[name] for name in ("f1_micro", "f1_macro")})
    assert [each["threshold"] for each in result["per_label"].values()] == list(chosen)
    assert result["per_label"]["rare"]["f1"] == pytest.approx(f1_score(wanted[:, 1], named[:, 1]))
    assert 0 < result["per_label"]["rare"]["f1_ci95"] < 1
    assert "of all labels together" in sentence(result) and "naming the same labels for all: " in sentence(result)

    answers = [[n for n, is_ in zip(model.classes, row, strict=True) if is_] for row in named]
    path = str(trainer.checkpoint_callback.best_model_path)  # type: ignore[union-attr]
    made = ImageClassifier.load_from_checkpoint(path, backbone=nn.Flatten())
    assert len(made.kind.thresholds) == 2, "each checkpoint has those of its own validation"
    best: Any = trainer.checkpoint_callback
    with torch.no_grad():
        found = made(val).sigmoid().numpy() > np.array(made.kind.thresholds)
    assert best.monitor == "val_f1"
    assert float(best.best_model_score) == pytest.approx(f1_score(has, found, average="micro"), abs=0.005)
    model.predictor().save(tmp_path / "saved")
    read = TrainedModel.load(tmp_path / "saved", backbone=nn.Flatten())
    assert read.predict(test) == [one.label for one in read.rank(test)] == answers
    below = replace(read.kind, thresholds=(0.9, 0.01)).ranked(torch.tensor([[1.0, -4.0]]), 1)
    assert [(one.label, [name for name, _ in one.ranking]) for one in below] == [(["rare"], ["often", "rare"])]
    rows = read.predict(test, "rows")
    assert [sorted(row.label) for row in rows] == [sorted(each) for each in answers], "also of none a row"
    assert read.about()["thresholds"] == dict(zip(model.classes, chosen, strict=True))
    done = read.export(tmp_path / "x.pt2", inputs=test)
    with safe_open(done.classes, "np") as file:
        assert json.loads(file.metadata()["quickstudy"])["thresholds"] == list(chosen)

    # Of the next training they are its own, or what was asked for.
    Trainer(max_epochs=1, **QUIET).fit(model, datamodule=ImageClassificationData.from_tensors(train, labels))
    assert model.kind.thresholds == ()
    fixed = ImageClassifier.load_from_checkpoint(path, backbone=nn.Flatten(), label_thresholds={"rare": 0.2})
    assert fixed.kind.thresholds == (0.5, 0.2)
    Trainer(max_epochs=1, **QUIET).fit(fixed, datamodule=data)
    assert fixed.kind.thresholds == (0.5, 0.2)


def test_what_learns_one_label_says_what_learns_several() -> None:
    predictor = Predictor(Encoder(nn.Flatten()), STRATEGIES["nearest_centroid"]())
    with pytest.raises(DataError, match=r"learns one label per example.*TextClassifier\(multi_label=True"):
        predictor.fit(*rare(6, 0))


def test_thresholds_that_are_none_are_told() -> None:
    with pytest.raises(ConfigError, match=r"label_thresholds=1.0: it must be 'f1', a probability between 0 and 1"):
        ImageClassifier(backbone=nn.Flatten(), multi_label=True, label_thresholds=1.0)
    with pytest.raises(ConfigError, match="label_thresholds are of several labels per example: set multi_label=True"):
        ImageClassifier(backbone=nn.Flatten(), label_thresholds=0.3)
    model = ImageClassifier(backbone=nn.Flatten(), multi_label=True, label_thresholds={"raer": 0.2})
    data = ImageClassificationData.from_tensors(*rare(20, 0))
    with pytest.raises(ConfigError, match="unknown label in label_thresholds 'raer'; did you mean 'rare'"):
        model.meet(data, "fit")


@pytest.mark.parametrize("form", ["csv", "json"])
def test_every_input_has_one_row_whose_labels_are_read_back(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = Classification(classes=("card, lost", "refund"), multi_label=True)
    logits = torch.tensor([[3.0, 1.0], [-3.0, -2.0], [-3.0, 2.0], [3.0, -3.0]])
    model: Any = SimpleNamespace(
        kind=kind,
        modality=Text(),
        transductive=False,
        rank=lambda texts, count, nearest: kind.ranked(logits[: len(texts)], count),
    )
    rows = [("a", ["card, lost", "refund"]), ("b", []), ("c", ["refund", "of no model"]), ("d", ["refund"])]
    lines = [json.dumps({"text": text, "labels": labels}) for text, labels in rows]
    (tmp_path / "several.jsonl").write_text("\n".join(lines), encoding="utf-8")
    asked, out = named([str(tmp_path / "several.jsonl")], kind, model.modality), tmp_path / "out"
    by = Asked(model, seen=torch.empty(0, dtype=torch.int64))
    assert write_rows(by, answered(by, asked.each), 4, str(out), form, asked.labelled, shows=False) == 0
    assert "4 texts: 1 without a label, 0 unreadable, 3 of 4 as their labels say (75.0%)" in capsys.readouterr().err
    text = out.read_text(encoding="utf-8")
    table = list(csv.DictReader(text.splitlines())) if form == "csv" else json.loads(text)

    def read(cell: Any) -> Any:
        return json.loads(cell) if form == "csv" else cell

    assert [read(row["label"]) for row in table] == [["card, lost", "refund"], [], ["refund"], ["card, lost"]]
    assert [read(row["true"]) for row in table] == [labels for _, labels in rows]
    assert [len(read(row["probability"])) for row in table] == [2, 0, 1, 1]
    cells = "text," + ",".join(f'"{name}"' for name in kind.classes)
    (tmp_path / "ones.csv").write_text(f"{cells}\na,1,1\nb,0,0\n", encoding="utf-8")
    (tmp_path / "own.csv").write_text('label,text\n"[""card, lost""]",a\n', encoding="utf-8")
    names = [str(tmp_path / "ones.csv"), str(tmp_path / "own.csv")]
    assert [*named(names, kind, model.modality).each] == [
        ("a", ["card, lost", "refund"]),
        ("b", []),
        ("a", ["card, lost"]),
    ]
