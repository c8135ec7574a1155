"""Several labels per example: F1 with its interval, and the cut of each label above which it is named.

F1 is 2 hits / (named + there), where a hit is a label that is both named and there.

Shapes: N examples, C labels, E cuts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quickstudy.functional.intervals import proportion_interval, student_quantile

NAMED, THERE = 2, 1
"""What a code of a label of an example is the sum of: 3 is a hit, 0 a label that is rightly left out."""
_AT_ONCE = 4096


def f1_interval(hits: int, named: int, there: int) -> tuple[float, float]:
    """Return the F1 of a label, and how far at most its 95% interval reaches from it.

    F1 rises with hits / (named or there), a share of so many trials: the interval is Wilson's of that share.

    Args:
        hits, named, there: how many examples.

    Returns:
        Both are not a number where the label is neither named nor there.

    >>> f1_interval(10, 10, 10), f1_interval(0, 0, 0)
    ((1.0, 0.161...), (nan, nan))
    """
    either = named + there - hits
    share, half = proportion_interval(hits, either)
    if not either:
        return math.nan, math.nan
    f1, low, high = (2 * each / (1 + each) for each in (share, max(share - half, 0.0), min(share + half, 1.0)))
    return f1, max(f1 - low, high - f1)


def f1_of_all(codes_NC: Tensor) -> dict[str, tuple[float, float]]:
    """Return F1 of all labels together, ``"f1_micro"``, and its mean over labels, ``"f1_macro"``, with 95% intervals.

    Intervals are over the examples, whose labels depend on each other: standard errors of what each example adds
    (the delta method) times Student's t. Where every example adds the same, as where all is right, they are those of
    one label, as if labels were independent, which is the least that can be doubted.

    Args:
        codes_NC: uint8, the sum of ``NAMED`` and ``THERE`` where they hold.

    Returns:
        Nothing of no label that is there; the mean is over the labels that an example has.

    >>> found = f1_of_all(torch.tensor([[3, 0], [2, 3], [3, 1], [0, 3]], dtype=torch.uint8))
    >>> {name: round(value, 2) for name, (value, _) in found.items()}
    {'f1_micro': 0.8, 'f1_macro': 0.8}
    """
    count, parts = len(codes_NC), torch.split(codes_NC, _AT_ONCE)
    totals = [torch.stack([part.sum(0) for part in _of_each(codes)]) for codes in parts]
    hits_C, sides_C = torch.stack(totals).sum(0) if totals else torch.zeros(2, codes_NC.shape[1]).double()
    there_C = torch.stack([(codes & THERE).long().sum(0) for codes in parts]).sum(0) if totals else hits_C
    known_C = there_C > 0
    if not bool(known_C.any()):
        return {}
    f1_C = 2 * hits_C / sides_C.clamp(min=1)
    micro, macro = float(2 * hits_C.sum() / sides_C.sum()), float(f1_C[known_C].mean())
    moved: list[Tensor] = []
    for codes in parts:
        hits, sides = _of_each(codes)
        of_all = (2 * hits.sum(1) - micro * sides.sum(1)) / sides_C.sum()
        of_each = ((2 * hits - f1_C * sides) / sides_C.clamp(min=1))[:, known_C].mean(1)
        moved.append(torch.stack([of_all, of_each]))
    spread = torch.cat(moved, 1).square().sum(1).sqrt()
    factor = student_quantile(0.975, count - 1) * math.sqrt(count / (count - 1)) if count > 1 else math.nan
    least = f1_interval(*(int(each) for each in (hits_C.sum(), sides_C.sum() - there_C.sum(), there_C.sum())))[1]

    def half(value: float, error: Tensor) -> float:
        return min(factor * float(error) if error > 0 or count < 2 else least, max(value, 1 - value))

    return {"f1_micro": (micro, half(micro, spread[0])), "f1_macro": (macro, half(macro, spread[1]))}


def _of_each(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return of each label of each example whether it is a hit, and on how many sides it is: named, there."""
    named, there = (codes & NAMED) > 0, (codes & THERE) > 0
    return (named & there).double(), named.double() + there


def best_cuts(there_CE: Tensor, absent_CE: Tensor, prior: float) -> Tensor:
    """Return for each label the cut above which naming it gives the largest F1: its place among E - 1 cuts, ``[C]``.

    A label of which there are few examples would follow chance: to each are added the examples of all labels together,
    weighed like ``prior`` that have the label. Of cuts that are alike, the one in the middle of all is taken.

    Args:
        there_CE: examples with the label, by how many cuts lie below their answer: ``E`` counts for ``E - 1`` cuts.
        absent_CE: those without it.
        prior: how many examples those of all labels together count as; 0: none.

    >>> there, absent = torch.tensor([[0, 1, 0, 3]]), torch.tensor([[5, 4, 1, 0]])
    >>> best_cuts(there, absent, 0).tolist()  # above the third cut are 3 that have the label and none that has not
    [2]
    """
    there_CE, absent_CE = there_CE.double(), absent_CE.double()
    share = prior / there_CE.sum().clamp(min=1)
    there_CE, absent_CE = (each + share * each.sum(0) for each in (there_CE, absent_CE))
    hits, wrong = (each.flip(1).cumsum(1).flip(1)[:, 1:] for each in (there_CE, absent_CE))
    f1 = 2 * hits / (hits + wrong + there_CE.sum(1, keepdim=True)).clamp(min=1e-12)
    off = (torch.arange(f1.shape[1], device=f1.device) - (f1.shape[1] - 1) / 2).abs()
    return torch.where(f1 >= f1.amax(1, keepdim=True) - 1e-9, off, math.inf).argmin(1)
