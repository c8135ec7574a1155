"""What pages and static checkers say of the code, made from it: strategies with their options, and the doors."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import docstring_parser

from quickstudy.algorithms import STRATEGIES, Algorithm
from quickstudy.cli.flags import Flags, class_flags
from quickstudy.data.episodes import EpisodePlan
from quickstudy.selfsupervised import METHODS, Method
from quickstudy.signatures import options_of
from quickstudy.training.doors import Doors


def described(name: str) -> str:
    """Return a description of a strategy, or of a self-supervised method, in Markdown."""
    if name == "default":
        return "## default\n\nOrdinary supervised training on fixed classes; it takes no options.\n"
    algorithm: type[Algorithm] | type[Method] = METHODS[name] if name in METHODS else STRATEGIES[name]
    told = docstring_parser.parse(inspect.getdoc(algorithm) or "")
    about = "\n\n".join(part.strip() for part in (told.short_description, told.long_description) if part).replace(
        "``", "`"
    )
    transductive = getattr(algorithm, "transductive", False)
    kind = "Transductive: a query's answer depends on the other queries.\n\n" if transductive else ""
    return f"## {name}\n\n{about}\n\n{kind}{algorithm.paper}\n{_listed(strategy_flags(algorithm))}"


def strategy_flags(algorithm: type[Algorithm] | type[Method]) -> Flags:
    """Return the own options of a strategy or a method."""
    flags = class_flags(algorithm)
    root = Algorithm if issubclass(algorithm, Algorithm) else Method
    return {name: flags[name] for name in options_of(algorithm, root)}


def strategies_page() -> str:
    """Return the page of all few-shot strategies, in Markdown."""
    strategies = "\n".join(described(name) for name in STRATEGIES.registered())
    return (
        "# Few-shot strategies\n\n"
        "`ImageClassifier(training_strategy=NAME, training_strategy_kwargs={...})` takes these options and, of every\n"
        "strategy, those of episodes. `trainer.finetune` trains the encoder through the strategy; to use one as it\n"
        "is, leave that out and go straight to `trainer.test` or `model.adapt`.\n\n"
        "This page is made by `scripts/docs`; `quickstudy list strategies NAME` prints a part of it.\n\n"
        f"## Episodes\n{_listed(class_flags(EpisodePlan))}"
        "- `task_chunk=None`: tasks that advance together; default: one on a CPU, where several are faster for small "
        f"networks alone, and on a GPU as many as fit.\n\n{strategies}"
    )


def _listed(flags: Flags) -> str:
    lines = [f"- `{name}={flag.default!r}`: {flag.help}\n" for name, flag in flags.items()]
    return "\n" + "".join(lines) if lines else ""


_STUB = '''"""The doors with the arguments of all four stages, for static checkers; ``scripts/docs`` writes it."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from quickstudy.data.frames import Fields
from quickstudy.kinds.base import Kind

Path = str | os.PathLike[str]

class Doors:
    extensions: ClassVar[frozenset[str]]
    answers: ClassVar[type[Kind]]
'''


def doors_stub() -> str:
    """Return ``training/door_signatures.pyi``: what ``@door`` makes of the arguments, as static checkers read it."""
    return _STUB + "".join(_stub(name, vars(Doors)[name].__func__) for name in vars(Doors) if name.startswith("from_"))


def _stub(name: str, function: Callable[..., Any]) -> str:
    cls, *arguments = inspect.signature(function).parameters.values()
    lines = "".join(f"        {_argument(one)},\n" for one in arguments)
    return f"    @classmethod\n    def {name}(\n        {cls.name},\n{lines}    ) -> Self: ...\n"


def _argument(argument: inspect.Parameter) -> str:
    stars = "**" if argument.kind is argument.VAR_KEYWORD else ""
    default = "" if argument.default is argument.empty else f" = {argument.default!r}"
    told = argument.annotation if isinstance(argument.annotation, str) else argument.annotation.__name__
    return f"{stars}{argument.name}: {told}{default}"
