"""Which domain inputs are of, where nobody says it: by the endings of their files, or by what they look like.

It asks every domain of ``DOMAINS`` by its modality: ``extensions``, ``in_words``, ``column_names``, ``looks_like_one``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from quickstudy.data.content import is_file
from quickstudy.domains import DOMAINS
from quickstudy.modality import MODALITIES, Modality

_LOOKED_AT = 20  # items


def domain_of_names(names: Iterable[object]) -> str:
    """Return the domain of most files, by the endings of their names; nothing where no ending is known.

    A file whose name is ``telling`` decides by itself.
    """
    called = [str(name) for name in names]
    for domain in DOMAINS:
        if (telling := MODALITIES[domain].telling) and any(name.endswith(telling) for name in called):
            return domain
    endings = Counter(Path(name).suffix.lower() for name in called)
    counts = {domain: sum(endings[ending] for ending in MODALITIES[domain].extensions) for domain in DOMAINS}
    found = max(counts, key=lambda domain: counts[domain])
    return found if counts[found] else ""


def domain_of_cells(columns: Sequence[Sequence[Any]], root: Path) -> str:
    """Return the domain of a table: of the files that a column names, of what stands in it, or that of rows.

    Args:
        columns: the cells of each column that may be of the inputs.
        root: the folder that names of files are relative to.
    """
    cells = list(columns[0][:_LOOKED_AT]) if len(columns) == 1 else []
    strings = [cell for cell in cells if isinstance(cell, str)]
    named = bool(cells) and strings == cells
    if named and all(domain_of_names([cell]) or (root / cell).is_file() for cell in strings):
        return domain_of_names(strings) or DOMAINS[0]
    return _by_looks(cells) or _domain(lambda kind: kind().column_names is not None)


def domain_of_items(inputs: Any) -> str:
    """Return the domain of items as a caller has them; where there are names of classes alone, that of words.

    Args:
        inputs: items; None: there are names alone. Strings that name no file are words.
    """
    if inputs is None:
        return domain_of_words()
    items = list(inputs[:_LOOKED_AT]) if isinstance(inputs, (list, tuple)) else []
    if items and all(isinstance(item, (str, Path)) for item in items):
        named = domain_of_names(items)
        words = not named and all(isinstance(item, str) and not is_file(item) for item in items)
        return domain_of_words() if words else named or DOMAINS[0]
    return _by_looks(items) or DOMAINS[0]


def domain_of_words() -> str:
    """Return the domain of which the name of a class may be an example."""
    return _domain(lambda kind: kind.in_words)


def _by_looks(items: Sequence[Any]) -> str:
    """Return the domain that all items look like, the last of several, as it asks for more; nothing: there is none."""
    kinds = ((domain, MODALITIES[domain]) for domain in reversed(DOMAINS) if items)
    return next((domain for domain, kind in kinds if all(map(kind.looks_like_one, items))), "")


def _domain(meant: Callable[[type[Modality]], bool]) -> str:
    return next((domain for domain in DOMAINS if meant(MODALITIES[domain])), DOMAINS[0])
