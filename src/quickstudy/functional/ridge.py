"""Ridge regression onto classes: a system of as many equations as there are examples, or features if those are fewer.

Shapes: S support examples, W ways, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quickstudy.functional.kernels import definite, precise
from quickstudy.functional.prototypes import counts, members, prototypes


def ridge(support_SD: Tensor, wanted_SW: Tensor, strength: Tensor | float) -> Tensor:
    """Return the weights w, ``[W, D]``, that minimise ``|Z w^T - Y|^2 + strength * |w|^2``, with gradients.

    Args:
        support_SD: Z, ``[S, D]``.
        wanted_SW: Y, ``[S, W]``.
        strength: of the regularisation, above 0.
    """
    precise_SD = precise(support_SD)
    if len(support_SD) > support_SD.shape[1]:
        return _by_features(precise_SD, wanted_SW.mT.to(precise_SD) @ precise_SD, strength).to(support_SD)
    kernel_SS = definite(precise_SD @ precise_SD.mT)
    dual_SW = torch.cholesky_solve(wanted_SW.to(kernel_SS), _factor(kernel_SS, strength))
    # Rows of D numbers: products with them read memory in its order.
    return (dual_SW.mT.to(precise_SD) @ precise_SD).to(support_SD)


def ridge_classifier(support_SD: Tensor, targets_S: Tensor, ways: int, strength: Tensor | float) -> Tensor:
    """Return the weights ``[W, D]`` of ridge regression onto 1 for an example's class and 0 for the others.

    Args:
        support_SD: ``[S, D]`` embeddings.
        targets_S: ``[S]`` classes from 0 to ``ways - 1``, each at least once.
        ways: W.
        strength: of the regularisation, above 0.
    """
    if len(support_SD) <= support_SD.shape[1]:
        return ridge(support_SD, members(targets_S, ways, support_SD.dtype), strength)
    precise_SD = precise(support_SD)  # the sums of the classes need no [S, W]
    sums_WD = prototypes(precise_SD, targets_S, ways) * counts(targets_S, ways)[:, None]
    return _by_features(precise_SD, sums_WD, strength).to(support_SD)


def inverse_of(support_SD: Tensor, strength: float) -> Tensor:
    """Return ``(Z^T Z + strength)^-1`` in float64, ``[D, D]``: class sums ``[W, D]`` times it are the weights."""
    exact_SD = support_SD.double()
    return torch.cholesky_inverse(_factor(definite(exact_SD.mT @ exact_SD), strength))


def _by_features(support_SD: Tensor, sums_WD: Tensor, strength: Tensor | float) -> Tensor:
    factor_DD = _factor(definite(support_SD.mT @ support_SD), strength)
    return torch.cholesky_solve(sums_WD.mT.to(factor_DD), factor_DD).mT.to(support_SD).contiguous()


def _factor(kernel: Tensor, strength: Tensor | float) -> Tensor:
    identity = torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    factor: Tensor = torch.linalg.cholesky_ex(kernel + strength * identity)[0]
    return factor
