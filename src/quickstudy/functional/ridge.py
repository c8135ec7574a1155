"""Ridge regression onto classes, in its dual form: a system of as many equations as there are examples.

Shapes: S support examples, W ways, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ridge(support_SD: Tensor, wanted_SW: Tensor, strength: Tensor | float) -> Tensor:
    """Return the weights w, ``[W, D]``, that minimise ``|Z w^T - Y|^2 + strength * |w|^2``, with gradients.

    Args:
        support_SD: Z, ``[S, D]``.
        wanted_SW: Y, ``[S, W]``.
        strength: of the regularisation, above 0.
    """
    gram_SS = support_SD @ support_SD.mT + strength * torch.eye(
        len(support_SD), dtype=support_SD.dtype, device=support_SD.device
    )
    # Rows of D numbers: products with them read memory in its order.
    return torch.cholesky_solve(wanted_SW, torch.linalg.cholesky(gram_SS)).mT @ support_SD
