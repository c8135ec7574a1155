"""Inner products that can be factorised, whatever the features.

Shapes: S support examples, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor


def precise(support_SD: Tensor) -> Tensor:
    """Return examples ``[S, D]``; in float64 where there are more of them than features.

    Their kernel then has eigenvalues of 0, and what rounding makes of those would decide a solver's answer.
    """
    single = len(support_SD) <= support_SD.shape[1] or support_SD.device.type == "mps"  # MPS has no float64
    return support_SD if single else support_SD.double()


def double(values: Tensor) -> Tensor:
    """Return values in float64; those of MPS, which has none, on the CPU."""
    return values.to("cpu" if values.device.type == "mps" else values.device, torch.float64)


def definite(kernel_SS: Tensor) -> Tensor:
    """Return a kernel in float64, with no eigenvalue below 0: all are raised by what rounding may have taken."""
    exact_SS = double(kernel_SS)
    count = len(kernel_SS)
    by_products, by_factors = torch.finfo(kernel_SS.dtype).eps * count**0.5, torch.finfo(torch.float64).eps * count
    return raised(exact_SS, 2 * (by_products + by_factors))


def raised(kernel_SS: Tensor, share: float) -> Tensor:
    """Return kernels with a share of the mean of their diagonal added to it; takes any leading axes."""
    height = share * kernel_SS.detach().diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    higher_SS: Tensor = kernel_SS + height * torch.eye(
        kernel_SS.shape[-1], dtype=kernel_SS.dtype, device=kernel_SS.device
    )
    return higher_SS
