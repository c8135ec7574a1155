"""VICReg: two views are to agree, while every feature varies, and none follows from others.

Bardes et al. 2022, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning",
https://arxiv.org/abs/2105.04906
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from quickstudy.errors import check_above_zero
from quickstudy.selfsupervised.base import METHODS, OfTwoViews


@METHODS.register("vicreg")
class VICReg(OfTwoViews):
    """Squared distance of the views, plus what features lack of a deviation of 1, plus their covariances.

    Args:
        invariance: weight of the squared distance.
        variance: weight of what deviations lack.
        covariance: weight of the covariances.
        projection: widths of the projector's layers.
    """

    paper: ClassVar[str] = (
        "Bardes et al. 2022, VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning, "
        "https://arxiv.org/abs/2105.04906"
    )

    def __init__(
        self,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        projection: Sequence[int] = (512, 512),
    ) -> None:
        check_above_zero(invariance=invariance, variance=variance, covariance=covariance)
        weights = {"lambda_param": invariance, "mu_param": variance, "nu_param": covariance}
        super().__init__("VICRegLoss", projection, **weights)
