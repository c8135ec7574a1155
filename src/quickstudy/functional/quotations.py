"""How well a quotation agrees with those that answer a question: the measures of SQuAD.

Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """Return a text in small letters, without punctuation of ASCII, English articles and surplus blanks.

    >>> normalized("The  Panthers' 6½ sacks.")
    'panthers 6½ sacks'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def agreement(told: str, true: Sequence[str]) -> tuple[float, float]:
    """Return whether a quotation is one of the true ones, and the largest F1 of its words with one of theirs.

    Args:
        told: the quotation; empty: there is no answer.
        true: those that answer the question; none: none does.

    >>> agreement("the red house", ["red house", "house"]), agreement("", [])
    ((1.0, 1.0), (1.0, 1.0))
    """
    own = normalized(told)
    exact, best = 0.0, 0.0
    for other in [normalized(one) for one in true if normalized(one)] or [""]:
        exact = max(exact, float(own == other))
        best = max(best, _f1(own.split(), other.split()))
    return exact, best


def _f1(told: list[str], true: list[str]) -> float:
    if not told or not true:
        return float(told == true)
    common = sum((Counter(told) & Counter(true)).values())
    return 2 * common / (len(told) + len(true))
