"""Multinomial logistic regression at its optimum, with the gradient of that; and how strongly to regularise it.

    minimise over w  sum over examples of cross-entropy(x w, y)  +  strength / 2 |w|^2

Hastie & Tibshirani 2004, "Efficient Quadratic Regularization for Expression Arrays",
https://doi.org/10.1093/biostatistics/kxh010: a rotation leaves as many features as there are examples.
Dembo, Eisenstat & Steihaug 1982, "Inexact Newton Methods", https://doi.org/10.1137/0719025

Shapes: S support examples, F features, W ways, R rotated features, the fewer of S and F, and G groups: problems that
differ by their strength and by which examples they count. ``torch.func.vmap`` solves many tasks side by side.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from quickstudy.functional.kernels import double
from quickstudy.functional.known_gradient import once
from quickstudy.functional.prototypes import members

STRENGTHS = tuple(10 ** (-step / 2) for step in range(9))
"""What is tried, from 1 to 0.0001, in this order."""
USUAL = 0.1
"""The strength where nothing can be held out, and towards which few examples lean."""
_SPREAD = 0.5  # of what is usual, in decades: a standard deviation
_SCALES = tuple(2.0**power for power in range(-1, 8))  # of logits, where they are compared
_FOLDS = 5
_HELD_OUT = 400  # examples are enough to choose by
_RISE = 1e-6  # of a score's size; less may be rounding
_TOLERANCE = 1e-10  # of a gradient, relative to that of no weights
_ROUGH = 1e-2  # likewise, where a strength is chosen
_ROUNDING = 1e-14  # of a loss, which a step may raise it by
_NULL = 1e-12  # of the largest eigenvalue: what lies below is rounding
_MOST_STEPS, _MOST_PRODUCTS = 200, 500  # Newton's; and products with the curvature, in each
_MOST_HALVINGS = 40  # of a step
_DECREASE = 1e-4  # of what the slope promises


def logistic(
    features_SF: Tensor,
    targets_S: Tensor,
    ways: int,
    strength: float | None = None,
    steps: int = _MOST_STEPS,
    balanced: bool = False,
) -> Tensor:
    """Return the weights ``[F, W]`` of the optimum, found in float64; the gradient is that of the optimum.

    Args:
        features_SF: ``[S, F]``.
        targets_S: ``[S]`` classes from 0 to ``ways - 1``.
        ways: W.
        strength: of the regularisation, above 0; None: ``chosen_strength``, whose own gradient is none.
        steps: of Newton's method at most; 5 to 15 are usual.
        balanced: whether each class counts the same, S / W in all, however many examples it has.
    """
    exact_SF = double(features_SF)
    weights_FW: Tensor = _Optimum.apply(exact_SF, targets_S.to(exact_SF.device), ways, strength, steps, balanced)[0]
    return weights_FW.to(features_SF)


def chosen_strength(features_SF: Tensor, targets_S: Tensor, ways: int) -> Tensor:
    """Return the first of ``STRENGTHS`` that the next one does not better, by examples that are held out in turn.

    Better is a larger likelihood of their classes, at the temperature that makes it largest, times a log-normal prior
    around ``USUAL``, which counts where few are held out. Examples of each class are dealt to folds by what they are,
    not by their order; one alone in its class is in none. Takes any leading axes, of which each task has the strength
    it would have alone.

    Args:
        features_SF: ``[S, F]``, in float64.
        targets_S: ``[S]`` classes from 0 to ``ways - 1``.
        ways: W.
    """
    return _chosen(features_SF, _rotated(features_SF)[0], targets_S, ways)


class _Optimum(torch.autograd.Function):
    """Takes any leading axes of tasks, each of which takes the steps it would take alone."""

    @staticmethod
    def forward(
        features_SF: Tensor, targets_S: Tensor, ways: int, strength: float | None, steps: int, balanced: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the weights, and the strength: what the gradient needs."""
        finite = features_SF.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
        rotated_SR, back_FR = _rotated(features_SF)
        if strength is None:
            strength_T = _chosen(features_SF, rotated_SR, targets_S, ways)
        else:
            strength_T = features_SF.new_full(features_SF.shape[:-2], strength)
        counts_S1 = _balanced(targets_S, ways, rotated_SR.dtype) if balanced else None
        weights_R1W = _problem(rotated_SR, targets_S, ways, strength_T, counts_S1).solved(_TOLERANCE, steps)
        return (back_FR @ weights_R1W.squeeze(-2)).masked_fill(~finite, torch.nan), strength_T

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep what the gradient needs."""
        ctx.ways, ctx.balanced = inputs[2], inputs[5]
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs[:2], *output)

    @staticmethod
    def backward(ctx: Any, gradient_FW: Tensor, _: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        """Differentiate the conditions of the optimum, which hold whatever way led there."""
        features_SF, targets_S, weights_FW, strength_T = ctx.saved_tensors
        rotated_SR, back_FR = _rotated(features_SF)
        counts_S1 = _balanced(targets_S, ctx.ways, features_SF.dtype) if ctx.balanced else None
        problem = _problem(rotated_SR, targets_S, ctx.ways, strength_T, counts_S1)
        chances_SW = (features_SF @ weights_FW).softmax(-1)
        inside_RW = back_FR.mT @ gradient_FW
        moved_R1W, _ = problem.newton(chances_SW.unsqueeze(-2), inside_RW.unsqueeze(-2), _TOLERANCE)
        # Across all examples' features nothing but the strength bends the loss.
        moved_FW = back_FR @ moved_R1W.squeeze(-2) + (gradient_FW - back_FR @ inside_RW) / strength_T[..., None, None]
        through_SW = chances_SW * (features_SF @ moved_FW)
        bent_SW = through_SW - chances_SW * through_SW.sum(-1, keepdim=True)
        excess_SW = chances_SW - members(targets_S, ctx.ways, chances_SW.dtype)
        for_features_SF = -(excess_SW @ moved_FW.mT + bent_SW @ weights_FW.mT)
        if counts_S1 is not None:
            for_features_SF = counts_S1 * for_features_SF
        return once(for_features_SF, features_SF, gradient_FW), None, None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        """Put the tasks' axis first."""
        features_SF, targets_S = (
            value.expand(info.batch_size, *value.shape) if axis is None else value.movedim(axis, 0)
            for value, axis in zip(inputs[:2], in_dims[:2], strict=True)
        )
        return _Optimum.apply(features_SF, targets_S, *inputs[2:]), (0, 0)


class _Problem(NamedTuple):
    """Regressions of the same examples; all sums over a weight's axes are those of one group of one task."""

    rotated: Tensor
    """``[S, R]``"""
    wanted: Tensor
    """``[S, 1, W]``"""
    strength: Tensor
    """``[1, 1, 1]``"""
    counts: Tensor
    """``[S, G, 1]``: 1 for each example that a group learns from, else 0."""

    def solved(self, tolerance: float, steps: int, start_RGW: Tensor | None = None) -> Tensor:
        """Return the weights ``[R, G, W]`` where the gradient is so small a share of that of no weights at all."""
        first = _norm(_times(self.rotated.mT, self.counts * (self.wanted - 1 / self.wanted.shape[-1])))
        if start_RGW is None:
            start_RGW = torch.zeros_like(first).expand(
                *first.shape[:-3], self.rotated.shape[-1], first.shape[-2], self.wanted.shape[-1]
            )
        weights_RGW, logits_SGW = start_RGW, _times(self.rotated, start_RGW)
        loss = self._loss(weights_RGW, logits_SGW)
        for _ in range(steps):
            chances_SGW = logits_SGW.softmax(-1)
            slope_RGW = _times(self.rotated.mT, self.counts * (chances_SGW - self.wanted))
            slope_RGW = slope_RGW + self.strength * weights_RGW
            size = _norm(slope_RGW)
            done = ~(size > tolerance * first)
            if done.all():
                break
            share = (size / first).clamp(tolerance, 0.1).masked_fill(done, torch.inf)
            towards_RGW, change_SGW = self.newton(chances_SGW, -slope_RGW, share)
            promise, length = _inner(slope_RGW, towards_RGW), torch.ones_like(loss)
            for _ in range(_MOST_HALVINGS):
                after = self._loss(weights_RGW + length * towards_RGW, logits_SGW + length * change_SGW)
                high = after > loss + _DECREASE * length * promise + _ROUNDING * loss
                if not high.any():
                    break
                length = torch.where(high, length / 2, length)
            weights_RGW, logits_SGW = weights_RGW + length * towards_RGW, logits_SGW + length * change_SGW
            loss = after
        return weights_RGW

    def newton(self, chances_SGW: Tensor, right_RGW: Tensor, share: Tensor | float) -> tuple[Tensor, Tensor]:
        """Return x, and what it does to logits, so that ``curvature x = right`` but for a share of ``right``'s length.

        Conjugate gradients, by the curvature's diagonal; a group whose share is infinite keeps x = 0.
        """
        counted_SGW = self.counts * chances_SGW
        diagonal_RGW = _times(self.rotated.square().mT, counted_SGW * (1 - chances_SGW)) + self.strength
        found_RGW, change_SGW, left_RGW = torch.zeros_like(right_RGW), torch.zeros_like(counted_SGW), right_RGW
        towards_RGW = scaled_RGW = left_RGW / diagonal_RGW
        power, goal = _inner(left_RGW, scaled_RGW), share * _norm(right_RGW)
        for _ in range(_MOST_PRODUCTS):
            going = _norm(left_RGW) > goal
            if not going.any():
                break
            step_SGW = _times(self.rotated, towards_RGW)
            bent_SGW = counted_SGW * step_SGW
            bent_SGW = bent_SGW - chances_SGW * bent_SGW.sum(-1, keepdim=True)
            bent_RGW = _times(self.rotated.mT, bent_SGW) + self.strength * towards_RGW
            length = torch.where(going, power / _inner(towards_RGW, bent_RGW), 0)
            found_RGW, change_SGW = found_RGW + length * towards_RGW, change_SGW + length * step_SGW
            left_RGW = left_RGW - length * bent_RGW
            scaled_RGW = left_RGW / diagonal_RGW
            before, power = power, _inner(left_RGW, scaled_RGW)
            towards_RGW = scaled_RGW + torch.where(going, power / before, 0) * towards_RGW
        return found_RGW, change_SGW

    def _loss(self, weights_RGW: Tensor, logits_SGW: Tensor) -> Tensor:
        surprise_SG1 = logits_SGW.logsumexp(-1, keepdim=True) - (self.wanted * logits_SGW).sum(-1, keepdim=True)
        penalty = self.strength / 2 * _inner(weights_RGW, weights_RGW)
        return (self.counts * surprise_SG1).sum((-3, -1), keepdim=True) + penalty


def _problem(
    rotated_SR: Tensor, targets_S: Tensor, ways: int, strength_T: Tensor, learns_SG: Tensor | None = None
) -> _Problem:
    """Return the regressions of examples, each of which counts as much as is told of each group; else all the same."""
    wanted_SW = members(targets_S, ways, rotated_SR.dtype)
    counts_SG = torch.ones_like(wanted_SW[..., :1]) if learns_SG is None else learns_SG
    return _Problem(rotated_SR, wanted_SW.unsqueeze(-2), strength_T[..., None, None, None], counts_SG.unsqueeze(-1))


def _balanced(targets_S: Tensor, ways: int, dtype: torch.dtype) -> Tensor:
    """Return what each example counts where classes count the same, ``[S, 1]``; one on average."""
    own_SW = members(targets_S, ways, dtype)
    each_W = targets_S.shape[-1] / (ways * own_SW.sum(-2, keepdim=True).clamp(min=1))
    return (own_SW * each_W).sum(-1, keepdim=True)


def _chosen(features_SF: Tensor, rotated_SR: Tensor, targets_S: Tensor, ways: int) -> Tensor:
    """See ``chosen_strength``."""
    examples, chosen_T = targets_S.shape[-1], features_SF.new_full(features_SF.shape[:-2], USUAL)
    if examples <= ways:
        return chosen_T
    folds = min(_FOLDS, max(2, examples // ways))
    asked = min(folds, -(-_HELD_OUT * folds // examples))
    held_SG = _held_out(features_SF, targets_S, ways, folds)[..., :asked]
    best_T, rising_T = torch.full_like(chosen_T, -torch.inf), torch.ones_like(chosen_T, dtype=torch.bool)
    weights: Tensor | None = None
    for strength in STRENGTHS:
        problem = _problem(rotated_SR, targets_S, ways, torch.full_like(chosen_T, strength), 1 - held_SG)
        weights = problem.solved(_ROUGH, _MOST_STEPS, weights)
        logits_SGW = _times(rotated_SR, weights)
        # What is judged is how well answers tell classes apart; how sure they are is calibrated elsewhere.
        likely_T = torch.stack(
            [
                (held_SG * ((scale * logits_SGW).log_softmax(-1) * problem.wanted).sum(-1)).sum((-2, -1))
                for scale in _SCALES
            ]
        ).amax(0)
        score_T = likely_T - (math.log10(strength / USUAL) / _SPREAD) ** 2 / 2
        rising_T = rising_T & (score_T > best_T + _RISE * score_T.abs())
        if not rising_T.any():
            break
        chosen_T, best_T = chosen_T.masked_fill(rising_T, strength), score_T
    return chosen_T


def _held_out(features_SF: Tensor, targets_S: Tensor, ways: int, folds: int) -> Tensor:
    """Return ``[S, folds]`` ones where a fold leaves an example out.

    They are dealt out within each class in the order of a number that hardly two different ones share.
    """
    irregular_F = torch.arange(1, features_SF.shape[-1] + 1, dtype=features_SF.dtype, device=features_SF.device)
    order_S = (features_SF @ (irregular_F * 0.6180339887498949 % 1)).argsort(-1)
    order_S = order_S.gather(-1, targets_S.gather(-1, order_S).argsort(dim=-1, stable=True))
    counts_W = members(targets_S, ways, torch.long).sum(-2)
    in_order_S = targets_S.gather(-1, order_S)
    places_S = torch.arange(targets_S.shape[-1], device=targets_S.device) - (counts_W.cumsum(-1) - counts_W).gather(
        -1, in_order_S
    )
    dealt_S = (places_S % folds).where(counts_W.gather(-1, in_order_S) > 1, -1)  # one alone in its class stays
    return members(torch.empty_like(dealt_S).scatter(-1, order_S, dealt_S), folds, features_SF.dtype)


def _rotated(features_SF: Tensor) -> tuple[Tensor, Tensor]:
    """Return examples ``[S, R]`` by axes that do not covary, and those axes, ``[F, R]``, which have length 1."""
    features_SF = features_SF.nan_to_num(0, 0, 0)  # which would be a solver's failure
    if features_SF.shape[-2] > features_SF.shape[-1]:
        axes_FR = torch.linalg.eigh(features_SF.mT @ features_SF)[1]
        return features_SF @ axes_FR, axes_FR
    squares_R, sides_SR = torch.linalg.eigh(features_SF @ features_SF.mT)
    matters_1R = (squares_R > _NULL * squares_R.amax(-1, keepdim=True)).unsqueeze(-2)
    lengths_1R = squares_R.clamp(min=0).sqrt().unsqueeze(-2).where(matters_1R, torch.inf)
    return (sides_SR * lengths_1R).where(matters_1R, 0), features_SF.mT @ (sides_SR / lengths_1R)


def _times(left_NM: Tensor, right_MGW: Tensor) -> Tensor:
    """Return a product for all groups at once."""
    product_NX = left_NM @ right_MGW.flatten(-2)
    return product_NX.view(*product_NX.shape[:-1], *right_MGW.shape[-2:])


def _inner(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum((-3, -1), keepdim=True)


def _norm(one: Tensor) -> Tensor:
    return _inner(one, one).sqrt()
