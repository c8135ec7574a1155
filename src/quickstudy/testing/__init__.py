"""For authors: the conformance suites of an algorithm, a modality, a kind of answer, a domain; small made-up data."""

from quickstudy.testing.algorithm import check_algorithm
from quickstudy.testing.demands import NonconformingError
from quickstudy.testing.domain import check_domain
from quickstudy.testing.kind import check_kind
from quickstudy.testing.made_up import small_encoder, small_episodes
from quickstudy.testing.modality import check_modality

__all__ = [
    "NonconformingError",
    "check_algorithm",
    "check_domain",
    "check_kind",
    "check_modality",
    "small_encoder",
    "small_episodes",
]
