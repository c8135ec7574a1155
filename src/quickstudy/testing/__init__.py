"""For authors: the conformance suite of an algorithm, and small made-up data."""

from quickstudy.testing.algorithm import check_algorithm
from quickstudy.testing.demands import NonconformingError
from quickstudy.testing.made_up import small_encoder, small_episodes

__all__ = ["NonconformingError", "check_algorithm", "small_encoder", "small_episodes"]
