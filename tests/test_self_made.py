"""Tasks that rows make of themselves: their classes, what is hidden, their episodes, and training on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from quickstudy import ConfigError, DataError, Trainer
from quickstudy.data.episodes import EpisodePlan, EpisodeSampler
from quickstudy.tabular import TabularClassificationData, TabularClassifier
from quickstudy.tabular.self_made import of_one_task, self_made_tasks
from quickstudy.testing.demands import quiet_trainer

ROWS = 64
BITS = torch.arange(ROWS)[:, None] >> torch.arange(3) & 1
TABLE = {
    "numbers": torch.cat([torch.arange(ROWS)[:, None] / 10.0, 4.0 * BITS[:, :2]], 1),
    "missing": torch.zeros(ROWS, 3, dtype=torch.bool),
    "codes": BITS[:, 2:] + 1,
}
"""The first column says which row it is; the others are bits of its number."""


def test_classes_are_clusters_of_columns_which_are_then_shuffled() -> None:
    made = self_made_tasks(TABLE, tasks=12, clusters=2, share=(0.2, 0.25), examples=48, seed=3)  # 1 column of 4
    hidden = set()
    for task in range(12):
        rows = slice(48 * task, 48 * task + 48)
        numbers, codes = made.inputs["numbers"][rows], made.inputs["codes"][rows, 0]  # type: ignore[index]
        assert made.targets is not None
        classes = torch.from_numpy(made.targets[rows]).long() - 2 * task
        assert {*classes.tolist()} == {0, 1}
        which = (numbers[:, 0] * 10).round().long()
        if not numbers[:, 1].equal(TABLE["numbers"][which, 1]) and not numbers[:, 2].equal(TABLE["numbers"][which, 2]):
            hidden.add("the number")  # itself shuffled, so that nothing fits
            continue
        columns = [numbers[:, 1] / 4, numbers[:, 2] / 4, codes.float() - 1]
        (bit,) = [bit for bit, column in enumerate(columns) if not column.equal(BITS[which, bit].float())]
        assert columns[bit].sum() == BITS[which, bit].sum()  # the same cells, of other rows
        own = BITS[which, bit]
        assert classes.equal(own) or classes.equal(1 - own)
        hidden.add(str(bit))
    assert len(hidden) > 2
    again = self_made_tasks(TABLE, tasks=12, clusters=2, share=(0.2, 0.25), examples=48, seed=3)
    assert again.fingerprint == made.fingerprint


def test_episodes_are_of_one_task() -> None:
    made = self_made_tasks(TABLE, tasks=5, clusters=3, seed=1).without_empty_classes()
    plan = EpisodePlan(ways=2, shots=2, queries=3)
    rows_TWK = EpisodeSampler.for_stage(made, plan, "train", of_one_task).draw(np.arange(30))
    assert made.targets is not None
    tasks = np.array([int(name.split(",")[0].removeprefix("task ")) for name in made.classes])[made.targets[rows_TWK]]
    assert (tasks == tasks[:, :1, :1]).all()
    assert len(np.unique(tasks)) > 2
    with pytest.raises(DataError, match="no self-made task has 2 clusters of 60 rows"):
        EpisodeSampler.for_stage(made, EpisodePlan(ways=2, shots=20, queries=40), "train", of_one_task)


def test_what_makes_no_tasks_is_told() -> None:
    with pytest.raises(ConfigError, match=r"share=\(0.5, 0.2\)"):
        self_made_tasks(TABLE, share=(0.5, 0.2))
    with pytest.raises(ConfigError, match="give two shares of the columns"):
        self_made_tasks(TABLE, share=["age", "pay"])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="64 rows of 4 columns make no tasks of 65 clusters"):
        self_made_tasks(TABLE, clusters=65)


def test_a_model_trained_on_them_learns_classes_from_few_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where runs are written
    rows = [{"age": row % 11 + row / 99, "income": row % 7 - row / 99} for row in range(200)]
    sizes = {"tasks": 6, "val_tasks": 2, "clusters": 3, "examples": 40}
    data = TabularClassificationData.from_unlabelled(rows, **sizes, load_options={"scaling": "standard"})
    assert data.modality.settings["scaling"] == "standard"
    model = TabularClassifier(
        training_strategy="prototypicalnetworks",
        training_strategy_kwargs={"ways": 2, "queries": 2, "epoch_length": 4, "test_epoch_length": 4},
    )
    trainer: Trainer = quiet_trainer(max_epochs=1)
    trainer.fit(model, datamodule=data)
    assert 0 <= trainer.callback_metrics["val_accuracy"] <= 1
    predictor = model.adapt(rows[:6], list("abcabc"))
    assert set(predictor.predict(rows[6:12], may_be_unknown=False)) <= {"a", "b", "c"}
