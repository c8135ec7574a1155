"""The four stages of data, and doors: what reads one stage becomes a method that takes all four."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, Signature
from typing import Any, Literal, NamedTuple, Optional, Protocol, Self, TypeVar, get_args

from quickstudy.data.table import Table
from quickstudy.errors import DataError

StageName = Literal["train", "val", "test", "predict"]
STAGES: tuple[StageName, ...] = get_args(StageName)
Data = TypeVar("Data")


class Stage(NamedTuple):
    """The stage that a door reads."""

    name: StageName
    skip: bool = False
    """Whether examples are left out whose file or target is missing: ``on_error="skip"``."""
    unlabelled: bool = False
    """Whether examples need no targets: those to predict, and all where the answers can be learned without."""
    group_field: str | int | None = None
    """The column of what each example comes from, where a table has one; not of those to predict."""


class Door(Protocol):
    """A class method that makes a data module."""

    def __get__(self, instance: Any, owner: type[Data], /) -> Callable[..., Data]: ...


def door(read: Callable[..., Table], shared_last: bool = False) -> Door:
    """Make a door of a function that reads the data of one stage.

    The door takes its arguments for each stage, ``train_files``, ``train_targets``, ``val_files`` and so on, reads the
    stages that are given, and makes the class of the four tables and of all other options. ::

        @door
        def from_files(cls, stage: Stage, files: list[str], targets: Any, *, root: str | None = None) -> Table: ...

        # from_files(root=None, train_files=None, train_targets=None, ..., predict_files=None, **options)

    Args:
        read: takes the class, the ``Stage``, and the stage's arguments. The first of these is the inputs; the others
            that have no default are targets, of which there are none to predict: they are None then. What can be given
            by its name alone is said once for all stages. Its docstring explains ``files, targets: ...``, which becomes
            ``train_files, train_targets, ...: ...``.
        shared_last: whether what is said once for all stages comes behind their arguments, and not before.
    """
    own = list(inspect.signature(read).parameters.values())
    once = [parameter for parameter in own if parameter.kind is Parameter.KEYWORD_ONLY]
    each = [parameter for parameter in own[2:] if parameter not in once]
    targets = [parameter.name for parameter in each[1:] if parameter.default is Parameter.empty]
    arguments = [
        Parameter(f"{stage}_{one.name}", Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=_or_none(one))
        for stage in STAGES
        for one in each
        if stage != "predict" or one.name not in targets
    ]
    shared = [parameter.replace(kind=Parameter.POSITIONAL_OR_KEYWORD) for parameter in once]
    rest = Parameter("options", Parameter.VAR_KEYWORD, annotation=Any)
    ordered = [*arguments, *shared] if shared_last else [*shared, *arguments]
    signature = Signature([own[0], *ordered, rest], return_annotation=Self)

    def given(stage: StageName, unlabelled: bool, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """Return the arguments of a stage, None where it has no data."""
        told = {one.name: arguments.get(f"{stage}_{one.name}") for one in each}
        labelled = not unlabelled or any(told[name] is not None for name in targets if name in told)
        needed = [each[0].name, *(targets if labelled else [])]
        gone = [name for name in needed if told[name] is None]
        if gone == needed:
            return None
        if gone:
            there = next(name for name in needed if name not in gone)
            raise DataError(f"the {stage} data has {stage}_{there} but no {stage}_{gone[0]}: give both")
        return {name: value for name, value in told.items() if value is not None or name in targets}

    @wraps(read)
    def opened(cls: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(cls, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{read.__name__}(): {error}") from None
        bound.apply_defaults()
        options, tables = bound.arguments["options"], dict[StageName, Table]()
        always = {parameter.name: bound.arguments[parameter.name] for parameter in shared}
        for name in STAGES:
            unlabelled = name == "predict" or cls.answers.unlabelled or cls.holds_targets
            field = options.get("group_field")
            stage = Stage(name, options.get("on_error") == "skip", unlabelled, None if name == "predict" else field)
            if (told := given(name, stage.unlabelled, bound.arguments)) is not None:
                try:
                    tables[name] = read(cls, stage, **told, **always)
                except DataError as error:
                    raise DataError(f"in the {name} data, {error}") from error
        return cls(**tables, **options)

    opened.__signature__ = signature  # type: ignore[attr-defined]
    opened.__annotations__ = {name: one.annotation for name, one in signature.parameters.items() if name != own[0].name}
    opened.__doc__ = _of_all_stages(read.__doc__ or "", [parameter.name for parameter in each])
    return classmethod(opened)


def _or_none(parameter: Parameter) -> Any:
    """Return an argument's annotation, with None beside it."""
    told = parameter.annotation
    if isinstance(told, str):
        return told if told.endswith("| None") else f"{told} | None"
    return Optional[told]  # noqa: UP045  # what None cannot be joined to by a bar, such as a string in a Sequence


def _of_all_stages(docstring: str, names: Sequence[str]) -> str:
    """Return a docstring of one stage's arguments as that of the door."""
    name = f"(?:{'|'.join(names)})"

    def all_stages(line: re.Match[str]) -> str:
        return f"{line[1]}{re.sub(name, lambda found: f'train_{found[0]}', line[2])}, ...:"

    return re.sub(rf"(?m)^(\s+)({name}(?:, {name})*):", all_stages, docstring)
