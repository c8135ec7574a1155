"""Texts as a domain: the doors of their data, tasks, and the predictor in the same words as for pictures."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from quickstudy import DataModule, Predictor, Trainer
from quickstudy.algorithms.linear_probe import LinearProbe
from quickstudy.cli import main
from quickstudy.data.frames import file_frame
from quickstudy.data.samples import TRANSFORMS, seeded
from quickstudy.errors import ConfigError, DataError, DataWarning
from quickstudy.serve.service import Service
from quickstudy.testing import check_domain
from quickstudy.text import (
    SmallTransformer,
    Text,
    TextClassificationData,
    TextClassifier,
    TextEmbedder,
    TextEmbeddingData,
    TextRegressionData,
    TextRegressor,
)
from quickstudy.text.tasks import TextData

TINY = {"vocabulary_size": 400, "width": 16, "layers": 1, "heads": 2}
WORDS = {
    "card": ["card", "plastic", "chip", "contactless"],
    "cash": ["cash", "machine", "withdraw", "notes"],
    "rate": ["rate", "exchange", "currency", "euros"],
}


def sentences(each: int = 6) -> tuple[list[str], list[str]]:
    """Return texts of several lengths, and what they are about."""
    generator = np.random.default_rng(0)
    texts, labels = [], []
    for name, words in WORDS.items():
        for _ in range(each):
            some = [
                *generator.choice(words, 2),
                *generator.choice(["my", "the", "is", "was"], generator.integers(1, 6)),
            ]
            texts.append(" ".join(generator.permutation(some)))
            labels.append(name)
    return texts, labels


def tiny() -> SmallTransformer:
    torch.manual_seed(0)
    return SmallTransformer(**TINY)


def quiet(**options: Any) -> Trainer:
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(accelerator="cpu", **off, **options)


def test_importing_it_brings_no_library() -> None:
    code = (
        "import sys, quickstudy.text.modality, quickstudy.text.nets, quickstudy.predictor\n"
        "assert not {'transformers', 'tokenizers', 'peft'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.dear("text", "modality", "testing")
def test_classes_of_texts_conform() -> None:
    check_domain(TextClassificationData, TextClassifier, *sentences(), backbone=tiny(), vocabulary_size=400)


@pytest.mark.dear("text", "modality", "testing")
def test_numbers_of_texts_conform() -> None:
    texts, labels = sentences()
    numbers = [list(WORDS).index(label) + len(text) / 50 for text, label in zip(texts, labels, strict=True)]
    check_domain(TextRegressionData, TextRegressor, texts, numbers, backbone=tiny(), vocabulary_size=400)


def write(place: Path, texts: list[str], labels: list[str]) -> dict[str, Path]:
    """Write a table in every form that is read; return the files by ending."""
    rows = [{"text": text, "kind": label} for text, label in zip(texts, labels, strict=True)]
    with (place / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "kind"), *zip(texts, labels, strict=True)])
    (place / "t.jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in rows), encoding="utf-8")
    (place / "t.json").write_text(json.dumps(rows), encoding="utf-8")
    for ending in ("csv", "jsonl"):
        (place / f"t.{ending}.gz").write_bytes(gzip.compress((place / f"t.{ending}").read_bytes()))
    exported = [labelled({"text": text}, kind=[label]) for text, label in zip(texts, labels, strict=True)]
    (place / "studio.json").write_text(json.dumps(exported), encoding="utf-8")
    return {name: place / name for name in ("t.csv", "t.jsonl", "t.json", "t.csv.gz", "t.jsonl.gz", "studio.json")}


def labelled(data: dict[str, Any], *, cancelled: bool = False, truth: bool = False, **chosen: list[str]) -> Any:
    """Return a task as Label Studio exports it."""
    result = [
        {"from_name": name, "to_name": "text", "type": "choices", "value": {"choices": choices}}
        for name, choices in chosen.items()
    ]
    return {
        "data": data,
        "annotations": [{"result": result, "was_cancelled": cancelled, "ground_truth": truth}],
        "predictions": [],
    }


class Named:
    """A data set of named columns, as Hugging Face's: of its columns, or by number a dict of its cells."""

    def __init__(self, names: list[str], **columns: Any) -> None:
        self.column_names, self._columns = list(columns), columns
        self.features = {
            "kind": SimpleNamespace(names=names),
            "kinds": SimpleNamespace(feature=SimpleNamespace(names=names)),
        }

    def __len__(self) -> int:
        return len(self._columns["text"])

    def __getitem__(self, key: Any) -> Any:
        return self._columns[key] if isinstance(key, str) else {name: own[key] for name, own in self._columns.items()}


def test_every_door_reads_the_same(tmp_path: Path) -> None:
    texts, labels = sentences(2)
    texts[0] = 'NA, "quoted" — 1,5'
    files = write(tmp_path, texts, labels)
    for number, (text, label) in enumerate(zip(texts, labels, strict=True)):
        file = tmp_path / "folders" / label / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    fields = {"input_field": "text", "target_fields": "kind"}
    found = {
        "lists": TextClassificationData.from_lists(texts, labels),
        "array": TextClassificationData.from_lists(np.array(texts), pd.Series(labels)),
        "frame": TextClassificationData.from_data_frame(
            train_data_frame=pd.DataFrame({"text": texts, "kind": labels}), **fields
        ),
        "folders": TextClassificationData.from_folders(tmp_path / "folders"),
        **{ending: TextClassificationData.from_csv(train_file=file, **fields) for ending, file in files.items()},
        "from_json": TextClassificationData.from_json(train_file=files["t.jsonl"], **fields),
        "columns": TextClassificationData.from_datasets(
            Named(list(WORDS), text=texts, kind=[list(WORDS).index(label) for label in labels]), **fields
        ),
    }
    wanted = Text().fitted(texts)
    for name, data in found.items():
        batch = next(iter(data.batch_loader("train")))
        table = data.table("train")
        assert table is not None
        assert data.modality == wanted, name
        assert data.classes == tuple(WORDS), name
        assert sorted(map(data.modality._read, table.inputs)) == sorted(texts), name
        assert batch[0]["ids"].shape == batch[0]["mask"].shape, name


def test_parquet_is_read(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"text": ["a b", "c d", "e"], "kind": [1, 2, 1], "kinds": [["x"], ["x", "y"], []]})
    frame.to_parquet(tmp_path / "t.parquet")
    one, several = (
        TextClassificationData.from_csv("text", field, train_file=tmp_path / "t.parquet").table("train")
        for field in ("kind", "kinds")
    )
    assert one is not None and one.targets is not None and several is not None
    assert (list(one.inputs), one.classes, one.targets.tolist()) == (["a b", "c d", "e"], ("1", "2"), [0, 1, 0])
    assert several.targets is not None and several.targets.tolist() == [[True, False], [True, True], [False, False]]
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"bad\.parquet' cannot be read as Parquet"):
        TextClassificationData.from_csv("text", "kind", train_file=tmp_path / "bad.parquet")


def test_what_several_people_chose_in_label_studio_is_one_answer(tmp_path: Path) -> None:
    def read(tasks: Any) -> Any:
        (tmp_path / "e.json").write_text(json.dumps(tasks))
        return file_frame(tmp_path / "e.json", None).to_dict("list")

    first, other = labelled({"text": "a"}, kind=["x"]), labelled({"text": "b"}, kind=["y"], truth=True)
    first["annotations"] += (
        labelled({}, kind=["y"])["annotations"] + labelled({}, kind=["z"], cancelled=True)["annotations"]
    )
    other["annotations"] += labelled({}, kind=["x"])["annotations"]
    assert read([first, other]) == {"text": ["a", "b"], "kind": ["y", "y"]}
    none, empty = labelled({"text": "c"}), {"data": {"text": "d"}, "annotations": []}
    several = read([first, labelled({"text": "b"}, kind=["x", "y"]), none, empty])
    assert several["kind"][:3] == [["y"], ["x", "y"], []] and several["kind"][3] != several["kind"][3]
    short = [{"text": "a", "kind": {"choices": ["x", "y"]}}, {"text": "b", "kind": "x"}]
    assert read(short[:1]) == {"text": ["a"], "kind": [["x", "y"]]}
    stars = {"from_name": "stars", "type": "rating", "value": {"rating": 4}}
    assert read([{"data": {"text": "a"}, "annotations": [{"result": [stars]}]}]) == {"text": ["a"], "stars": [4]}
    with pytest.raises(DataError, match="looks like an export of Label Studio and is none"):
        read([{"data": {"text": "a"}, "annotations": [None]}])
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"text,kind\na,b\n" * 99)[:30])
    with pytest.raises(DataError, match=r"cut\.csv\.gz' cannot be read as a CSV file: Compressed file ended"):
        file_frame(tmp_path / "cut.csv.gz", None)


def test_columns_of_a_data_set_are_named_and_so_are_its_classes() -> None:
    some = Named(["zeta", "alpha"], text=["a", "b", "c"], kind=[0, 1, -1], kinds=[[0], [0, 1], []])
    with pytest.raises(DataError, match=r"has columns: name them, input_field=, target_fields=\. It has: text, kind"):
        TextClassificationData.from_datasets(some)
    with pytest.raises(DataError, match="no column 'txt'; did you mean 'text'"):
        TextClassificationData.from_datasets(some, input_field="txt", target_fields="kind")
    with pytest.raises(DataError, match="target_fields is missing"):
        TextClassificationData.from_datasets(some, input_field="text")
    with pytest.raises(DataError, match="have the splits train, and none is called 'validation'"):
        TextClassificationData.from_datasets(val_dataset={"train": some}, input_field="text", target_fields="kinds")
    with pytest.warns(DataWarning, match="left out row 2"):  # of -1, which stands for no class
        kept = TextClassificationData.from_datasets(some, input_field="text", target_fields="kind", on_error="skip")
    assert kept.table("train").told == ["zeta", "alpha"]  # type: ignore[union-attr]
    several = TextClassificationData.from_datasets({"train": some}, input_field="text", target_fields="kinds")
    assert several.classes == ("alpha", "zeta")
    asked = TextClassificationData.from_datasets(predict_dataset=some, input_field="text").table("predict")
    assert asked is not None and list(asked.inputs) == ["a", "b", "c"]
    pixels = [torch.zeros(1, 4, 4), torch.ones(1, 4, 4)]
    pictures = Named(["zeta", "alpha"], text=pixels, kind=[0, 1])
    data = DataModule.from_datasets(pictures, input_field="text", target_fields="kind")
    assert (data.classes, data.table("train").inputs[1].sum()) == (("alpha", "zeta"), 16)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("of", "inputs"), [(TextClassificationData, ["a", "b"]), (DataModule, [torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])]
)
def test_a_column_of_a_data_set_may_say_the_groups(of: type[DataModule], inputs: list[Any]) -> None:
    some = Named(["zeta", "alpha"], text=[*inputs, *inputs], kind=[0, 1, 0, 1], speaker=["ann", "bob", "bob", "ann"])
    data = of.from_datasets(some, input_field="text", target_fields="kind", group_field="speaker")
    table = data.table("train")
    assert table is not None and table.origins is not None and table.origins.names == ("ann", "bob")


def test_several_labels_of_a_text_are_read_and_learned(tmp_path: Path) -> None:
    texts, labels = sentences(4)
    several = [[label, "all"] for label in labels]
    (tmp_path / "t.jsonl").write_text(
        "\n".join(json.dumps({"text": text, "kinds": own}) for text, own in zip(texts, several, strict=True))
    )
    data = TextClassificationData.from_json("text", "kinds", train_file=tmp_path / "t.jsonl", batch_size=12)
    assert data.classes == ("all", *WORDS)
    model = TextClassifier(None, "small_transformer", TINY, multi_label=True, learning_rate=0.01)
    quiet(max_epochs=30).fit(model, datamodule=data)
    answers = model.predictor().predict(texts)
    right = [sorted(answer) == sorted(own) for answer, own in zip(answers, several, strict=True)]
    assert sum(right) > 0.8 * len(right)
    model.predictor().save(tmp_path / "saved")
    asked = [json.dumps({"text": texts[0], "kinds": several[0]}), json.dumps({"text": texts[1], "kinds": []})]
    (tmp_path / "asked.jsonl").write_text("\n".join(asked))
    said = tmp_path / "said.csv"
    assert main(["predict", str(tmp_path / "saved"), str(tmp_path / "asked.jsonl"), "--output", str(said)]) == 0
    rows = list(csv.DictReader(said.read_text().splitlines()))
    assert [sorted(json.loads(row["label"])) for row in rows] == [sorted(answer) for answer in answers[:2]]
    assert [sorted(json.loads(row["true"])) for row in rows] == [sorted(several[0]), []]


def test_bad_rows_are_told_or_left_out(tmp_path: Path) -> None:
    texts, labels = sentences(2)[0], ["a", "b"] * 3
    bad = [*texts[:3], " ", None, "nul\0"]
    with pytest.raises(DataError, match=r"nothing in 2 rows: 3, 4.*on_error='skip'"):
        TextClassificationData.from_lists(bad, labels)
    with pytest.raises(DataError, match=r"^in the train data, text 5: 'nul\\x00' holds a NUL byte"):
        TextClassificationData.from_lists([*texts[:5], bad[5]], labels)
    with pytest.warns(DataWarning, match="left out 2 rows: 3, 4"):
        data = TextClassificationData.from_lists(bad, labels, on_error="skip")
    with pytest.warns(DataWarning, match="skipped 1 of 4 train examples that cannot be read, the first: .* NUL byte"):
        assert len(data.table("train") or ()) == 3
    frame = pd.DataFrame({"text": [*texts[:4], float("nan"), "\ud800"], "kind": labels}, dtype=object)
    with pytest.raises(DataError, match=r"nothing in row 4\..*column 'text'"):
        TextClassificationData.from_data_frame("text", "kind", train_data_frame=frame)


def test_what_it_reads_by_is_learned_or_the_backbone_s_own() -> None:
    texts, labels = sentences(4)
    data = TextClassificationData.from_lists(texts, labels, vocabulary_size=300, max_length=99)
    model = TextClassifier(backbone=tiny())
    assert model.load_options == {}
    quiet(fast_dev_run=True).fit(model, datamodule=data)
    assert model.load_options == {**data.load_options, "tokenizer": Text(vocabulary_size=300).fitted(texts).tokenizer}
    net = tiny()
    net.reads = {"name": "text", "options": {"tokenizer": data.load_options["tokenizer"]}}
    brought = TextClassifier(backbone=net)
    other = TextClassificationData.from_lists(texts[::2], labels[::2])
    quiet(fast_dev_run=True).fit(brought, datamodule=other)
    assert other.load_options == net.reads["options"]


def test_a_predictor_of_sentences_in_the_same_words(tmp_path: Path) -> None:
    texts, labels = sentences(5)
    predictor = Predictor.from_backbone("small_transformer", texts, labels, backbone_kwargs=TINY)
    assert predictor.modality == Text().fitted(texts)
    assert predictor.predict("contactless chip card", may_be_unknown=False) == ["card"]
    predictor.add_class("pin", ["forgot pin code", "pin code blocked", "pin blocked"])
    assert predictor.predict(["pin code blocked forgot"], may_be_unknown=False) == ["pin"]
    told = predictor.explain("withdraw notes cash machine")
    assert told.splitlines()[0].startswith("withdraw notes cash machine  (")
    assert sum(text in told for text in texts) >= 2
    predictor.save(tmp_path / "bank")
    again = Predictor.load(tmp_path / "bank")
    assert (again.predict_proba(texts) == predictor.predict_proba(texts)).all()
    again.export(tmp_path / "bank.onnx")
    with pytest.raises(DataError, match="text 1: '' is blank"):
        again.predict(["fine", ""])


def test_the_name_of_a_class_counts_as_an_example_of_it(tmp_path: Path) -> None:
    texts, labels = sentences(3)
    names = ["card", "cash_out"]
    torch.manual_seed(0)
    alone = Predictor.from_backbone("small_transformer", classes=names, backbone_kwargs=TINY)
    assert alone.counts_ == dict.fromkeys(names, 1)
    assert alone.predict(["card chip", "the cash"]) == names, "with one example of each nothing is unknown"
    same = Predictor.from_backbone(tiny(), ["card", "cash out"], names)
    assert (alone.predict_proba(texts) == same.predict_proba(texts)).all()
    alone.add_class("my_rate"), same.add_class("my_rate", "my rate")
    assert (alone.predict_proba(texts) == same.predict_proba(texts)).all()
    both = Predictor.from_backbone(tiny(), texts, labels, classes=["card", "rate", "card"])
    assert both.counts_ == {"card": 4, "cash": 3, "rate": 4}
    again = Predictor.from_backbone(tiny(), [*texts, "card", "rate"], [*labels, "card", "rate"])
    assert (both.predict_proba(texts) == again.predict_proba(texts)).all()
    assert TextClassifier(backbone=tiny()).adapt(classes=names).counts_ == alone.fit(classes=names).counts_
    alone.save(tmp_path / "bank")
    with Service(tmp_path / "bank") as service:
        assert service.teach("exchange_rate", []).result() == (1, ())
        with pytest.raises(DataError, match="no examples were given"):
            service.teach("exchange_rate", []).result()
    assert Predictor.load(tmp_path / "bank").counts_ == dict.fromkeys([*names, "exchange_rate"], 1)


def test_a_name_that_is_no_example_is_told() -> None:
    with pytest.raises(ConfigError, match=r"the name 'cat' alone tells nothing of pictures: show 1\.\.n examples"):
        Predictor.from_backbone("conv4", classes=["cat"])
    with pytest.raises(ConfigError, match=r"the name 3 is no word: show 1\.\.n examples"):
        Predictor.from_backbone(tiny(), sentences(1)[0], [1, 2, 2]).add_class(3)
    with pytest.raises(DataError, match="no examples were given"):
        Predictor.from_backbone(tiny())


def test_the_command_line_fits_and_predicts_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts, labels = sentences(8)
    write(tmp_path, texts, labels)
    words = "fit --task text_classification --data.train_file t.csv --data.input_field text --data.target_fields kind"
    net = "--model.backbone_kwargs.width 16 --model.backbone_kwargs.heads 2 --model.learning_rate 0.02"
    trainer = "--trainer.max_epochs 4 --trainer.enable_progress_bar false --trainer.accelerator cpu"
    assert main(f"{words} --data.batch_size 24 --data.max_length 20 {net} {trainer} --out runs/1".split()) == 0
    for name, text in (("1", "contactless chip card"), ("2", "the exchange rate")):
        Path(f"{name}.txt").write_text(text)
    assert "texts of each class are few for a network" in (said := capsys.readouterr().out)
    assert "quickstudy adapt minilm --support t.csv --input_field text --target_field kind --out model/" in said
    assert main(["predict", "runs/1", "1.txt", "2.txt"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["label"] for row in rows] == ["card", "rate"]
    assert "tokenizer" not in Path("runs/1/config.yaml").read_text()
    named = ["--classes", "card", "exchange_rate", "--max_length", "40", "--out", "names/"]
    assert main(["adapt", "small_transformer", *named]) == 0
    assert Predictor.load("names/").modality.settings["max_length"] == 40
    assert "Classes, with their texts: card 1, exchange_rate 1" in capsys.readouterr().out
    assert main(["adapt", "runs/1", "--support", "t.csv", "--classes", "card", "coin", "--out", "names/"]) == 0
    assert "card 9, cash 8, coin 1, rate 8" in capsys.readouterr().out
    assert main(["adapt", "small_transformer", "--out", "names/"]) == 2
    assert "--support is missing" in capsys.readouterr().err
    folder = Path("support")
    for number, (text, label) in enumerate(zip(texts, labels, strict=True)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{number}.txt").write_text(text)
    assert main(["adapt", "small_transformer", "--support", "support", "--out", "bank"]) == 0
    assert "24 texts" in capsys.readouterr().out
    assert main(["predict", "bank", "1.txt", "--no-unknown"]) == 0
    assert "card" in capsys.readouterr().out
    rows = [json.dumps({"text": text, "kind": label}) for text, label in zip(texts, labels, strict=True)]
    Path("few.jsonl").write_text("\n".join(rows))
    assert main(["adapt", "small_transformer", "--support", "few.jsonl", "--out", "again"]) == 0
    assert "24 texts" in capsys.readouterr().out
    # A table is one of texts, and not itself a text; where it has labels, they are compared.
    Path("asked.csv").write_text("text,is\ncontactless chip card,card\nthe exchange rate,rate\nthe euro,\n")
    assert main(["predict", "runs/1", "asked.csv", "--output", "said.csv"]) == 0
    rows = list(csv.DictReader(Path("said.csv").read_text().splitlines()))
    assert [(row["file"], row["label"], row["true"]) for row in rows] == [
        ("contactless chip card", "card", "card"),
        ("the exchange rate", "rate", "rate"),
        ("the euro", rows[2]["label"], ""),
    ]
    assert "3 texts: 0 unknown, 0 unreadable, 2 of 2 as their labels say (100.0%)" in capsys.readouterr().err
    Path("wide.csv").write_text("text,is,more\na,b,c\n")
    assert main(["predict", "runs/1", "wide.csv"]) == 2
    assert "has 3 columns, text, is, more: give one with the inputs alone" in capsys.readouterr().err


def test_a_domain_of_texts_is_a_data_module() -> None:
    assert issubclass(TextClassificationData, TextData)
    assert "2 examples" in repr(TextClassificationData.from_lists(["a b", "c"], ["x", "y"]))


def test_an_embedder_of_texts_learns_without_labels_and_with_them(tmp_path: Path) -> None:
    texts, labels = (part[::2] for part in sentences(12))
    others, theirs = (part[1::2] for part in sentences(12))
    unlabelled = TextEmbeddingData.from_lists(texts, batch_size=18, vocabulary_size=400)
    model = TextEmbedder(backbone=tiny(), training_strategy="simclr", learning_rate=0.01)
    before = model.encoder.backbone.norm.weight.clone()
    quiet(max_epochs=1).fit(model, datamodule=unlabelled)
    assert (model.encoder.backbone.norm.weight != before).any()
    assert model.predictor().predict(texts).shape == (18, 16)
    data = TextEmbeddingData.from_lists(texts, labels, val_texts=others, val_targets=theirs, batch_size=18)
    model = TextEmbedder(backbone=tiny(), learning_rate=0.01)
    quiet(max_epochs=15).fit(model, datamodule=data)
    assert quiet().validate(model, datamodule=data, verbose=False)[0]["val_knn_accuracy"] > 0.8
    probe = model.adapt(texts, labels, strategy="linear_probe", strategy_kwargs={"regularization": 0.1})
    assert isinstance(probe.knowledge.algorithm, LinearProbe)
    assert probe.knowledge.algorithm.options == {"regularization": 0.1}
    assert probe.score(others, theirs) > 0.8
    with pytest.raises(ConfigError, match="unknown training_strategy 'linear_prob'; did you mean 'linear_probe'"):
        model.adapt(texts, labels, strategy="linear_prob")
    with pytest.raises(ConfigError, match="'regularization'"):
        model.adapt(texts, labels, strategy_kwargs={"regularization": 0.1})


def test_views_of_a_text_are_ready_made() -> None:
    text = {"ids": torch.arange(1, 1001), "mask": torch.ones(1000, dtype=torch.bool)}
    assert TRANSFORMS[Text.views](text) is text, "its views differ by the network's dropout"
    with seeded((0, 1)):
        shorter = TRANSFORMS["delete_tokens"](text)
    with seeded((0, 1)):
        again = TRANSFORMS["delete_tokens"](text)
    assert (shorter["ids"] == again["ids"]).all()
    assert 850 < len(shorter["ids"]) < 950 and len(shorter["mask"]) == len(shorter["ids"])
    assert shorter["ids"][[0, -1]].tolist() == [1, 1000] and (shorter["ids"].diff() > 0).all()
    windows = {name: leaf.view(2, 500) for name, leaf in text.items()}
    fewer = TRANSFORMS["delete_tokens"](windows)
    assert len(fewer["ids"]) == 2 and 400 < fewer["ids"].shape[1] < 500 and fewer["ids"].shape == fewer["mask"].shape
