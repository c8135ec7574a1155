"""Ridge regression onto classes, in its dual form: a system of as many equations as there are examples.

Shapes: S support examples, W ways, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quickstudy.functional.kernels import definite, precise


def ridge(support_SD: Tensor, wanted_SW: Tensor, strength: Tensor | float) -> Tensor:
    """Return the weights w, ``[W, D]``, that minimise ``|Z w^T - Y|^2 + strength * |w|^2``, with gradients.

    Args:
        support_SD: Z, ``[S, D]``.
        wanted_SW: Y, ``[S, W]``.
        strength: of the regularisation, above 0.
    """
    precise_SD = precise(support_SD)
    kernel_SS = definite(precise_SD @ precise_SD.mT)
    identity_SS = torch.eye(len(kernel_SS), dtype=kernel_SS.dtype, device=kernel_SS.device)
    factor_SS = torch.linalg.cholesky_ex(kernel_SS + strength * identity_SS)[0]
    dual_SW = torch.cholesky_solve(wanted_SW.to(factor_SS), factor_SS)
    # Rows of D numbers: products with them read memory in its order.
    return (dual_SW.mT.to(precise_SD) @ precise_SD).to(support_SD)
