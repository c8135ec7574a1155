"""Barlow Twins: features of two views are to agree, and each to tell what the others do not.

Zbontar et al. 2021, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
https://arxiv.org/abs/2103.03230
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from quickstudy.errors import check_above_zero
from quickstudy.selfsupervised.base import METHODS, OfTwoViews


@METHODS.register("barlow_twins")
class BarlowTwins(OfTwoViews):
    """Squared distance of the correlations between the two views' projected features from the identity matrix.

    Args:
        off_diagonal: weight of the correlations of different features.
        projection: widths of the projector's layers.
    """

    paper: ClassVar[str] = (
        "Zbontar et al. 2021, Barlow Twins: Self-Supervised Learning via Redundancy Reduction, "
        "https://arxiv.org/abs/2103.03230"
    )

    def __init__(self, off_diagonal: float = 5e-3, projection: Sequence[int] = (512, 512)) -> None:
        check_above_zero(off_diagonal=off_diagonal)
        super().__init__("BarlowTwinsLoss", projection, lambda_param=off_diagonal)
