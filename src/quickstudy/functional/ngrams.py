"""How much of one text stands in another: ROUGE, BLEU and chrF, by runs of words or letters, and how they vary.

Lin 2004, "ROUGE", https://aclanthology.org/W04-1013; Papineni et al. 2002, "BLEU", https://aclanthology.org/P02-1040;
Popović 2015, "chrF", https://aclanthology.org/W15-3049. BLEU and chrF are those of Post 2018, "A Call for Clarity in
Reporting BLEU Scores", https://aclanthology.org/W18-6319: they follow from counts, which are added over texts.

Shapes: n texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WORDS, LETTERS = 4, 6
"""The longest runs: words of BLEU, letters of chrF."""
BLEU_COUNTS, CHRF_COUNTS = 2 * WORDS + 2, 3 * LETTERS
_BETA = 2.0
"""How many times recall counts as much as precision in chrF."""
_WORD = re.compile(r"[^\W_]+")
_MARKS = [
    (re.compile(r"([{-~\[-` -&(-+:-@/])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
]
"""What sets marks apart from words in BLEU, as mteval-v13a does."""
_ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}


def rouge(told: str, true: str) -> tuple[float, float, float]:
    """Return ROUGE-1, ROUGE-2 and ROUGE-L: F1 of words, of pairs of them, and of the longest common subsequence.

    Words are letters and numbers of any script in small letters; they are not stemmed.

    >>> rouge("The cat sat.", "the cat sat down")
    (0.857..., 0.8, 0.857...)
    """
    own, other = (_WORD.findall(text.lower()) for text in (told, true))
    parts = [Counter(own) & Counter(other), Counter(_runs(own, 2)) & Counter(_runs(other, 2))]
    found = [_f1(sum(both.values()), len(own) - order, len(other) - order) for order, both in enumerate(parts)]
    return found[0], found[1], _f1(_longest_common(own, other), len(own), len(other))


def _f1(both: int, told: int, true: int) -> float:
    return 2 * both / (told + true) if both else 0.0


def _longest_common(own: Sequence[str], other: Sequence[str]) -> int:
    """Return how many words the longest common subsequence has."""
    before = [0] * (len(other) + 1)
    for word in own:
        row = [0]
        for place, one in enumerate(other):
            row.append(before[place] + 1 if word == one else max(row[-1], before[place + 1]))
        before = row
    return before[-1]


def bleu_counts(told: str, true: str) -> list[int]:
    """Return what BLEU follows from: common runs of 1 to 4 words, runs that were told, and words of both texts.

    >>> bleu_counts("a b, c", "a b c")
    [3, 1, 0, 0, 4, 3, 2, 1, 4, 3]
    """
    own, other = words_of_bleu(told), words_of_bleu(true)
    common, every = [], []
    for order in range(1, WORDS + 1):
        runs = _runs(own, order)
        common.append(sum((Counter(runs) & Counter(_runs(other, order))).values()))
        every.append(len(runs))
    return [*common, *every, len(own), len(other)]


def words_of_bleu(text: str) -> list[str]:
    """Return the words and marks of a text, as mteval-v13a takes it apart.

    >>> words_of_bleu("It's 3.5%, or 2-3 (at most).")
    ["It's", '3.5', '%', ',', 'or', '2', '-', '3', '(', 'at', 'most', ')', '.']
    """
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, mark in _ENTITIES.items():
        text = text.replace(entity, mark)
    text = f" {text} "
    for pattern, apart in _MARKS:
        text = pattern.sub(apart, text)
    return text.split()


def bleu(counts: Tensor) -> Tensor:
    """Return BLEU from 0 to 1 of counts ``[..., 10]``, with smoothing of orders without any match, as sacreBLEU's.

    >>> bleu(torch.tensor([3, 1, 0, 0, 4, 3, 2, 1, 4, 3]))
    tensor(0.3536, dtype=torch.float64)
    """
    counts = counts.double()
    common, every, (told, true) = counts[..., :WORDS], counts[..., WORDS:-2], counts[..., -2:].unbind(-1)
    misses = ((common == 0) & (every > 0)).cumsum(-1)  # the first counts half a match, the next a quarter
    matched = torch.where(common > 0, common, 0.5**misses)
    mean = (matched / every.clamp(min=1)).log().mean(-1).exp()
    shorter = torch.where(told < true, (1 - true / told.clamp(min=1)).exp(), 1.0)
    return torch.where((every > 0).all(-1) & (common > 0).any(-1), mean * shorter, 0.0)


def chrf_counts(told: str, true: str) -> list[int]:
    """Return what chrF follows from: of runs of 1 to 6 letters how many are common, were told, and are true.

    >>> chrf_counts("ab c", "abd")[::6], len(chrf_counts("a", "b"))
    ([2, 3, 3], 18)
    """
    own, other = ("".join(text.split()) for text in (told, true))
    counts: list[list[int]] = [[], [], []]
    for order in range(1, LETTERS + 1):
        runs, others = _runs(own, order), _runs(other, order)
        counts[0].append(sum((Counter(runs) & Counter(others)).values()))
        counts[1].append(len(runs) if others else 0)  # as sacreBLEU has it
        counts[2].append(len(others))
    return [*counts[0], *counts[1], *counts[2]]


def chrf(counts: Tensor) -> Tensor:
    """Return chrF from 0 to 1 of counts ``[..., 18]``: F2 of the mean precision and recall over the orders.

    >>> chrf(torch.tensor(chrf_counts("ab c", "abd")))
    tensor(0.3889, dtype=torch.float64)
    """
    common, told, true = counts.double().chunk(3, -1)
    there = (told > 0) & (true > 0)
    orders = there.sum(-1).clamp(min=1)
    precision = (common / told.clamp(min=1) * there).sum(-1) / orders
    recall = (common / true.clamp(min=1) * there).sum(-1) / orders
    weighed = _BETA**2 * precision + recall
    return (1 + _BETA**2) * precision * recall / torch.where(weighed > 0, weighed, 1.0)


def shares_of_texts(score: Callable[[Tensor], Tensor], counts: Tensor) -> Tensor:
    """Return what each text adds to a score of the sum of counts, ``[n]``, whose mean that is, by the jackknife.

    Args:
        score: of counts ``[..., K]``.
        counts: ``[n, K]``
    """
    counts = counts.double()
    total, count = counts.sum(0), len(counts)
    whole = score(total)
    if count < 2:
        return whole.expand(count)
    rests = score(total - counts)
    return whole + (count - 1) * (rests.mean() - rests)


def _runs(parts: Sequence[str], order: int) -> list[object]:
    """Return every run of so many words, or letters of a string."""
    if isinstance(parts, str):
        return [parts[place : place + order] for place in range(len(parts) - order + 1)]
    return [tuple(parts[place : place + order]) for place in range(len(parts) - order + 1)]
