"""SimCLR: the two views of an example are to find each other among all others of the batch.

Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations",
https://arxiv.org/abs/2002.05709
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from quickstudy.errors import check_above_zero
from quickstudy.selfsupervised.base import METHODS, OfTwoViews


@METHODS.register("simclr")
class SimCLR(OfTwoViews):
    """Cross-entropy of scaled cosines: of each view with its other one, against those with all views of the batch.

    More examples in a batch are more to tell apart: take hundreds where memory allows.

    Args:
        temperature: what cosines are divided by.
        projection: widths of the projector's layers.
    """

    paper: ClassVar[str] = (
        "Chen et al. 2020, A Simple Framework for Contrastive Learning of Visual Representations, "
        "https://arxiv.org/abs/2002.05709"
    )

    def __init__(self, temperature: float = 0.2, projection: Sequence[int] = (256, 128)) -> None:
        check_above_zero(temperature=temperature)
        super().__init__("NTXentLoss", projection, temperature=temperature)
