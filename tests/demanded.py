"""What the shipped conformance suites demand, so that tests can ask for one that breaks each."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from quickstudy import testing


def complaints(*modules: str) -> Iterator[str]:
    """Yield what some modules of ``quickstudy.testing`` demand, as patterns."""
    for module in modules:
        file = Path(testing.__path__[0], f"{module}.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.startswith("demand"):
                what = node.args[2 if node.func.id == "demand_close" else 1]
                parts = what.values if isinstance(what, ast.JoinedStr) else [what]
                yield "".join(re.escape(part.value) if isinstance(part, ast.Constant) else ".+" for part in parts)
