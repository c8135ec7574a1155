"""The command line, from made-up pictures to predictions: mostly within this process, which has torch already."""

from __future__ import annotations

import csv
import importlib.util
import itertools
import json
import random
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Union

import pytest
import torch
import yaml
from PIL import Image, ImageDraw

from quickstudy import Trainer, __version__
from quickstudy.cli import listing, main
from quickstudy.cli.describing import strategies_page
from quickstudy.cli.fit import command_to_test
from quickstudy.cli.flags import FlagParser, add_flags, class_flags, function_flags
from quickstudy.cli.runs import build_data
from quickstudy.data.table import Splits, Table
from quickstudy.datasets import DATASETS
from quickstudy.errors import ConfigError, DataError, DataWarning
from quickstudy.image import ImageClassificationData, ImageClassifier
from versions import NAMES_NULL_LAST

SPLITS = {"train": 4, "val": 2, "test": 2}
SMALL = "--data.image_size 28 --model.backbone conv4 --trainer.accelerator cpu --trainer.max_epochs 1"
EPISODES = "ways: 3, queries: 4, test_ways: 2, epoch_length: 4, meta_batch_size: 2, test_epoch_length: 6"
FIGURES = ("run.json", "metrics.csv", "events", "curves.png", "report.html")
FEW_SHOT = f"--model.training_strategy prototypicalnetworks --model.training_strategy_kwargs '{{{EPISODES}}}'"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 classes of 12 pictures, in folders for training, validation and test; and a CSV file of those to test."""
    root, chance, codes = tmp_path_factory.mktemp("cli"), random.Random(0), iter(range(8))
    for split, count in SPLITS.items():
        for code in itertools.islice(codes, count):
            (root / split / f"class{code}").mkdir(parents=True)
            for number in range(12):
                picture = Image.new("RGB", (28, 28))
                corners = [3 * code, chance.randint(0, 8), 27, chance.randint(8, 27)]
                ImageDraw.Draw(picture).rectangle(corners, fill=(30 * code, 200, 240 - 30 * code))
                picture.save(root / split / f"class{code}" / f"{number}.png")
    rows = [f"{path.relative_to(root)},{path.parent.name}" for path in sorted((root / "test").rglob("*.png"))]
    (root / "test.csv").write_text("\n".join(["picture,class", *rows]), encoding="utf-8")
    return root


@pytest.fixture(scope="module", autouse=True)
def here(folder: Path) -> Iterator[None]:
    """Work in the folder; and forget the seed that Lightning leaves in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PL_GLOBAL_SEED", "0")
        yield


@pytest.fixture(scope="module")
def few_shot(folder: Path) -> Path:
    """The run folder of prototypical networks."""
    data = "--data.train_folder train --data.val_folder val --data.test_folder test"
    assert main(shlex.split(f"fit {data} {SMALL} {FEW_SHOT}")) == 0
    return Path("runs/1")


@pytest.fixture(scope="module")
def fixed(folder: Path) -> Path:
    """The run folder of an ordinary classifier, without validation data."""
    assert main(shlex.split(f"fit --data.train_folder train {SMALL} --out ordinary")) == 0
    return Path("ordinary")


def in_folder(folder: Path) -> set[str]:
    """Return the names in a run's folder, those of TensorBoard's files as one."""
    return {path.name.split(".out.")[0] for path in folder.iterdir()}


def said(capsys: pytest.CaptureFixture[str], command: str, code: int = 0) -> str:
    """Run a command, check its exit code, and return what it printed; of one that fails, its line on stderr."""
    assert main(shlex.split(command)) == code
    out, err = capsys.readouterr()
    return err if code else out


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from quickstudy.cli import main; codes = [main([]), main(['--help']), main(['list', '--help'])]; "
        "print(codes, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.endswith("[0, 0, 0] False\n")
    assert done.stdout.count("quickstudy COMMAND --help") == 2


def test_a_reader_who_has_gone_is_no_error() -> None:
    code = (
        "import sys; from quickstudy.cli import listing, main; listing.run = lambda args: print('x' * 100_000) or 0; "
        "sys.exit(main(['list']))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--version") == f"quickstudy {__version__}\n"


# ---- fit


def test_a_run_folder_holds_the_run(few_shot: Path) -> None:
    assert in_folder(few_shot) == {"config.yaml", "best.ckpt", "last.ckpt", *FIGURES}
    with (few_shot / "metrics.csv").open(encoding="utf-8") as file:
        assert any(row["val_accuracy"] for row in csv.DictReader(file))
    config = yaml.safe_load((few_shot / "config.yaml").read_text(encoding="utf-8"))
    assert config["data"] == {"train_folder": "train", "val_folder": "val", "test_folder": "test", "image_size": 28}
    assert config["model"]["training_strategy_kwargs"] == yaml.safe_load(f"{{{EPISODES}}}")


def test_the_yaml_is_the_run(few_shot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = said(capsys, f"fit --config {few_shot / 'config.yaml'} --trainer.max_epochs 2 --print_config")
    Path("again.yaml").write_text(printed, encoding="utf-8")
    out = said(capsys, "fit --config again.yaml --trainer.max_epochs 1")
    assert "epoch 1/1" in out and "best checkpoint: runs/2/best.ckpt (val_accuracy " in out
    assert Path("runs/2/config.yaml").read_text() == (few_shot / "config.yaml").read_text()
    weights = [
        torch.load(folder / "last.ckpt", weights_only=True)["state_dict"] for folder in (few_shot, Path("runs/2"))
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_fit_prints_the_command_that_tests_it(capsys: pytest.CaptureFixture[str]) -> None:
    # An explicit null where null is not the default; and a callback by its name.
    further = "--trainer.check_val_every_n_epoch null --trainer.val_check_interval 3 --strategy freeze "
    further += "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor val_accuracy"
    data = "--data.train_folder train --data.val_split 0.25 --data.cache false"
    out = said(capsys, f"fit {data} {SMALL} --out 'a run' {further}")
    config = yaml.safe_load(Path("a run/config.yaml").read_text(encoding="utf-8"))
    assert config["trainer"]["check_val_every_n_epoch"] is None and "out" not in config
    assert config["trainer"]["callbacks"][0]["init_args"]["monitor"] == "val_accuracy"
    command = out.splitlines()[-1].removeprefix("test it: quickstudy ")
    assert command == "test --checkpoint 'a run/best.ckpt' --data.test_folder test/ --data.cache false"
    trained, chosen = "trained on at least 36 of the 48 examples", "at least 12 of the 48 examples of this test chose"
    with pytest.warns(DataWarning, match=trained), pytest.warns(DataWarning, match=chosen):
        told = said(capsys, command.replace("test/", "train"))
    assert " on 48 examples of 4 classes, at least 36 of which it was trained on, at least 12 of which chose it" in told


def test_the_command_that_tests_repeats_what_the_data_needs() -> None:
    end = "quickstudy test --checkpoint a.ckpt "
    data = {"train_folder": "train", "val_split": 0.2, "test_folder": "a b", "image_size": 28, "num_workers": 2}
    assert command_to_test(Path("a.ckpt"), data) == f"{end}--data.test_folder 'a b' --data.num_workers 2"
    data = {"train_file": "a.csv", "input_field": "path", "target_fields": ["x", "y"]}
    told = '--data.test_file test.csv --data.input_field path --data.target_fields \'["x", "y"]\''
    assert command_to_test(Path("a.ckpt"), data) == end + told
    data = {"name": "omniglot", "rotations": True, "root": None, "image_size": 28}
    assert command_to_test(Path("a.ckpt"), data) == f"{end}--data.name omniglot --data.rotations true"


def test_without_validation_data_the_last_checkpoint_counts(fixed: Path) -> None:
    assert in_folder(fixed) == {"config.yaml", "last.ckpt", *FIGURES}


# ---- test and predict


def test_test_says_all_in_one_line(few_shot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = said(capsys, f"test --checkpoint {few_shot}/best.ckpt --data.test_folder test")
    assert line.startswith("accuracy ") and line.count("\n") == 1
    over = "% (95% interval) over 6 episodes, 2-way 1-shot with 4 queries per class, inductive; guessing: 50.00%"
    assert over in line
    told = said(capsys, f"test --checkpoint {few_shot}/best.ckpt --data.test_folder test --per_class").splitlines()
    assert f"{told[0]}\n" == line and {words.split()[0] for words in told[1:3]} == {"class6", "class7"}
    of_a_class = r"of \d+ class\d, \d+ were answered class\d"
    assert len(told) <= 6 and all(re.fullmatch(of_a_class, words) for words in told[3:])


def test_what_was_measured_can_be_verified(few_shot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = said(capsys, f"test --checkpoint {few_shot}/best.ckpt --data.test_folder test --test_epoch_length 9")
    assert said(capsys, f"verify {few_shot}") == f"recorded: {line}now:      {line}the same\n"
    path = few_shot / "test.json"
    recorded = json.loads(path.read_text(encoding="utf-8"))
    recorded["versions"]["torch"] = "1.0"
    recorded["result"] |= {"accuracy": recorded["result"]["accuracy"] - 0.2, "data": "other"}
    path.write_text(json.dumps(recorded), encoding="utf-8")
    assert main(["verify", str(few_shot)]) == 1
    told = capsys.readouterr().out
    assert f"torch was 1.0, and is {version('torch')}\nthe test data is not the same\nNOT the same\n" in told
    recorded = json.loads(said(capsys, f"test --checkpoint {few_shot}/best.ckpt --data.test_folder test --json"))
    kept = json.loads(path.read_text(encoding="utf-8"))
    figures = kept["result"]["per_class"]["class6"]
    assert recorded["per_class"]["class6"] == figures and recorded["notes"] == kept["result"]["notes"] != []
    figures["accuracy"] += 0.5
    path.write_text(json.dumps(kept), encoding="utf-8")
    assert main(["verify", str(few_shot)]) == 1
    told = capsys.readouterr().out
    assert "class6 was " in told and "NOT the same" in told
    for name in ("per_class", "notes", "confusions", "classes", "accuracy_ci95_classes"):  # of an earlier version
        del kept["result"][name]
    path.write_text(json.dumps(kept), encoding="utf-8")
    assert said(capsys, f"verify {few_shot}").endswith("\nthe same\n")
    path.write_text("{", encoding="utf-8")
    assert "test.json' is damaged" in said(capsys, f"verify {few_shot}", code=2)
    path.unlink()
    told = said(capsys, f"verify {few_shot}", code=2)
    assert f"was not tested yet: measure it first, quickstudy test --checkpoint {few_shot}/best.ckpt --data" in told
    assert "there is no folder 'nowhere'" in said(capsys, "verify nowhere", code=2)


def test_runs_are_compared_on_the_same_episodes(few_shot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, folders = "--data.test_folder test --test_epoch_length 20", [few_shot, Path("other"), Path("third")]
    for number, folder in enumerate(folders[1:], 1):
        shutil.copytree(few_shot, folder)
        weights = torch.load(folder / "best.ckpt", weights_only=True)
        for value in weights["state_dict"].values():
            if value.ndim > 1:
                value.normal_(generator=torch.Generator().manual_seed(number))
        torch.save(weights, folder / "best.ckpt")
    for folder in folders:
        said(capsys, f"test --checkpoint {folder}/best.ckpt {data}")
    told = said(capsys, f"compare {few_shot} other third").splitlines()
    assert [line.split()[0] for line in told] == [str(few_shot), "other", "third", "other", "third"]
    assert told[3].startswith(f"other against {few_shot}: ") and "paired over 20 episodes" in told[3]
    found = json.loads(said(capsys, f"compare {few_shot} other/best.ckpt --json"))
    kept = [json.loads((folder / "test.json").read_text(encoding="utf-8"))["result"] for folder in folders]
    assert found["others"][0]["mean"] == pytest.approx(kept[1]["accuracy"] - kept[0]["accuracy"], abs=1e-6)
    assert found["others"][0]["ci95_classes"] is None and found["others"][0]["units"] == 20
    assert "takes two runs or more: quickstudy compare runs/1 runs/2" in said(capsys, f"compare {few_shot}", code=2)
    assert "there is no folder 'nowhere'" in said(capsys, f"compare {few_shot} nowhere", code=2)
    said(capsys, "test --checkpoint other/best.ckpt --data.test_folder test --test_shots 2")
    told = said(capsys, f"compare {few_shot} other", code=2)
    assert "cannot be compared: one was tested on 2-way 1-shot, 4 queries" in told
    command = told[told.index("Test both alike: ") :].removeprefix("Test both alike: quickstudy ")
    assert "--test_shots 1" in command and "--seed 0" in command
    said(capsys, command)
    assert said(capsys, f"compare {few_shot} other")
    (folders[2] / "test.safetensors").unlink()
    assert "kept no figures of single episodes" in said(capsys, f"compare {few_shot} third", code=2)
    shutil.copy("other/test.safetensors", "third/test.safetensors")
    said(capsys, "test --checkpoint other/best.ckpt --data.test_folder test --test_epoch_length 5")
    shutil.copy("other/test.safetensors", "third/test.safetensors")
    assert "is not of the test that 'third/test.json' tells of" in said(capsys, f"compare {few_shot} third", code=2)


def test_a_folder_that_cannot_be_written_costs_no_figure(
    few_shot: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("quickstudy.cli.test.write_measured", full)
    with pytest.warns(DataWarning, match="does not keep what was measured: no space left"):
        assert said(capsys, f"test --checkpoint {few_shot}/best.ckpt --data.test_folder test").startswith("accuracy ")


def test_a_run_is_tested_by_its_folder(few_shot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--data.test_folder test --json"
    by_file, by_option, by_run = (
        said(capsys, f"test {each} {options}")
        for each in (few_shot / "best.ckpt", f"--checkpoint {few_shot}/", few_shot)
    )
    assert by_run == by_option == by_file and json.loads(by_run)["checkpoint"] == "runs/1/best.ckpt"
    assert "the same\n" in said(capsys, f"verify {few_shot}/best.ckpt")
    (few_shot / "test.json").unlink()
    files = "--data.predict_file test.csv --data.input_field picture --support val"
    by_file, by_run = (
        said(capsys, f"predict {each} {files}") for each in (f"--checkpoint {few_shot}/best.ckpt", few_shot)
    )
    assert by_run == by_file


def test_test_takes_other_episodes_and_prints_json(few_shot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = "--data.test_file test.csv --data.input_field picture --data.target_fields class"
    episodes = "--test_shots 3 --test_epoch_length 7 --test_queries 2"
    result = json.loads(said(capsys, f"test --checkpoint {few_shot}/best.ckpt {data} {episodes} --json"))
    assert (result["ways"], result["shots"], result["queries"], result["episodes"]) == (2, 3, 2, 7)
    assert result["transductive"] is False and 0 <= result["accuracy"] <= 1 and result["accuracy_ci95"] >= 0
    single = said(capsys, f"test --checkpoint {few_shot}/best.ckpt {data} --test_epoch_length 1 --json")
    assert json.loads(single)["accuracy_ci95"] is None


def test_predict_with_fixed_classes(fixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = said(capsys, f"predict --checkpoint {fixed}/last.ckpt --data.predict_folder test")
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["file"] for row in rows] == [str(path) for path in sorted(Path("test").rglob("*.png"), key=str)]
    assert all(row["label"] in {"class0", "class1", "class2", "class3"} for row in rows)
    assert all(0.25 <= float(row["probability"]) <= 1 for row in rows)


def test_predict_with_a_support_set(few_shot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = "--data.predict_file test.csv --data.input_field picture"
    command = f"predict --checkpoint {few_shot}/best.ckpt {files} --support val --format json --output out/labels.json"
    assert said(capsys, command) == ""
    rows = json.loads(Path("out/labels.json").read_text(encoding="utf-8"))
    assert len(rows) == 24 and {row["label"] for row in rows} <= {"class4", "class5"}
    assert list(rows[0]) == ["file", "label", "probability", "likeliest"]
    assert all(row["likeliest"] == row["label"] for row in rows)
    message = said(capsys, f"predict --checkpoint {few_shot}/best.ckpt {files}", code=2)
    assert "trained with 'prototypicalnetworks'" in message and "--support FOLDER" in message


def test_labels_of_a_csv_file_are_held_against_the_answers(fixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [path for code in (0, 3) for path in sorted(Path(f"train/class{code}").iterdir())[:3]]
    lines = ["picture,class", *(f"{path},{path.parent.name}" for path in files), "test/class6/0.png,other"]
    Path("few.csv").write_text("\n".join(lines), encoding="utf-8")
    command = f"predict {fixed} --data.predict_file few.csv --data.input_field picture"
    with pytest.warns(DataWarning, match="trained on at least 6 of the 7 examples"):
        rows = list(csv.DictReader(said(capsys, f"{command} --data.target_fields class").splitlines()))
    assert [row["true"] for row in rows] == ["class0"] * 3 + ["class3"] * 3 + ["other"]
    Path("few.csv").write_text("\n".join([*lines[:-1], "test/class6/0.png,"]), encoding="utf-8")
    with pytest.warns(DataWarning, match="trained on at least 6 of the 7 examples"):
        plain = said(capsys, command)  # without labels, or where one is missing: as the folders are called
        assert said(capsys, f"{command} --data.target_fields class") == plain
    assert [row["true"] for row in csv.DictReader(plain.splitlines())] == ["class0"] * 3 + ["class3"] * 3 + ["class6"]
    assert [row["label"] for row in csv.DictReader(plain.splitlines())] == [row["label"] for row in rows]


def test_predict_with_fixed_classes_and_a_support_set(fixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = said(capsys, f"predict --checkpoint {fixed}/last.ckpt --data.predict_folder test --support val")
    assert {row["label"] for row in csv.DictReader(table.splitlines())} <= {"class4", "class5"}


# ---- list


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("strategies", "prototypicalnetworks"),
        ("backbones", "resnet18"),
        ("datasets", "glyphs"),
        ("optimizers", "Adam"),
        ("schedulers", "StepLR"),
        ("transforms", "flip_crop"),
    ],
)
def test_list(kind: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert name in said(capsys, f"list {kind}").splitlines()
    assert f"\n  {name}\n" in said(capsys, f"list --match {name.upper()}")


def test_list_matches_globs_and_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "list backbones --match resnet1?").splitlines() == ["resnet12", "resnet18"]
    assert "quickstudy list backbones" in said(capsys, "list")
    assert "seresnet50" in said(capsys, "list backbones --match ResNet50").splitlines()


def test_list_marks_backbones_whose_weights_are_at_hand(capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, "list backbones --match *efficientnet_lite0").splitlines()
    assert told == ["efficientnet_lite0  (trained weights at hand)", "tf_efficientnet_lite0"]


def test_list_names_the_purposes_of_backbones(capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, "list backbones").splitlines()
    assert [line.split("  (pretrained; images: ")[0] for line in told[:3]] == ["fast", "balanced", "best"]
    assert told[0] == "fast  (pretrained; images: efficientnet_lite0, texts: minilm)"
    assert said(capsys, "list backbones --match BEST").splitlines() == told[2:3]
    assert "did you mean 'best'?" in said(capsys, "list backbones --match beste", code=2)


def test_list_names_backbones_at_hand_alone(capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, "list backbones --offline").splitlines()
    assert all(" at hand)" in line for line in told)
    assert told[0] == "fast  (images: efficientnet_lite0, texts: minilm; at hand)"
    assert said(capsys, "list --offline").splitlines() == told
    marked = "efficientnet_lite0  (trained weights at hand)"
    assert said(capsys, "list backbones --offline --match lite0").splitlines()[0] == marked in told
    assert "no trained weights are at hand" in said(capsys, "list backbones --offline --match resnet12", code=2)
    assert "list backbones --offline" in said(capsys, "list strategies --offline", code=2)


def test_a_training_that_cannot_draw_episodes_leaves_no_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in "abcdefghij":
        for number in range(16):
            path = tmp_path / "ten" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8)).save(path)
    monkeypatch.chdir(tmp_path)
    few_shot = "--data.train_folder ten --data.val_split 0.2 --model.training_strategy prototypicalnetworks"
    few_shot += " --model.training_strategy_kwargs.ways 5"
    told = said(capsys, f"fit {few_shot} --model.backbone conv4 --trainer.max_epochs 1", code=2)
    assert "(on the command line: --model.training_strategy_kwargs.test_ways 2)" in told
    assert "Or divide the 10 classes by val_split=0.5 (--data.val_split 0.5)" in " ".join(told.split())
    assert not Path("runs").exists()
    data = ImageClassificationData.from_folders(train_folder="ten", val_split=0.2, image_size=8)
    model = ImageClassifier(
        backbone="conv4", training_strategy="prototypicalnetworks", training_strategy_kwargs={"ways": 5}
    )
    trainer = Trainer(max_epochs=1, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    with pytest.raises(DataError, match="5-way episodes need at least 5 classes; the val data has 2"):
        trainer.fit(model, data)
    assert not Path("runs").exists() and trainer.run_folder is None


def test_a_strategy_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, "list strategies metasgd")
    assert "Li et al. 2017" in told
    assert "- `adaptation_steps=1`: gradient steps in training.\n" in told
    assert "- `task_chunk=None`: " in told
    assert "Transductive" in said(capsys, "list strategies tim")
    assert "takes no options" in said(capsys, "list strategies default")


def test_the_page_of_strategies_is_that_of_the_code() -> None:
    page = Path(__file__).parents[1] / "docs" / "strategies.md"
    assert page.read_text(encoding="utf-8") == strategies_page(), "type: make docs"


# ---- errors


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("lst", "unknown command 'lst'; did you mean 'list'?"),
        ("--verson", "there is no option '--verson'; did you mean '--version'?"),
        ("list backbone", "unknown kind 'backbone'; did you mean 'backbones'?"),
        ("list strategies protonets", "did you mean 'prototypicalnetworks'?"),
        (
            "list backbones resnet18",
            "only strategies and methods are described. Type: quickstudy list backbones --match resnet18",
        ),
        ("list backbones --match resnest12", "no name matches 'resnest12'; did you mean 'resnet12'?"),
        ("fit --epochs 3", "there is no option '--epochs'; did you mean '--trainer.max_epochs'?"),
        (
            "export pets/ --out pets.onnx",
            "there is no option '--out': FILE stands without one, as in quickstudy export MODEL FILE. See",
        ),
        ("test runs/1 --model.nonsense 3", "there is no option '--model.nonsense'"),
        (
            "test runs/1 --model.training_strategy_kwargs.test_epoch_length=9",
            "there is no option '--model.training_strategy_kwargs.test_epoch_length'; "
            "did you mean '--test_epoch_length'?",
        ),
        ("adapt runs/1 --model.nonsense 3", "there is no option '--model.nonsense'"),
        ("predict runs/1 --data.predict_folder x --model.nonsense 3", "there is no option '--model.nonsense'"),
        ("ladder photos/ --folder.nonsense 3", "there is no option '--folder.nonsense'"),
        ("fit --model.backbone.width 3", "there is no option '--model.backbone.width'"),
        ("fit --lr 0.1", "there is no option '--lr'; did you mean '--model.learning_rate'?"),
        ("fit --imagesize 84", "there is no option '--imagesize'; did you mean '--data.image_size'?"),
        ("list --mach x", "there is no option '--mach'; did you mean '--match'?"),
        ("fit --data.train_foldr x", "there is no option '--data.train_foldr'; did you mean '--data.train_folder'?"),
        ("fit --config bad.yaml", "there is no option 'model.backbon'; did you mean 'model.backbone'?"),
        ("fit --config none.yaml", "--config: File does not exist"),
        ("fit --trainer.max_epochs many", "--trainer.max_epochs: expected int or null, not 'many'"),
        ("fit --data.on_error explode", "--data.on_error: expected 'raise', 'skip', not 'explode'"),
        ("fit --trainer.callbacks+=Early", "--trainer.callbacks: expected dot import path string or null, not 'Early'"),
        ("fit --model.learning_rate", "--model.learning_rate: expected one argument"),
        ("fit train", "cannot use 'train': options start with --"),
        ("fit --data.train_folder train", "for how long? Give --trainer.max_epochs 20"),
        (f"fit {SMALL}", "no data was given"),
        (
            f"fit {SMALL} --data.train_folder train --data.name omniglot",
            "--data.train_folder (from folders) and --data.name",
        ),
        (f"fit {SMALL} --data.root here", "--data.root needs --data.name too"),
        (f"fit {SMALL} --data.train_folder nowhere", "there is no folder or archive 'nowhere'"),
        (
            f"fit {SMALL} --data.train_folder train --model.backbone conv5",
            "unknown backbone 'conv5'; did you mean 'conv4'?",
        ),
        (f"fit {SMALL} --data.train_folder train --out test", "--out 'test' is not empty: name a new folder"),
        (f"fit {SMALL} --data.train_folder train --trainer.precision 8", "--trainer.precision: expected 64, 32, 16"),
        (
            f"fit {SMALL} --data.train_folder train --trainer.accelerator warp --out w",
            "--trainer: You selected an invalid",
        ),
        (f"fit {SMALL} --data.train_folder train --ckpt_path none.ckpt --out c", "none.ckpt"),
        ("test --data.test_folder test", "MODEL or --checkpoint is missing: a run's folder"),
        ("test --data.test_folder test --checkpoint none.ckpt", "there is no checkpoint 'none.ckpt'"),
        (
            "test --data.test_folder test --checkpoint ordinary/last.ckpt --test_ways 3",
            "takes no training_strategy_kwargs",
        ),
        ("predict --checkpoint ordinary/last.ckpt --data.image_size 28", "no data was given"),
        ("predict --checkpoint ordinary/last.ckpt --data.input_field picture", "no data was given"),
    ],
)
def test_errors_are_one_line(command: str, message: str, fixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.yaml").write_text("model: {backbon: conv4}", encoding="utf-8")
    line = said(capsys, command, code=2).splitlines()[-1]
    if not NAMES_NULL_LAST:
        line, message = (re.sub("null or | or null", "", text) for text in (line, message))
    assert line.startswith("error: ") and message in line


def test_a_whole_number_stays_one_in_whatever_order_types_stand() -> None:
    def options(steps: float | int | None = None) -> None: ...

    options.__annotations__["steps"] = Union[float, int, None]  # noqa: UP007
    parser = FlagParser.for_command("some", "some")
    add_flags(parser, function_flags(options), "some")
    assert repr(parser.parse_args(["--steps", "3"]).steps) == "3"
    assert repr(parser.parse_args(["--steps", "0.5"]).steps) == "0.5"


def test_a_run_that_failed_at_once_leaves_its_folder_free(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"fit --data.train_folder train {SMALL} --model.optimizer"
    assert "train data" in said(capsys, f"fit --data.test_folder test {SMALL} --out retried", code=2)
    assert in_folder(Path("retried")) <= {"config.yaml", "events"}
    assert main(shlex.split(f"{command} SGD --model.learning_rate 0.01 --out retried")) == 0
    assert Path("retried/last.ckpt").exists()


def test_a_run_goes_on_in_its_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"fit --data.train_folder train {SMALL} --strategy '[freeze_unfreeze, 1]'"
    for epochs, more in ((1, ""), (3, "--trainer.resume auto")):
        assert main(shlex.split(f"{command} --trainer.max_epochs {epochs} --out going {more}")) == 0
    assert main(shlex.split(f"{command} --trainer.max_epochs 3 --out straight")) == 0
    assert in_folder(Path("going")) == {"config.yaml", "last.ckpt", "previous.ckpt", *FIGURES}
    going, straight = (torch.load(f"{name}/last.ckpt")["state_dict"] for name in ("going", "straight"))
    assert all(torch.equal(value, going[name]) for name, value in straight.items())
    written = [Path(name, "metrics.csv").read_text(encoding="utf-8") for name in ("going", "straight")]
    rows = [list(csv.DictReader(text.splitlines())) for text in written]
    assert [row["epoch"] for row in rows[0]] == [row["epoch"] for row in rows[1]]
    line = said(capsys, f"{command} --trainer.resume auto", code=2)
    assert "name its folder, --out runs/1" in line
    assert "name its folder, --out runs/1" in said(capsys, f"{command} --ckpt_path last", code=2)
    assert main(shlex.split(f"{command} --trainer.max_epochs 2 --trainer.default_root_dir elsewhere")) == 0
    assert in_folder(Path("elsewhere/1")) == {"config.yaml", "last.ckpt", "previous.ckpt", *FIGURES}


def test_what_nobody_foresaw_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(args: Any) -> int:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(listing, "run", broken)
    line = said(capsys, "list", code=1)
    assert line.startswith("error: RuntimeError: two lines (unforeseen; to see where")
    assert line.count("\n") == 1
    assert "Traceback" in said(capsys, "list --debug", code=1)


def test_a_terminated_run_says_so(few_shot: Path) -> None:
    options = "--data.train_folder train --data.image_size 28 --model.backbone conv4 --trainer.accelerator cpu"
    words = shlex.split(f"{options} --trainer.max_epochs 100000 --out stopped")
    process = subprocess.Popen(
        [sys.executable, "-m", "quickstudy", "fit", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            process.terminate()
            break
    rest, _ = process.communicate(timeout=300)
    assert process.returncode == 143, rest
    assert Path("stopped/last.ckpt").exists()


def test_debug_shows_where_an_error_comes_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, "lst", code=2).count("\n") == 1
    assert "Traceback" in said(capsys, "lst --debug", code=2)
    monkeypatch.setenv("QUICKSTUDY_DEBUG", "1")
    assert "Traceback" in said(capsys, "lst", code=2)


def test_warnings_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def warned(args: Any) -> int:  # pytest keeps the warnings themselves to itself
        print(warnings.formatwarning("careful", UserWarning, "file.py", 1), end="")
        return 0

    monkeypatch.setattr(listing, "run", warned)
    shown = warnings.formatwarning
    assert said(capsys, "list") == "warning: careful\n"
    assert warnings.formatwarning is shown


def test_ctrl_c_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(args: Any) -> int:
        raise KeyboardInterrupt

    def stopped_in_lightning(args: Any) -> int:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    for run in (stopped, stopped_in_lightning):
        monkeypatch.setattr(listing, "run", run)
        assert said(capsys, "list", code=130) == ""


def test_how_a_benchmarks_process_ended_is_told() -> None:
    spec = importlib.util.spec_from_file_location("record", Path(__file__).parents[1] / "benchmarks" / "record.py")
    assert spec is not None and spec.loader is not None
    record = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(record)
    assert record.how_it_failed(1) == "failed; its error is above"
    assert record.how_it_failed(-9).startswith("was ended by SIGKILL, most often by the kernel as memory ran out")
    assert record.how_it_failed(-11) == "was ended by SIGSEGV"


# ---- from signatures to flags


def dots(root: str | None = None, *, image_size: int = 8, rows: Literal[1, 2] = 1) -> Splits:
    """Make a data set up.

    Args:
        root: unused.
        image_size: pixels.
        rows: of dots.
    """
    pictures = torch.zeros(4, rows, image_size, image_size, dtype=torch.uint8)
    return Splits(*(Table.build(pictures, [f"{split}{code % 2}" for code in range(4)]) for split in SPLITS))


def test_a_published_data_set_has_its_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS._entries, "dots", dots)
    data = build_data({"name": "dots", "root": None, "image_size": 6}, {"image_size": 9, "image_mode": "L"})
    assert data.example().shape == (1, 1, 6, 6)


class Base:
    """A base.

    Args:
        size, depth: numbers.
        module: code.
    """

    def __init__(
        self, size: int | str = 1, depth: float | None = None, module: torch.nn.Module | None = None, **options: Any
    ) -> None: ...


class Derived(Base):
    """A class.

    Args:
        name: ``"a"`` or 100% other.
        options: see ``Base``.
    """

    def __init__(self, name: str | torch.nn.Module, kinds: list[int] | None = None, **options: Any) -> None: ...


def test_flags_follow_signatures_and_docstrings() -> None:
    flags = class_flags(Derived)
    assert {name: flag.type for name, flag in flags.items()} == {
        "name": str,
        "kinds": list[int] | None,
        "size": int | str,
        "depth": float | None,
    }
    assert flags["size"].default == 1 and flags["size"].help == flags["depth"].help == "numbers."
    parser = FlagParser.for_command("x", "y")
    add_flags(parser, flags, "group", prefix="it")
    args = parser.read(shlex.split("--it.name 7 --it.size 12 --it.kinds '[1, 2]'"))
    assert args.it == {"name": "7", "size": 12, "kinds": [1, 2], "depth": None}
    assert '"a" or 100% other' in parser.format_help()
    with pytest.raises(ConfigError, match=r"did you mean '--it\.depth'"):
        parser.read(["--it.deph", "1"])
