"""Measure again what was measured of a run, and compare.

``quickstudy test --checkpoint runs/1/best.ckpt ...`` leaves its figures and options in the run's folder; this repeats
it with the same options and data, and says whether figures, data and versions are the same. Exit status 1: the accuracy
or that of a class differs by more than rounding could make it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quickstudy.cli.test import how_to_test, measured, recorded
from quickstudy.errors import DataError
from quickstudy.runs.results import interval, score_in, sentence, versions
from quickstudy.training.outcome import in_words

ROUNDING = 0.05
"""What another processor's rounding may change, as a share of the interval."""
PLACES = 1e-5
"""What it may change of a score that is no share, and may have no interval, as a share of the score."""
_SHOWN = 20  # figures that moved


def run(args: argparse.Namespace) -> int:
    """Measure, compare, and print both."""
    folder, then = recorded(args.run, "options", "versions", "result")
    if then["options"] is None:
        first = f"measure it first, {how_to_test(folder)}"
        raise DataError(f"'{folder}' was tested in Python, which does not record its data: {first}")
    options = {**then["options"], "checkpoint": str(folder / Path(then["options"]["checkpoint"]).name)}
    before, (_, _, now, _) = then["result"], measured(options)
    if now is None:
        return 0
    print(f"recorded: {sentence(before)}")
    print(f"now:      {sentence(now)}")
    for name, value in versions().items():
        if then["versions"].get(name) != value:
            print(f"{name} was {then['versions'].get(name)}, and is {value}")
    if before.get("data") != now.get("data"):
        print("the test data is not the same")
    moved = _moved(before, now)
    for line in moved[:_SHOWN]:
        print(line)
    if len(moved) > _SHOWN:
        print(f"and {len(moved) - _SHOWN} more")
    same = _same(before, now)
    name = score_in(before).name
    exactly = before.get(name) == now.get(name) and not moved
    print("the same" if exactly else "the same but for rounding" if same else "NOT the same")
    return 0 if same else 1


def _moved(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for each further figure that both have and that is not the same."""
    lines = []
    over_classes = f"{score_in(before).name}_ci95_classes"
    if before.get(over_classes) != now.get(over_classes) and over_classes in before:
        was, is_ = (interval(result) for result in (before, now))
        lines.append(f"the intervals were {was}, and are {is_}")
    for kind in ("per_class", "per_label"):
        then, found = before.get(kind, {}), now.get(kind, {})
        for name in dict.fromkeys([*then, *found]) if then else ():
            was, is_ = (in_words(figures[name]) if name in figures else "not there" for figures in (then, found))
            if any(found.get(name, {}).get(each) != value for each, value in then.get(name, {"": 0}).items()):
                lines.append(f"{name} was {was}, and is {is_}")
    return lines


def _same(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the score, and the accuracy of each class, differ by no more than rounding could make them."""
    score = score_in(before)
    was, is_ = before.get(score.name), now.get(score.name)
    if score != score_in(now) or was is None or is_ is None:
        return score == score_in(now) and was == is_
    allowed = ROUNDING * (before.get(f"{score.name}_ci95") or 0)
    if abs(is_ - was) > max(allowed, 0 if score.share else PLACES * abs(was)):
        return False
    for kind in ("per_class", "per_label"):
        then, found = before.get(kind, {}), now.get(kind, {})
        if then and then.keys() != found.keys():
            return False
        asked = sum(figures["examples"] for figures in found.values())
        for name, figures in then.items():
            # As many examples of a class may turn as of all together.
            turned = abs(found[name]["accuracy"] - figures["accuracy"]) * found[name]["examples"]
            if turned > allowed * asked + 1e-6:
                return False
    return True
