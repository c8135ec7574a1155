"""Rows of tables as a domain: what a column is, bad cells told by row and column, doors, and the whole."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from quickstudy import Predictor, Trainer
from quickstudy.cli import main
from quickstudy.data.samples import Samples
from quickstudy.errors import ConfigError, DataError, DataWarning
from quickstudy.tabular import (
    Row,
    TabularClassificationData,
    TabularClassifier,
    TabularEmbedder,
    TabularEmbeddingData,
    TabularRegressionData,
    design_matrix,
    feature_names,
)
from quickstudy.testing import check_domain, check_modality


def people(count: int = 12) -> tuple[list[dict[str, Any]], list[str]]:
    """Return rows of every kind of cell, some of them missing, and whether somebody earns much."""
    generator = np.random.default_rng(0)
    rows, labels = [], []
    for place in range(count):
        age, job = int(generator.integers(20, 60)), str(generator.choice(["clerk", "smith"]))
        gain = None if place % 5 == 2 else round(float(generator.lognormal(2, 2)), 2)
        since = datetime.date(2020, 1, 1) + datetime.timedelta(days=int(generator.integers(900)))
        rows.append({"age": age, "job": None if place == 3 else job, "gain": gain, "since": since.isoformat()})
        labels.append("much" if age + 20 * (job == "smith") > 50 else "little")
    return rows, labels


def test_importing_it_brings_no_library() -> None:
    code = (
        "import sys, quickstudy.tabular.modality, quickstudy.tabular.nets, quickstudy.predictor\n"
        "assert not {'transformers', 'pandas', 'scipy', 'sklearn'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.dear
def test_a_row_conforms() -> None:
    rows, _ = people(6)
    bad = [{**rows[0], "age": "old"}, {**rows[0], "gain": float("inf")}, {"age": 3}, {}, None, 5, "age", b"", b"a,b\n1"]
    check_modality(Row(), rows, bad=bad)


@pytest.mark.dear
def test_classes_of_rows_conform() -> None:
    check_domain(TabularClassificationData, TabularClassifier, *people(20))


def test_a_network_is_made_for_the_columns_that_are_shown_first(tmp_path: Path) -> None:
    rows, labels = people()
    torch.manual_seed(0)
    predictor = TabularClassifier(backbone="one_hot", training_strategy="prototypicalnetworks").adapt(rows, labels)
    name, told = predictor.knowledge.encoder.made_by
    assert name == "one_hot" and told == predictor.modality.for_backbone() and told["numbers"] > 1
    predictor.save(tmp_path / "model")
    again = Predictor.load(tmp_path / "model")
    assert again.knowledge.encoder.made_by == (name, told)
    np.testing.assert_array_equal(again.predict_proba(rows), predictor.predict_proba(rows))
    other = Predictor.from_backbone("one_hot", rows, labels, strategy="prototypicalnetworks")
    np.testing.assert_allclose(other.predict_proba(rows), predictor.predict_proba(rows), atol=1e-6)


def test_what_a_column_is_follows_from_the_training_rows() -> None:
    days = [datetime.datetime(2024, 2, 28, 12) + datetime.timedelta(days=row) for row in range(6)]
    rows = [
        {
            "number": value,
            "written": text,
            "yes": row % 2 == 0,
            "one": 5,
            "none": float("nan") if row % 2 else None,
            "customer_id": 90 - 7 * row,
            "name": f"n{row}",
            "when": days[row] if row else np.datetime64("2024-02-28T12:00"),
            "mixed": (1, "1", 1.0, "b", "c", "b")[row],
            "gap": (None, "x", "x", "x", "x", "x")[row],
        }
        for row, (value, text) in enumerate(
            zip([1, 2, 2.5, None, 4, 3], ["1", " 2.5", "NA", "", "-1e1", "3"], strict=True)
        )
    ]
    with pytest.warns(
        DataWarning, match=r"4 columns are not used: 'one' \(one value alone\), 'none' \(nothing in it\)"
    ):
        row = Row().fitted(rows)
    kinds = {name: kind for name, kind, _ in row.columns}
    assert kinds == {
        **dict.fromkeys(("number", "written"), "number"),
        **dict.fromkeys(("yes", "mixed", "gap"), "category"),
        **dict.fromkeys(("one", "none", "customer_id", "name"), "ignored"),
        "when": "date",
    }
    parts = [name for name, _ in {name: facts for name, _, facts in row.columns}["when"]]
    assert parts == ["days", "month", "day", "weekday"], "the year and the hour are always the same"
    assert row.for_backbone() == {"numbers": 6, "categories": [3, 4, 3]}
    example = row.load(rows[3])
    assert example["missing"].tolist() == [True, True, False, False, False, False]
    assert example["codes"].tolist() == [1, 2, 2], "False, b, x"
    new = row.load({**rows[0], "mixed": 7, "yes": None, "gap": "y", "number": 1e9, "when": None})
    assert new["codes"].tolist() == [0, 0, 0], "what training did not see"
    assert not new["missing"].any(), "of what was never missing in training nothing is told, as nothing was learned"
    end = row.load({**rows[0], "number": 4 + 3 / 5**0.5})["numbers"]
    assert new["numbers"][0] == end[0], (
        "beyond the range of the training rows, and a margin for few, networks know nothing"
    )
    of_before = Row(columns=(("number", "number", (row.columns[0][2][0][:5],)),))
    assert of_before.load({"number": 1e9})["numbers"].tolist() == [10]
    assert row.show(rows[0], example).startswith(b"number 1, written 1, yes True, when 2024-02-28")
    assert row.show(example, example).startswith(b"number ?, written ?, yes False, when (days) ")
    told = Row(kinds={"one": "category", "number": "category", "name": "ignored", "mixed": "ignored"})
    with pytest.warns(DataWarning, match="2 columns are not used"):
        assert told.fitted(rows).for_backbone() == {"numbers": 5, "categories": [7, 3, 2, 3]}


def test_numbers_are_standardised_and_heavy_tails_ranked() -> None:
    generator = np.random.default_rng(0)
    table = {"even": generator.normal(5, 2, 400), "heavy": np.exp(generator.normal(0, 3, 400)), "rare": np.zeros(400)}
    table["rare"][:20] = 10.0 ** np.arange(20)
    row = Row().fitted(Row().listed(table))
    numbers = np.array([row.load(cells)["numbers"].tolist() for cells in Row().listed(table)])
    assert np.abs(numbers.mean(0)).max() < 1e-6 and np.abs(numbers.std(0) - 1).max() < 1e-6
    assert [bool(facts[0][4]) for _, _, facts in row.columns] == [False, True, True]
    assert np.abs(numbers[:, :2]).max() < 4
    order = np.argsort(table["heavy"])
    assert (np.diff(numbers[order, 1]) >= 0).all()
    assert not any(facts[0][4] for _, _, facts in Row(scaling="standard").fitted(Row().listed(table)).columns)


@pytest.mark.parametrize(
    ("cells", "advice"),
    [
        (["3,14", "2,71", "1,41", "3,14"], "'3,14' and the others are taken for names: write numbers as 1234.5"),
        (["1,200", "30,500", "2,000 ", "1,200"], "write numbers as 1234.5, without commas"),
        (["12%", "5 %", "7%", "12%"], "write numbers as 1234.5"),
        (["$ 12", "$3.5", "-7", "-7"], "write numbers as 1234.5"),
        (["1.2.2024", "13.2.2024", "2.2.2024 10:30", "1.2.2024"], "write dates as 2026-11-26, pandas.to_datetime"),
        (["2/13/24", "1/2/24", "1/3/24", "1/3/24"], "write dates as 2026-11-26"),
        (["A34", "A30", "B1", "A34"], None),
        (["1-2", "3-4", "many", "1-2"], None),
    ],
    ids=str,
)
def test_numbers_and_dates_in_another_form_are_told(cells: list[str], advice: str | None) -> None:
    rows = [{"cell": cell} for cell in cells]
    if advice is None:
        assert Row().fitted(rows).columns[0][1] == "category"
    else:
        with pytest.warns(DataWarning, match=advice):
            Row().fitted(rows)
    Row(kinds={"cell": "category"}).fitted(rows)


TRAIN = {"age": [39, 50, 38, 53], "job": ["clerk", "smith", None, "smith"], "pay": ["a", "b", "a", "b"]}
FINE = {"age": 40, "job": "clerk"}


def frame(**columns: list[Any]) -> pd.DataFrame:
    return pd.DataFrame({**TRAIN, **columns})


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            frame(age=[39, "50", "old", 53]),
            r"row 2, column 'age': 'old' is no number, .*kinds=\{'age': 'category'\}",
        ),
        (frame(age=[39, 50, np.inf, 53]), r"row 2, column 'age': inf is not finite: write a number, or leave"),
        (frame(age=[39, 50, 1e308, 53]), r"row 2, column 'age': 1e\+308 is too large: write it in other units, or"),
        (frame(age=[39, 50, 10**400, 53]), r"row 2, column 'age': 1000.* is too large: write it in other units, or"),
        (
            frame(age=["2024-01-01", "2024-01-02", "1.2.24", "2024-01-04"]),
            r"row 2, column 'age': '1.2.24' is no date: ",
        ),
        (frame(age=[1, [2], 3, 4]), r"row 1, column 'age': \[2\] is no "),
        (frame(age=1, job=[None] * 4), r"no column tells anything: 'age' \(one value alone\), 'job' \(nothing"),
        (frame().iloc[:0], r"the train data is empty"),
        (frame().rename(columns={"job": "age"}), r"the table has several columns 'age': give each a name of its own"),
        (
            frame().rename(columns={"pay": "payy"}),
            r"the table has no column 'pay'; did you mean 'payy'\? It has: age",
        ),
        (
            frame(pay=["a", None, "b", "b"]),
            r"target 1 is (nan|None).*missing in row 1.*on_error='skip' \(rows are counted",
        ),
        (frame()[["pay"]], r"there is no column beside the targets, 'pay': give"),
        ("no such file.csv", r"there is no file 'no such file.csv'"),
        (5, r"expected a table: a data frame, a dict of columns, or a list of dicts, not 5"),
        ([FINE, "x"], r"row 1 is 'x': give a dict of its cells by the columns' names"),
        ({"age": [1, 2], "pay": ["a"]}, r"the columns of a table differ in length: 'age' 2, 'pay' 1"),
    ],
    ids=str,
)
def test_bad_training_tables_are_told(train: Any, message: str) -> None:
    door = "csv" if isinstance(train, str) else "data_frame"
    with pytest.raises(DataError, match=message):
        data = getattr(TabularClassificationData, f"from_{door}")(
            "pay", **{"train_file" if door == "csv" else "train_data_frame": train}
        )
        data.example()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"job": "clerk"},
            r"row 1 lacks the column 'age'; it has 'job'. Give each column that training had",
        ),
        ({**FINE, "age": "old"}, r"row 1, column 'age': 'old' is no number"),
        ({**FINE, "age": float("-inf")}, r"row 1, column 'age': -inf is not finite"),
        ({**FINE, "job": ["clerk"]}, r"row 1, column 'job': \['clerk'\] is no cell: give a number, a text, a date"),
        ("clerk", r"row 1 is 'clerk': give a dict of its cells"),
    ],
    ids=str,
)
def test_bad_rows_are_named_by_row_and_column(asked: Any, message: str) -> None:
    row = Row().fitted(Row().listed({name: cells for name, cells in TRAIN.items() if name != "pay"}))
    with pytest.raises(DataError, match=f"^{message}"):
        Samples(row.listed([FINE, asked]), row).batch(np.arange(2))
    odd = {"pay": "beside", "job": "clerk", "age": "40", 7: None}
    assert row.load(odd)["numbers"].equal(row.load(FINE)["numbers"]), "in another order, with others beside"


def test_a_cell_is_the_same_in_every_form() -> None:
    whole = Row(kinds={"door": "category"}).fitted(Row().listed([{"door": door} for door in ("3.0", "4.0", "3.0")]))
    codes = [int(whole.load({"door": door})["codes"]) for door in ("3.0", "3", 3, 3.0, "5")]
    assert codes == [codes[0]] * 4 + [0] and codes[0] > 0
    days = np.array(["2026-11-26T22:30", "2026-11-27"], "datetime64[ns]")
    (first, _) = Row().listed({"when": days})
    assert first["when"] == datetime.datetime(2026, 11, 26, 22, 30)


def test_rows_are_read_together_as_they_are_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = people(40)
    table = pd.DataFrame(rows).assign(heavy=np.exp(3 * np.random.default_rng(0).normal(size=40)), yes=True)
    table.loc[:9, "yes"] = False
    row = Row().fitted(table)
    for name, inputs in {"frame": row.listed(table), "dicts": row.listed(table.to_dict("records"))}.items():
        alone = [row.load(inputs[place]) for place in range(40)]
        with monkeypatch.context() as patched:
            patched.setattr(Row, "load", lambda self, item: pytest.fail("read one by one"))
            some = Samples(inputs, row).batch(np.array([7, 3, 3]))
            whole = Samples(inputs, row).batch(np.arange(40))
        kept = Samples(inputs, row, budget=10**6)
        assert kept.cached_bytes > 0
        for part, leaf in whole.items():
            assert leaf.equal(torch.stack([one[part] for one in alone])), (name, part)
            assert some[part].equal(leaf[[7, 3, 3]])
            assert kept.batch(np.array([5, 0, 39, 5]))[part].equal(leaf[[5, 0, 39, 5]])
            assert kept.batch(np.arange(40))[part].equal(leaf)
    bad = Samples(row.listed(table.assign(age=[*table.age[:-1], "old"])), row, budget=10**6)
    assert len(bad.batch(np.arange(39))["codes"]) == 39
    with pytest.raises(DataError, match="row 39, column 'age': 'old' is no number"):
        bad.batch(np.arange(30, 40))
    assert list(bad.unreadable()) == [39]


def test_a_design_matrix_is_what_one_hot_gives() -> None:
    rows, _ = people()
    columns = Row().fitted(rows)
    matrix, names = design_matrix(rows, columns), feature_names(columns)
    assert matrix.shape == (12, len(names)) and np.isfinite(matrix).all()
    assert matrix[:, names.index("job = (missing)")].tolist() == [row["job"] is None for row in rows]
    assert matrix[:, names.index("gain is missing")].tolist() == [row["gain"] is None for row in rows]
    days = [datetime.date.fromisoformat(row["since"]).toordinal() for row in rows]
    assert np.corrcoef(matrix[:, names.index("since (days)")], days)[0, 1] == pytest.approx(1)
    with pytest.raises(ConfigError, match=r"nothing is known of the columns yet: give columns=Row\(\).fitted"):
        design_matrix(rows, Row())
    np.testing.assert_array_equal(matrix[::-1], design_matrix(pd.DataFrame(rows)[::-1], columns))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a,b\r1,2\r\r", "neither an object of JSON nor CSV"), (b"a,a\n1,2\n", "several columns 'a'")],
    ids=str,
)
def test_a_bad_file_of_a_row_is_told(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Row().from_wire(content)


def test_options_and_leaks_are_told() -> None:
    with pytest.raises(DataError, match="the target 'pay' is among the inputs, which then tell the answer"):
        TabularClassificationData.from_data_frame("pay", ["age", "pay"], train_data_frame=frame())
    many = pd.concat([frame()] * 20, ignore_index=True).assign(paid=lambda them: them.pay.map({"a": "yes", "b": "no"}))
    with pytest.warns(DataWarning, match="the column 'paid' tells 'pay' in other words"):
        TabularClassificationData.from_data_frame("pay", train_data_frame=many)
    numbers = {"size": list(range(60)), "price": [3.5 * place for place in range(60)]}
    TabularRegressionData.from_data_frame("price", train_data_frame=numbers)  # one by one, as all of them differ
    with pytest.raises(ConfigError, match=r"kinds=\{'age': 'numbr'\}: what a column is, is one of 'number'"):
        Row(kinds={"age": "numbr"})
    with pytest.raises(ConfigError, match=r"kinds: there is no column 'agee'; did you mean 'age'\?"):
        Row(kinds={"agee": "number"}).fitted([FINE])


def test_every_door_reads_the_same(tmp_path: Path) -> None:
    rows, labels = people(8)
    table = pd.DataFrame(rows).assign(pay=labels, who=np.arange(8) % 2)
    table.to_csv(tmp_path / "t.csv.gz", index=False)
    table.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    options: Any = {"group_field": "who"}
    found = {
        "frame": TabularClassificationData.from_data_frame("pay", train_data_frame=table, **options),
        "columns": TabularClassificationData.from_data_frame("pay", train_data_frame=table.to_dict("list"), **options),
        "dicts": TabularClassificationData.from_data_frame("pay", train_data_frame=table.to_dict("records"), **options),
        "lists": TabularClassificationData.from_lists(rows, labels),
        "csv": TabularClassificationData.from_csv("pay", train_file=tmp_path / "t.csv.gz", **options),
        "json": TabularClassificationData.from_json("pay", train_file=tmp_path / "t.jsonl", **options),
    }
    wanted = found["lists"].samples(found["lists"].table("train"), "train")  # type: ignore[arg-type]
    for name, data in found.items():
        read = data.example()
        assert data.modality == found["lists"].modality.fitted(rows), name
        assert data.classes == ("little", "much"), name
        assert all(torch.equal(leaf, found["lists"].example()[part]) for part, leaf in read.items()), name
    assert len(wanted) == 8
    groups: Any = {"a": (table.drop(columns=["pay", "who"]).head(5), [1, 2, 3, 4, 5.0]), "b": (rows[5:], [6, 7, 8.0])}
    few = TabularRegressionData.from_groups(train_groups=groups)
    assert all(torch.equal(leaf, few.example()[part]) for part, leaf in found["lists"].example().items())
    assert few.table("train").groups.tolist() == [0] * 5 + [1] * 3  # type: ignore[union-attr]
    predicted = TabularClassificationData.from_data_frame("pay", predict_data_frame=table.drop(columns="pay"))
    assert len(predicted.table("predict") or ()) == 8
    skipped = table.assign(pay=[None, *labels[1:]])
    with pytest.warns(DataWarning, match="left out row 0"):
        data = TabularClassificationData.from_data_frame("pay", train_data_frame=skipped, on_error="skip")
    assert [data.table("train").inputs[0].row] == [1]  # type: ignore[union-attr]


class Polars:
    """What is asked of a frame of polars."""

    columns = tuple(TRAIN)
    schema = ()

    def to_dict(self, as_series: bool = True) -> dict[str, list[Any]]:
        assert not as_series
        return TRAIN


class Lazy:
    """What is asked of one that was not computed."""

    collect = Polars


def test_frames_of_polars_are_taken_and_lazy_ones_told() -> None:
    data = TabularClassificationData.from_data_frame("pay", train_data_frame=Polars())
    theirs, ours = data.example(), TabularClassificationData.from_data_frame("pay", train_data_frame=TRAIN).example()
    assert all(torch.equal(leaf, ours[part]) for part, leaf in theirs.items())
    with pytest.raises(DataError, match=r"expected a table: .* not .*Lazy.*: type .collect\(\) behind it"):
        TabularClassificationData.from_data_frame("pay", train_data_frame=Lazy())


def test_a_backbone_that_is_made_for_the_data_can_be_kept_as_it_is() -> None:
    off: Any = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    found = []
    for epochs in (1, 2):
        torch.manual_seed(0)
        model = TabularClassifier()
        data = TabularClassificationData.from_lists(*people())
        Trainer(accelerator="cpu", max_epochs=epochs, **off).finetune(model, data, strategy="freeze")
        found.append([parameter.clone() for parameter in model.encoder.parameters()])
    assert all(map(torch.equal, *found))


def test_rows_are_embedded() -> None:
    rows, labels = people()
    data = TabularEmbeddingData.from_data_frame(train_data_frame=rows, input_fields=["age", "job"])
    assert "12 examples without classes" in repr(data)
    table = pd.DataFrame(rows).assign(pay=labels)
    data = TabularEmbeddingData.from_data_frame("pay", ["age", "job"], train_data_frame=table)
    model = TabularEmbedder(backbone="one_hot")
    model.meet(data, "fit")
    assert model.predictor().predict(rows).shape == (len(rows), 5), "age, whether it is missing, and three jobs"


@pytest.mark.dear
def test_the_command_line_takes_tables_of_several_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows, labels = people(24)
    table = pd.DataFrame(rows).assign(pay=labels)
    table.to_csv("train.csv", index=False)
    table.to_csv("few.csv.gz", index=False)
    words = "fit --task tabular_classification --data.train_file train.csv --data.target_fields pay --out runs/1"
    trainer = "--trainer.max_epochs 1 --trainer.enable_progress_bar false --trainer.accelerator cpu"
    assert main(f"{words} {trainer}".split()) == 0
    assert "--data.test_file test.csv" in capsys.readouterr().out
    assert main(["predict", "runs/1", "few.csv.gz", "--output", "said.csv"]) == 0
    table_said = pd.read_csv("said.csv")
    assert table_said.file.tolist() == [f"row {row}" for row in range(24)] and table_said.true.tolist() == labels
    assert "24 rows: 0 unknown, 0 unreadable" in capsys.readouterr().err
    assert main(["adapt", "mlp", "--support", "few.csv.gz", "--out", "new"]) == 2
    told = "has 5 columns, age, job, gain, since, pay: say which of them has the classes or numbers, --target_field pay"
    assert told in capsys.readouterr().err
    assert main(["adapt", "mlp", "--support", "few.csv.gz", "--target_field", "pay", "--out", "new"]) == 0
    assert "quickstudy predict new new.csv" in (said := capsys.readouterr().out) and "weights are random" in said
    assert "Learned 2 classes from 24 rows" in said
    assert main(["adapt", "runs/1", "--support", "few.csv.gz", "--out", "again"]) == 0, (
        "the column that the model does not know"
    )
    support = ["--support", "few.csv.gz", "--target_field", "pya"]
    for command in (
        ["export", "new", "new.onnx"],
        ["predict", "--checkpoint", "runs/1", "--data.predict_file", "few.csv.gz"],
    ):
        assert main([*command, *support]) == 2
        assert "no column 'pya'" in capsys.readouterr().err
    table.assign(age=["old", *table.age[1:]]).drop(columns="pay").to_csv("asked.csv", index=False)
    assert main(["predict", "new", "asked.csv", "--no-unknown"]) == 1
    out, err = capsys.readouterr()
    assert "unreadable: row 0, column 'age': 'old' is no number" in err and len(out.splitlines()) >= 24
    table.assign(age="old").drop(columns="pay").to_csv("asked.csv", index=False)
    assert main(["predict", "new", "asked.csv"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 6 and told[-1] == "24 of 24 rows could not be read; the first 5 are told above"
    table.rename(columns={"age": "aeg"}).to_csv("asked.csv", index=False)
    assert main(["predict", "new", "asked.csv"]) == 2
    assert "'asked.csv' lacks the column 'age'; did you mean 'aeg'?" in capsys.readouterr().err
