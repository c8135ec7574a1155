"""Which method is good enough on one's own classes, and what accuracy to expect: ``quickstudy.ladder(data)``."""

from __future__ import annotations

import sys
from types import ModuleType

from quickstudy.ladder.climbing import Ladder, climb
from quickstudy.ladder.record import Record
from quickstudy.ladder.rung import Rung
from quickstudy.ladder.rungs import RUNGS, available_rungs

__all__ = ["RUNGS", "Ladder", "Record", "Rung", "available_rungs", "climb"]


class _Climbed(ModuleType):
    """This module, which is called like the function: ``quickstudy.ladder(...)`` is ``climb(...)``."""

    __call__ = staticmethod(climb)


ladder = sys.modules[__name__]
ladder.__class__ = _Climbed
