"""The head that adapting by gradient steps starts from."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn

from quickstudy.errors import ConfigError, check_choice


class LearnedHead(nn.Module):
    """The linear layer that adapting starts from.

    Args:
        kind: ``"linear"``, a weight vector per way; ``"shared"``, one for all ways, which steps of its own must tell
            apart.
        for_other_ways: ``Algorithm.for_other_ways``.
    """

    def __init__(self, kind: Literal["linear", "shared"], for_other_ways: str) -> None:
        super().__init__()
        check_choice("head", kind, "linear", "shared")
        self.fixed_ways = kind == "linear"
        self._for_other_ways = for_other_ways
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)

    def build(self, feature_shape: tuple[int, ...], ways: int) -> None:
        """Make the weights."""
        made = nn.Linear(math.prod(feature_shape), ways if self.fixed_ways else 1)
        self.weight, self.bias = nn.Parameter(made.weight.detach()), nn.Parameter(made.bias.detach())

    def start(self, ways: int) -> tuple[Tensor, Tensor]:
        """Return ``[W, D]`` weights and ``[W]`` biases.

        Raises:
            ConfigError: it was made for another number of ways.
        """
        self.check(ways)
        assert self.weight is not None and self.bias is not None
        return self.weight.expand(ways, -1), self.bias.expand(ways)

    def check(self, ways: int) -> None:
        """Check the number of ways.

        Raises:
            ConfigError: it was made for another.
        """
        assert self.bias is not None, "build comes first"
        if self.fixed_ways and len(self.bias) != ways:
            raise ConfigError(
                f"head='linear' was made for {len(self.bias)} ways, and these are {ways}: train anew, and before that "
                f"{self._for_other_ways}"
            )
