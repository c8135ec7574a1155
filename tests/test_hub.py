"""Models on the Hugging Face Hub: against one that keeps its repositories in a folder, and without a network."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml

from quickstudy import ConfigError, DataError, MissingPackageError, NumberPredictor, Predictor
from quickstudy.algorithms import STRATEGIES
from quickstudy.image.modality import Picture, load_image
from quickstudy.kinds.base import Kind
from quickstudy.kinds.classification import Classification
from quickstudy.kinds.regression import Regression
from quickstudy.learning.confidence import in_words
from quickstudy.nets import Encoder, build_encoder
from quickstudy.saved import hub
from quickstudy.saved.hub import card
from quickstudy.trained import TrainedModel


class FakeHub:
    """Repositories as folders, by name and branch."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[dict[str, Any]] = []

    def create_repo(self, repo_id: str, **options: Any) -> None:
        self.asked.append(options)
        (self.root / repo_id / "main").mkdir(parents=True, exist_ok=options["exist_ok"])

    def create_branch(self, repo_id: str, *, branch: str, exist_ok: bool) -> None:
        (self.root / repo_id / branch).mkdir(exist_ok=exist_ok)

    def upload_folder(self, **options: Any) -> SimpleNamespace:
        self.asked.append(options)
        place = self.root / options["repo_id"] / (options["revision"] or "main")
        for path in list(place.iterdir()):
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in options["delete_patterns"]):
                path.unlink()
        for path in Path(options["folder_path"]).iterdir():
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in options["allow_patterns"]):
                shutil.copy(path, place)
        return SimpleNamespace(commit_url=f"https://huggingface.co/{options['repo_id']}/commit/1")

    def snapshot_download(self, repo_id: str, *, revision: str | None, **options: Any) -> str:
        self.asked.append(options)
        return str(self.root / repo_id / (revision or "main"))


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    made = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    for name in ("create_repo", "create_branch", "upload_folder"):
        method = getattr(made, name)
        monkeypatch.setattr(huggingface_hub.HfApi, name, lambda _, *given, _do=method, **more: _do(*given, **more))
    return made


def learned(strategy: str = "prototypicalnetworks", **options: Any) -> tuple[Predictor, torch.Tensor]:
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    load = partial(load_image, image_size=16)
    predictor = Predictor(build_encoder("conv4", {"hidden": 8}), STRATEGIES[strategy](**options), load)
    return predictor.fit(images, ["cat", "cat", "cat", "dog", "dog", "a|b <x>"]), images


def test_a_model_goes_there_and_back(fake: FakeHub, tmp_path: Path) -> None:
    predictor, images = learned()
    address = predictor.push_to_hub("me/pets", private=True, license="apache-2.0")
    assert address == "https://huggingface.co/me/pets/commit/1"
    assert fake.asked[0] == {"private": True, "exist_ok": True}
    again = Predictor.from_pretrained("me/pets")
    assert (again.predict_proba(images) == predictor.predict_proba(images)).all()
    assert not any(map(any, map(again.thumbnails, again.counts_))) and any(predictor.thumbnails("cat"))
    predictor.remove_class("dog").push_to_hub("me/pets", thumbnails=True)
    names = sorted(re.sub("-.*", "", path.name) for path in (tmp_path / "hub/me/pets/main").iterdir())
    assert names == ["README.md", "encoder", "learned", "predictor.json"]
    again = Predictor.from_pretrained("me/pets", device="cpu")
    assert list(again.classes_) == ["a|b <x>", "cat"] and any(again.thumbnails("cat"))
    predictor.remove_class("cat").push_to_hub("me/pets", revision="v2")
    assert list(Predictor.from_pretrained("me/pets", revision="v2").classes_) == ["a|b <x>"]
    assert len(Predictor.from_pretrained("me/pets").classes_) == 2


def trained(kind: Kind, outputs: int, head: torch.nn.Module | None = None) -> TrainedModel:
    made = head or torch.nn.Linear(8, outputs)
    return TrainedModel(
        build_encoder("conv4", {"hidden": 8}), made, kind, Picture(image_size=16), head_of_kind=head is None
    )


def test_a_trained_model_goes_there_and_back(fake: FakeHub, tmp_path: Path) -> None:
    model = trained(Classification(classes=("cat", "a|b <x>")), 2)
    assert model.push_to_hub("me/fixed", license="mit") == "https://huggingface.co/me/fixed/commit/1"
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    again = TrainedModel.from_pretrained("me/fixed")
    assert torch.equal(again.predict(images, "logits"), model.predict(images, "logits"))
    place = tmp_path / "hub/me/fixed/main"
    names = sorted(re.sub("-.*", "", path.name) for path in place.iterdir())
    assert names == ["README.md", "encoder", "head", "predictor.json"]
    text = (place / "README.md").read_text("utf-8")
    head = yaml.safe_load(text.split("---")[1])
    assert (
        head["pipeline_tag"] == "image-classification" and head["license"] == "mit" and head["tags"] == ["quickstudy"]
    )
    for line in (
        "Classifies pictures into 2 classes, as it was trained to with quickstudy.",
        "from quickstudy.trained import TrainedModel  # pip install 'quickstudy[image,hub]'",
        'model = TrainedModel.from_pretrained("me/fixed")',
        '- Backbone: `conv4` with `{"hidden": 8}`',
        r"| a\|b \<x\> |",
    ):
        assert line in text.splitlines()
    trained(Regression(mean=1.0, deviation=2.0), 1, torch.nn.Linear(8, 1)).push_to_hub("me/fixed")
    assert len(list(place.glob("head-*"))) == 1  # that of the model before is gone
    text = (place / "README.md").read_text("utf-8")
    assert "Answers pictures with numbers, as it was trained to" in text and "pipeline_tag" not in text
    assert 'TrainedModel.from_pretrained("me/fixed", head=...)' in text and "| class |" not in text
    numbers = TrainedModel.from_pretrained("me/fixed", head=torch.nn.Linear(8, 1)).predict(images)
    assert all(isinstance(number, float) for number in numbers)
    with pytest.raises(ConfigError, match=r"does not learn: type TrainedModel\.load"):
        Predictor.from_pretrained("me/fixed")


def test_a_model_of_numbers_goes_there_and_back(fake: FakeHub, tmp_path: Path) -> None:
    inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    predictor = NumberPredictor(Encoder(torch.nn.Flatten()), STRATEGIES["r2d2"]()).fit(inputs, inputs[:, 0].tolist())
    predictor.push_to_hub("me/ages", license="mit")
    again = NumberPredictor.from_pretrained("me/ages", backbone=torch.nn.Flatten())
    assert again.predict(inputs) == predictor.predict(inputs)
    text = (tmp_path / "hub/me/ages/main/README.md").read_text("utf-8")
    assert "Tells a number of inputs, which it learned from 8 examples with quickstudy." in text
    assert 'predictor = NumberPredictor.from_pretrained("me/ages", backbone=...)' in text
    assert "`predictor.score(inputs, numbers)`" in text and "class" not in text


def test_a_misspelled_option_uploads_nothing(fake: FakeHub) -> None:
    with pytest.raises(ConfigError, match=r"push_to_hub has no option 'privat'; did you mean 'private'\?"):
        learned()[0].push_to_hub("me/pets", privat=True)
    assert not fake.asked


def test_a_folder_is_no_repository(tmp_path: Path) -> None:
    predictor, images = learned()
    predictor.save(tmp_path / "pets")
    again = Predictor.from_pretrained(tmp_path / "pets")
    assert again.predict(images) == predictor.predict(images)
    with pytest.raises(ConfigError, match=r"revision='v2' is of a repository on the Hub, and .* is a folder here"):
        Predictor.from_pretrained(tmp_path / "pets", revision="v2")


def test_the_card_says_what_it_is(fake: FakeHub, tmp_path: Path) -> None:
    predictor, _ = learned()
    predictor.push_to_hub("me/pets", license="apache-2.0")
    text = (tmp_path / "hub/me/pets/main/README.md").read_text("utf-8")
    head = yaml.safe_load(text.split("---")[1])
    assert head["library_name"] == "quickstudy" and head["license"] == "apache-2.0"
    assert head["pipeline_tag"] == "image-classification"
    assert {"few-shot", "prototypicalnetworks"} <= set(head["tags"])
    sure = predictor.confidence_
    for line in (
        "# pets",
        'predictor = Predictor.from_pretrained("me/pets")',
        "- Strategy: `prototypicalnetworks`",
        '- Backbone: `conv4` with `{"hidden": 8}`',
        '- Inputs: pictures with `{"image_size": 16, "image_mode": "RGB"}`',
        "| cat | 3 |",
        r"| a\|b \<x\> | 1 |",
        *(f"- {line}" for line in in_words(sure)),
        "- Against how often its answers are right they are off by how much is not told: 5 held-out examples say too "
        "little",
        "- Both follow from the support set, one of each class left out",
    ):
        assert line in text.splitlines()
    assert "They hold an embedding of each example." in text
    predictor.push_to_hub("me/pets", thumbnails=True)
    text = (tmp_path / "hub/me/pets/main/README.md").read_text("utf-8")
    assert "an embedding of each example, and small pictures of them." in text and "license" not in text


def test_the_card_of_a_model_that_keeps_its_examples(fake: FakeHub, tmp_path: Path) -> None:
    learned("maml", adaptation_steps=1)[0].push_to_hub("me/pets")
    text = (tmp_path / "hub/me/pets/main/README.md").read_text("utf-8")
    assert "They hold **the examples themselves**." in text
    assert "how much is not told: 0 " in text and "- Called unknown, and given no class: nothing: with" in text
    assert "- Both follow from nothing: calibrate(images, labels) was not called" in text


def test_a_card_stays_a_table_whatever_the_names(tmp_path: Path) -> None:
    names = ["a\nb", "c|d", "\x1b[31m", "\u202ee", "*f*"]
    predictor = Predictor(Encoder(torch.nn.Flatten()), STRATEGIES["prototypicalnetworks"]())
    predictor.fit(torch.eye(5), names).save(tmp_path)
    text = card(
        json.loads((tmp_path / "predictor.json").read_text()),
        "me/x",
        (predictor.confidence_, predictor.held_out_accuracy_),
    )
    table = text.partition("|---|---|\n")[2].partition("\n\n")[0].split("\n")
    written = ("a b", r"c\|d", r"\\x1b\[31m", r"\\u202ee", r"\*f\*")
    assert sorted(table) == sorted(f"| {name} | 1 |" for name in written)


def test_the_card_of_a_model_made_with_code(fake: FakeHub, tmp_path: Path) -> None:
    algorithm = STRATEGIES["nearest_centroid"]()
    made = Predictor(build_encoder(torch.nn.Flatten()), algorithm, lambda item: item).fit(torch.rand(2, 4), [0, 1])
    made.push_to_hub("me/flat")
    text = (tmp_path / "hub/me/flat/main/README.md").read_text("utf-8")
    assert 'Predictor.from_pretrained("me/flat", backbone=..., load=...)' in text
    assert "pipeline_tag" not in text
    again = Predictor.from_pretrained("me/flat", backbone=torch.nn.Flatten(), load=lambda item: item)
    assert list(again.classes_) == [0, 1]


def test_thousands_of_classes_are_counted(fake: FakeHub, tmp_path: Path) -> None:
    predictor = Predictor(build_encoder(torch.nn.Flatten()), STRATEGIES["nearest_centroid"]())
    predictor.fit(torch.rand(300, 4), list(range(300))).push_to_hub("me/many")
    assert "| and 100 more classes | |" in (tmp_path / "hub/me/many/main/README.md").read_text("utf-8")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    fixed = trained(Classification(classes=("a", "b")), 2)
    for do in (learned()[0].push_to_hub, Predictor.from_pretrained, fixed.push_to_hub, TrainedModel.from_pretrained):
        with pytest.raises(MissingPackageError, match=r"pip install 'quickstudy\[hub\]'"):
            do("me/pets")


def test_refusals_say_what_to_type(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("403 Forbidden: you are not its owner.\nmore")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    with pytest.raises(DataError, match=r"uploaded to 'me/pets': 403 Forbidden: you .* type: hf auth login$"):
        learned()[0].push_to_hub("me/pets")


def test_without_a_network_the_error_says_what_to_do() -> None:
    code = (
        "import torch; from quickstudy import Predictor, DataError; from quickstudy.algorithms import STRATEGIES\n"
        "from quickstudy.nets import build_encoder\n"
        "made = Predictor(build_encoder(torch.nn.Flatten()), STRATEGIES['nearest_centroid']())\n"
        "made.fit(torch.rand(2, 4), ['a', 'b'])\n"
        "for do in (lambda: Predictor.from_pretrained('nobody/nothing', revision='v2'),\n"
        "           lambda: Predictor.from_pretrained('./no/such/folder'),\n"
        "           lambda: made.push_to_hub('nobody/nothing')):\n"
        "    try: do()\n"
        "    except DataError as error: print(error)\n"
    )
    environment = {"HF_HUB_OFFLINE": "1", "PATH": "", "PYTHONPATH": str(Path(hub.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    asked, folder, pushed = done.stdout.splitlines()
    assert "there is no folder 'nobody/nothing'" in asked and "did not give it at revision 'v2': " in asked
    assert asked.endswith("Without a network, give the folder that predictor.save wrote")
    assert "there is no folder './no/such/folder'" in folder
    assert "could not be uploaded to 'nobody/nothing': " in pushed and "offline" in pushed.lower()
