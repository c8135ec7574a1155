"""What a class takes, however many bases share it: for checks, flags, notebooks and static checkers."""

from __future__ import annotations

import inspect
from typing import Any, TypedDict, Unpack, get_type_hints

import pytest
from torch import nn

from quickstudy import Classifier, ConfigError, Task
from quickstudy.cli.flags import class_flags
from quickstudy.image import ImageClassifier, ImageRegressor
from quickstudy.kinds.regression import Regression
from quickstudy.signatures import options_of, signature_of
from quickstudy.training.task import TaskOptions

SHARED = list(get_type_hints(TaskOptions))
OF_CLASSES = ["multi_label", "class_weights", "mix", "label_thresholds"]


class Options(TypedDict, total=False):
    """Made up."""

    width: int


class Base:
    """Made up."""

    def __init__(self, depth: int = 1, width: int = 2, **more: Any) -> None: ...


class Named(Base):
    """Made up: hands on what is named."""

    def __init__(self, name: str, **options: Unpack[Options]) -> None: ...


class Ordered(Base):
    """Made up: hands on all, in order."""

    def __init__(self, name: str, *arguments: Any, last: int = 3, **options: Any) -> None: ...


class Level(Task):
    """Made up: a task with an option of its own."""

    answers = Regression

    def __init__(self, floor: float = 0.0, **options: Unpack[TaskOptions]) -> None:
        super().__init__(**options)
        self.floor = floor


def test_what_is_handed_on_is_shown() -> None:
    assert str(signature_of(Named, Base)) == "(name: 'str', *, width: 'int' = 2)"
    assert str(signature_of(Ordered, Base)) == (
        "(name: 'str', depth: 'int' = 1, width: 'int' = 2, *, last: 'int' = 3, **more: 'Any')"
    )
    assert options_of(Named, Base) == ["name", "width"] and options_of(Ordered, Ordered) == ["name", "last"]
    assert {name: flag.default for name, flag in class_flags(Named).items() if name != "name"} == {"width": 2}


def test_static_checkers_are_told_what_a_task_takes() -> None:
    told = get_type_hints(Task.__init__)
    assert get_type_hints(TaskOptions) == {name: told[name] for name in SHARED}
    assert list(inspect.signature(Task).parameters) == ["kind", *SHARED, "of_kind"]


@pytest.mark.parametrize("cls", [Classifier, ImageClassifier])
def test_a_classifier_takes_a_task_s_arguments_in_their_order(cls: type[Classifier]) -> None:
    assert list(inspect.signature(cls).parameters) == ["num_classes", *SHARED, *OF_CLASSES]
    model = cls(3, nn.Linear(4, 2), None, False, mix=None, multi_label=True)
    assert model.kind.num_classes == 3 and model.kind.multi_label and model.hparams["pretrained"] is False
    assert set(class_flags(cls)) == {"num_classes", *SHARED, *OF_CLASSES}
    assert class_flags(cls)["optimizer"].default == "Adam"


def test_a_task_names_its_own_options_alone() -> None:
    assert list(inspect.signature(Level).parameters) == ["floor", *SHARED]
    assert set(class_flags(Level)) == {"floor", *SHARED} and "args" not in class_flags(ImageRegressor)
    model = Level(2.0, backbone=nn.Linear(4, 2), learning_rate=0.5)
    assert (model.floor, model.learning_rate) == (2.0, 0.5)
    with pytest.raises(ConfigError, match="Level has no option 'learning_rat'; did you mean 'learning_rate'"):
        Level(learning_rat=0.5)  # type: ignore[call-arg]
