"""Groups of examples (a speaker, a recording): no episode asks of one that it shows, and no split divides one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from quickstudy import ConfigError, DataError, DataModule, DataWarning, Trainer
from quickstudy.cli.runs import build_data
from quickstudy.data.episodes import EpisodePlan, EpisodeSampler
from quickstudy.data.origins import Origins
from quickstudy.data.splitting import split_examples
from quickstudy.data.table import Table
from quickstudy.functional.intervals import clusters_interval
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.learning.checks import grouped
from quickstudy.runs.results import covers, interval, result_of
from quickstudy.text.tasks import TextClassificationData

SPEAKERS = ["ann", "bob", "cid", "dan"]


def table_of(origins: Any, targets: Any) -> Table:
    return Table.build(torch.zeros(len(targets), 1), targets, origins=origins)


def spoken() -> Table:
    """Return six clips of each of five words by each of four speakers."""
    return table_of(np.tile(np.repeat(SPEAKERS, 6), 5), np.repeat(list("abcde"), 24))


def sampler(table: Table, **plan: Any) -> EpisodeSampler:
    return EpisodeSampler.for_stage(table, EpisodePlan(**plan), "train")


def recordings() -> Table:
    """Return clips of recordings that are of one word each, two of each word, one of them long."""
    targets = np.repeat(list("abcde"), 8)
    return table_of([f"{word}{place % 8 < 3}" for place, word in enumerate(targets)], targets)


def mixed() -> Table:
    """Return clips of a hundred recordings that hold any words."""
    generator = np.random.default_rng(0)
    return table_of(generator.permutation(np.repeat(np.arange(100), 3)), np.repeat(list("abcde"), 60))


@pytest.mark.parametrize(
    ("table", "plan"),
    [
        (spoken(), {"ways": 5, "shots": 3, "queries": 4}),
        (recordings(), {"ways": 5, "shots": 3, "queries": 5}),
        (mixed(), {"ways": 3, "shots": 1, "queries": 15}),
    ],
)
def test_an_episode_asks_for_examples_of_other_groups_than_it_shows(table: Table, plan: dict[str, Any]) -> None:
    assert table.origins is not None
    assert isinstance(table.targets, np.ndarray)
    drawn = sampler(table, **plan)
    rows, shots = drawn.draw(np.arange(200)), plan["shots"]
    assert rows.shape == (200, plan["ways"], shots + plan["queries"])
    for episode in rows:
        origins = table.origins.codes[episode]
        assert not set(origins[:, :shots].ravel()) & set(origins[:, shots:].ravel())
        assert len(set(episode.ravel())) == episode.size
    classes = table.targets[rows]
    assert (classes == classes[:, :, :1]).all()
    assert np.array_equal(classes[:, :, 0], drawn.draw_classes(np.arange(200)))
    # An episode depends on its number alone.
    assert np.array_equal(rows[7:9], sampler(table, **plan).draw(np.array([7, 8])))


def test_all_examples_are_drawn_on_both_sides() -> None:
    rows = sampler(spoken(), ways=3, shots=1, queries=4).draw(np.arange(1500))
    assert len(np.unique(rows[:, :, 0])) == len(np.unique(rows[:, :, 1:])) == 120


def test_groups_give_other_episodes_and_none_the_same_as_ever() -> None:
    table = spoken()
    plain = Table(table.inputs, table.targets, table.classes)
    assert plain.fingerprint != table.fingerprint
    assert "groups" not in sampler(plain).drawn
    assert "4 groups apart" in sampler(table).drawn


def test_what_has_too_few_groups_is_named() -> None:
    words = np.repeat(list("abcde"), 8)
    alone = table_of(np.where(words == "a", "ann", np.tile(["bob", "cid"], 20)), words)
    told = r"queries of other groups needs 1 examples of a class in some groups and 4 in others; 'a' of the train data "
    with pytest.raises(DataError, match=told + r"has 'ann' with 8\. Lower shots or queries, add groups, or leave"):
        sampler(alone, ways=2, shots=1, queries=4)
    uneven = table_of([f"{word}{place % 8 == 0}" for place, word in enumerate(words)], words)
    sampler(uneven, ways=2, shots=1, queries=7)  # the one that is alone is shown
    with pytest.raises(DataError, match=r"'aFalse' with 7, 'aTrue' with 1 \(and 4 other classes\)"):
        sampler(uneven, ways=2, shots=2, queries=5)
    # Any two classes can be divided, but not these three at once.
    crossed = table_of(list("xyyzzx"), list("aabbcc"))
    sampler(crossed, ways=2, shots=1, queries=1).draw(np.arange(9))
    with pytest.raises(DataError, match=r"no division of the groups of '.', '.', '.' of the train data"):
        sampler(crossed, ways=3, shots=1, queries=1).draw(np.arange(1))


def test_a_split_moves_whole_groups_and_about_its_share_of_each_class() -> None:
    table = spoken()
    train, val = split_examples(table, 0.25, seed=0)
    assert train.origins is not None
    assert val.origins is not None
    assert set(train.origins.present).isdisjoint(val.origins.present)
    assert val.index.counts.tolist() == [6] * 5
    others = {split_examples(table, 0.25, seed)[1].origins.present for seed in range(20)}  # type: ignore[union-attr]
    assert len(others) > 1
    _, half = split_examples(recordings(), 0.5, seed=1)
    assert set(half.index.counts.tolist()) <= {3, 5}
    with pytest.raises(DataError, match=r"val_split=0\.2: 'ann' cannot be divided so that each class keeps an example"):
        split_examples(table_of(["ann"] * 4, list("aabb")), 0.2, seed=0)


def test_files_and_tables_say_it(tmp_path: Path) -> None:
    for word in ("yes", "no"):
        (tmp_path / word).mkdir()
        for name in ("ann_0", "ann_1", "bob_0", "bob_1"):
            (tmp_path / word / f"{name}.txt").write_text(f"{word} {name}")
    data = TextClassificationData.from_folders(tmp_path, group_by="([a-z]+)_", val_split=0.5)
    train, val = data.table("train"), data.table("val")
    assert train is not None
    assert val is not None
    assert train.origins is not None
    assert val.origins is not None
    assert {*train.origins.present, *val.origins.present} == {"ann", "bob"}
    assert len(train.origins.present) == len(val.origins.present) == 1
    episode = next(
        iter(
            TextClassificationData.from_folders(tmp_path, group_by="/([a-z]+)").episode_loader(
                "train", EpisodePlan(ways=2, shots=2, queries=2, meta_batch_size=1)
            )
        )
    )
    assert episode.query["ids"].shape[:2] == (1, 4)
    with pytest.raises(DataError, match=r"group_by='\^\(x\)' finds nothing in 8 of 8 names of files: 'no/ann_0.txt'"):
        TextClassificationData.from_folders(tmp_path, group_by="^(x)")
    with pytest.raises(ConfigError, match="is no regular expression"):
        TextClassificationData.from_folders(tmp_path, group_by="(")
    with pytest.raises(ConfigError, match="group_field='speaker' is a column of a table"):
        TextClassificationData.from_folders(tmp_path, group_field="speaker")
    frame = pd.DataFrame({"text": list("abcd"), "label": list("xxyy"), "speaker": ["ann", "bob", "ann", ""]})
    fields: dict[str, Any] = {"input_field": "text", "target_fields": "label", "group_field": "speaker"}
    with pytest.raises(DataError, match="in the train data, the group is missing in row 3"):
        TextClassificationData.from_data_frame(train_data_frame=frame, **fields)
    with pytest.warns(DataWarning, match="left out row 3"):
        skipped = TextClassificationData.from_data_frame(train_data_frame=frame, on_error="skip", **fields)
    known = skipped.table("train")
    assert known is not None
    assert known.origins is not None
    assert [known.origins.names[code] for code in known.origins.codes] == ["ann", "bob", "ann"]
    with pytest.warns(DataWarning, match="1 groups are both in the train and the test data: 'ann'"):
        TextClassificationData.from_data_frame(train_data_frame=frame[:2], test_data_frame=frame[2:3], **fields)
    with pytest.raises(DataError, match=r"these examples are none: .* give the groups, group_by=\{'train'"):
        DataModule.from_tensors(torch.zeros(4, 1), list("abab"), group_by="a")


def files(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_a_pattern_is_sought_in_names_of_files_and_with_a_slash_in_paths(tmp_path: Path) -> None:
    """Without a slash in paths only where not every name has it."""
    folder = files(tmp_path, "oh_no/ann_0.txt", "oh_no/ben_0.txt", "yes/ann_1.txt", "yes/ben_1.txt")
    found = {
        pattern: TextClassificationData.from_folders(folder, group_by=pattern).origins["train"].present
        for pattern in ("([a-z]+)_", "^([a-z]+)_", "/([a-z]+)_", "ann|ben", "^([a-z_]+)/", "yes|oh")
    }
    people = ("ann", "ben")
    assert found == dict.fromkeys(("([a-z]+)_", "^([a-z]+)_", "/([a-z]+)_", "ann|ben"), people) | {
        "^([a-z_]+)/": ("oh_no", "yes"),
        "yes|oh": ("oh", "yes"),
    }


def test_how_many_groups_there_are_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the data, by the command line; and loudly where they divide nothing."""
    folder = files(tmp_path, "a/ann_0.txt", "a/ben_1.txt", "b/ann_2.txt", "b/ben_3.txt")
    data = build_data({"train_folder": folder, "group_by": "^([a-z]+)"}, task="text_classification")
    told = "2 groups, of 2 examples: 'ann', 'ben'"
    assert capsys.readouterr().err == f"train data: {told}\n"
    assert f"train: 4 examples of 2 classes, 2 of each: 'a', 'b'; {told}" in repr(data)
    assert [finding.told for finding in grouped(table_of(["x", "y", "x"], list("aab")))] == [
        "examples come from 2 groups, of 1 to 2 examples: 'x', 'y'"
    ]
    with pytest.warns(DataWarning, match="each of the 4 examples is a group of its own, such as '0', '1', as if there"):
        TextClassificationData.from_folders(folder, group_by=r"\d")
    with pytest.warns(DataWarning, match="all 4 examples are of one group, 'txt', which cannot be divided"):
        TextClassificationData.from_folders(folder, group_by="txt")


def test_groups_are_labels_one_each() -> None:
    with pytest.raises(DataError, match="groups are one label for each example"):
        Origins.of([["a", "b"], ["a"]])
    with pytest.raises(DataError, match="3 inputs but 2 groups"):
        Table(torch.zeros(3, 1), origins=Origins.of(["a", "b"]))


def test_groups_of_examples_in_memory() -> None:
    """In lists of any domain, where neither a column nor a name of a file says them."""
    texts, said = [f"{word} {number}" for word in ("yes", "no") for number in range(8)], ["ann", "ben"] * 8
    labels = [text.split()[0] for text in texts]
    data = TextClassificationData.from_lists(texts, labels, group_by=said, val_split=0.5)
    parts = [table for stage in ("train", "val") if (table := data.table(stage)) and table.origins]
    assert sorted(table.origins.present for table in parts if table.origins) == [("ann",), ("ben",)]
    assert "group_by" not in data.options
    tensors = torch.zeros(16, 1)
    both = DataModule.from_tensors(tensors, labels, test_data=tensors + 1, test_targets=labels, group_by={"test": said})
    found = both.table("train"), both.table("test")
    assert [table is not None and table.origins is None for table in found] == [True, False]
    with pytest.raises(DataError, match="group_by has 3 groups, and the train data 16 examples: give one for each"):
        TextClassificationData.from_lists(texts, labels, group_by=["ann", "ben", "cid"])
    with pytest.raises(ConfigError, match="group_by has groups of the val data, and there is none"):
        TextClassificationData.from_lists(texts, labels, group_by={"val": said})
    with pytest.raises(ConfigError, match="unknown stage of group_by 'valid'"):
        TextClassificationData.from_lists(texts, labels, group_by={"valid": said})


def test_a_test_of_groups_has_the_interval_over_them() -> None:
    """Of 40 examples of 4 patients, one of whom is always answered wrongly, there are 4, and not 40."""
    values = torch.arange(40) % 2 * 2.0 - 1
    values[:10] *= -1
    data = ImageClassificationData.from_tensors(
        test_data=values.view(40, 1, 1, 1),
        test_targets=["low", "high"] * 20,
        group_by={"test": [f"patient {n // 10}" for n in range(40)]},
        batch_size=7,
    )
    model = ImageClassifier(2, nn.Flatten())
    model.meet(data, "test")
    with torch.no_grad():
        for name, weight in model.head.named_parameters():
            weight.copy_(torch.tensor([[1.0], [-1.0]]) if "weight" in name else torch.zeros(2))
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    figures = trainer.test(model, data, verbose=False)[0]
    result = result_of(model, figures, data)
    assert result["accuracy"] == 0.75 and result["groups"] == 4
    half = clusters_interval((torch.arange(40) >= 10).double(), torch.arange(40) // 10)
    assert result["accuracy_ci95"] == pytest.approx(half) and half > 0.5
    assert "over 4 groups" in interval(result) and "4 groups" in covers(result)[0]
