"""Inner products that can be factorised, whatever the features.

Shapes: S support examples.
"""

from __future__ import annotations

import torch
from torch import Tensor


def definite(kernel_SS: Tensor) -> Tensor:
    """Return inner products in float64, with none of their eigenvalues below 0.

    Rounding leaves a kernel of dependent examples with some: all are raised by as much as it may have taken.

    Args:
        kernel_SS: inner products of examples, ``[S, S]``.
    """
    device = torch.device("cpu") if kernel_SS.device.type == "mps" else kernel_SS.device  # MPS has no float64
    exact_SS = kernel_SS.to(device, torch.float64)
    rounding = 2 * torch.finfo(kernel_SS.dtype).eps * len(kernel_SS) ** 0.5 * exact_SS.detach().diagonal().mean()
    raised_SS: Tensor = exact_SS + rounding * torch.eye(len(kernel_SS), dtype=torch.float64, device=device)
    return raised_SS
