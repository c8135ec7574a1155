"""The one form in which a few-shot task travels from the data to an algorithm."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Episode(NamedTuple):
    """T few-shot tasks side by side: learn from the support, be judged on the query.

    Shapes: T tasks, S support and Q query examples per task, ``...`` the shape of one input.
    Targets count from 0 within each task; rows are ordered by class.
    """

    support: Tensor
    """``[T, S, ...]``"""
    support_targets: Tensor
    """``[T, S]``, int64"""
    query: Tensor
    """``[T, Q, ...]``"""
    query_targets: Tensor
    """``[T, Q]``, int64"""
