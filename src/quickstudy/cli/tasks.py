"""The tasks that commands know by name, those of all domains, and which of them is meant."""

from __future__ import annotations

import importlib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from quickstudy.cli.models import model_here
from quickstudy.domains import DOMAINS
from quickstudy.errors import ConfigError, one_line, unknown

if TYPE_CHECKING:
    from quickstudy.training.datamodule import DataModule
    from quickstudy.training.task import Task


class Home(NamedTuple):
    """Where a task is: its module, and the names of its class and of its data's."""

    module: str
    task: str
    data: str


TASKS: dict[str, Home] = {
    name: Home(package, *classes)
    for package in (f"quickstudy.{domain}" for domain in DOMAINS)
    for name, classes in importlib.import_module(package).TASKS.items()
}
"""By name. ``--import`` may add further ones."""
MEANT = next(iter(TASKS))
"""What is meant where nothing says which."""


def task_class(name: str) -> type[Task]:
    """Return the class of a task.

    Raises:
        ConfigError: there is no such task.
    """
    found: type[Task] = _found(name, "task")
    return found


def data_class(name: str) -> type[DataModule]:
    """Return the class of a task's data.

    Raises:
        ConfigError: there is no such task.
    """
    found: type[DataModule] = _found(name, "data")
    return found


def named_by(cls: str) -> str:
    """Return the name of the task of a class, as a checkpoint notes it.

    Raises:
        ConfigError: no task is of this class.
    """
    name = next((name for name, home in TASKS.items() if home.task == cls), None)
    if name is None:
        raise ConfigError(
            f"the model is of the class {one_line(cls)!r}, and no task is known by it (there are {', '.join(TASKS)}): "
            "put a line TASKS['NAME'] = Home('MODULE', 'CLASS', 'CLASS OF ITS DATA') of quickstudy.cli.tasks into the "
            "class's module, and add --import MODULE"
        )
    return name


def in_checkpoint(path: Path) -> str:
    """Return the name of the task that a checkpoint is of; whether it is one shows where it is read.

    Raises:
        ConfigError: it is of a class that no task is known by.
    """
    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        cls = str(checkpoint["quickstudy"]["task"])
    except Exception:  # damage makes it raise almost anything
        return MEANT
    return named_by(cls)


def asked_for(words: Sequence[str]) -> str:
    """Return the name of the task that a command's words ask for, before its options are known, which follow from it.

    It is that of ``--task``; else of the file of ``--config``; else of a checkpoint among the words.
    """
    given = {word: other for word, other in itertools.pairwise([*words, ""]) if word.startswith("--")}
    given |= dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
    if "--task" in given:
        return given["--task"]
    config = Path(given.get("--config", ""))
    if "--config" in given and config.is_file():
        text = config.read_text(encoding="utf-8")
        lines: dict[str, str] = dict(re.findall(r"(?m)^(task|checkpoint|model): *['\"]?([^'\"\s]+)", text))
        if "task" in lines:
            return lines["task"]
        words = [*words, *lines.values()]
    for word in words:
        if word and not word.startswith("-") and (model := model_here(word.removeprefix("--checkpoint="))) is not None:
            return MEANT if model.saved else in_checkpoint(model.path)
    return MEANT


def _found(name: str, part: str) -> Any:
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    home = TASKS[name]
    return getattr(importlib.import_module(home.module), getattr(home, part))
