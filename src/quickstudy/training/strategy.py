"""From ``training_strategy`` and its keyword arguments to a plan of episodes and an algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from quickstudy.algorithms import STRATEGIES, Algorithm
from quickstudy.data.episodes import EpisodePlan
from quickstudy.errors import ConfigError, check_options
from quickstudy.registry import options_of

Strategy = tuple[EpisodePlan | None, Algorithm | None]


def build_strategy(name: str, kwargs: Mapping[str, Any] | None = None) -> Strategy:
    """Return the plan and the algorithm of a strategy; for ``"default"``, which has no episodes, (None, None).

    Raises:
        ConfigError: the name or a keyword is unknown, or a value is out of range.
    """
    kwargs = dict(kwargs or {})
    if name == "default":
        if kwargs:
            raise ConfigError(
                f"training_strategy='default' trains without episodes and takes no training_strategy_kwargs "
                f"({', '.join(kwargs)}). For episodes set training_strategy='prototypicalnetworks'"
            )
        return None, None
    if name not in STRATEGIES:
        raise STRATEGIES.unknown(name, ["default"])
    algorithm = STRATEGIES[name]
    planned = {field.name for field in fields(EpisodePlan)}
    own = options_of(algorithm, Algorithm)
    check_options(f"training_strategy='{name}'", kwargs, [*own, *sorted(planned)])
    plan = EpisodePlan(**{key: value for key, value in kwargs.items() if key in planned})
    made = algorithm(**{key: value for key, value in kwargs.items() if key in own})
    least, most = plan.span("train")
    if made.fixed_ways and least < most:
        raise ConfigError(
            f"training_strategy='{name}' is made for one number of ways, and ways={plan.ways} are several: give one"
            + (f", or {made.for_other_ways}" if made.for_other_ways else "")
        )
    if made.fixed_ways and plan.span("test") != (least, most):
        raise ConfigError(
            f"training_strategy='{name}' is tested on as many ways as it is trained on, not on "
            f"test_ways={plan.test_ways} after ways={plan.ways}: make them equal"
            + (f", or {made.for_other_ways}" if made.for_other_ways else "")
        )
    return plan, made
