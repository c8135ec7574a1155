"""A box head's last layers that tell classes by directions: what few examples can change without harm.

Wang et al. 2020, "Frustratingly Simple Few-Shot Object Detection", https://arxiv.org/abs/2003.06957

Shapes: R regions, D features, C classes beside the background.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CosinePredictor(nn.Module):
    """Scores of classes by the cosine of features and a weight of each class, and one box for all classes.

    The background is class 0. As a box does not depend on the class, it is as good for classes to come.

    Args:
        features: D.
        classes: C + 1.
        scale: that cosines are multiplied by.
    """

    def __init__(self, features: int, classes: int, scale: float = 20.0) -> None:
        super().__init__()
        self.scale = scale
        self.cls_score = nn.Linear(features, classes, bias=False)
        self.bbox_pred = nn.Linear(features, 4)
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        nn.init.zeros_(self.bbox_pred.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``[R, C + 1]`` and how each region's box is moved, ``[R, 4(C + 1)]``, of ``[R, D]``."""
        logits = self.scale * F.linear(F.normalize(features, dim=1), F.normalize(self.cls_score.weight, dim=1))
        return logits, self.bbox_pred(features).repeat(1, logits.shape[1])


@torch.no_grad()
def of_other_classes(predictor: nn.Module, count: int, known: dict[int, int]) -> nn.Module:
    """Return the last layers of a box head for other classes: weights of those that stay, and new ones of the others.

    Args:
        predictor: a ``CosinePredictor``, or torchvision's ``FastRCNNPredictor``.
        count: C of the new one.
        known: by new number the old one, both from 1; the background, 0, stays.
    """
    score: nn.Linear = predictor.get_submodule("cls_score")  # type: ignore[assignment]
    boxes: nn.Linear = predictor.get_submodule("bbox_pred")  # type: ignore[assignment]
    pairs = {0: 0, **known}
    own = isinstance(predictor, CosinePredictor)
    made: nn.Module = (
        CosinePredictor(score.in_features, count + 1, predictor.scale)
        if isinstance(predictor, CosinePredictor)
        else type(predictor)(score.in_features, count + 1)
    ).to(score.weight)
    new, old = torch.tensor([*pairs]), torch.tensor([*pairs.values()])
    for name, leaf in made.get_submodule("cls_score").named_parameters():
        leaf[new] = score.get_parameter(name)[old]
    for name, leaf in made.get_submodule("bbox_pred").named_parameters():
        before = boxes.get_parameter(name)
        if own:
            leaf.copy_(before)
        else:
            leaf.view(count + 1, 4, -1)[new] = before.view(score.out_features, 4, -1)[old]
    return made
