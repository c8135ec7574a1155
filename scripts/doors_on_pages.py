"""For the site of the docs: doors with the arguments that ``@door`` makes, and not with those of the stage it reads."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import griffe

_DOORS = {"door", "partial(door, shared_last=True)"}


class DoorsOnPages(griffe.Extension):
    """What mkdocs.yml names; griffe reads files and does not run them."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Give a door the signature and docstring that it has when it is imported."""
        if not any(str(decorator.value) in _DOORS for decorator in func.decorators):
            return
        made = getattr(getattr(importlib.import_module(func.module.path), func.parent.name), func.name)
        func.parameters = griffe.Parameters(
            *(
                griffe.Parameter(
                    one.name,
                    annotation=inspect.formatannotation(one.annotation).strip("'"),
                    kind=griffe.ParameterKind(one.kind.description),
                    default=None if one.default is one.empty else repr(one.default),
                )
                for one in inspect.signature(made).parameters.values()
            )
        )
        func.docstring.value = inspect.getdoc(made)
