"""An answer is a vector of features, near those of like inputs.

Shapes: N examples, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from quickstudy.algorithms.base import exact
from quickstudy.batches import Batch
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, check_counts
from quickstudy.functional.neighbours import neighbourhood_loss, votes_of_nearest
from quickstudy.kinds.base import KINDS, Judged, Kind, Score
from quickstudy.kinds.losses import Loss
from quickstudy.kinds.predictions import check_finite
from quickstudy.nets import Encoder

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

    from quickstudy.kinds.metrics import Figures

KNN_ACCURACY, LOSS = Score("knn_accuracy", share=True), Score("loss", "min")


@KINDS.register("embedding")
@dataclass(frozen=True)
class Embedding(Kind):
    """The features that a backbone makes of an input.

    With labels it is judged by how many examples have the class that their nearest others vote for, each left out in
    turn, so that classes may be any; without, by the loss of what trains it.

    Args:
        neighbours: how many others vote.
        labelled: whether the examples that it is judged on have labels.
    """

    forms: ClassVar[tuple[str, ...]] = ("embeddings",)
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"embedding": {"type": "array", "items": {"type": "number"}}},
    }
    learned: ClassVar[tuple[str, ...]] = ("labelled",)
    shown_by: ClassVar[str] = "nearest_centroid"
    unlabelled: ClassVar[bool] = True
    shares: ClassVar[bool] = False

    neighbours: int = 5
    labelled: bool = True

    def __post_init__(self) -> None:
        check_counts(neighbours=self.neighbours)

    @property
    def score(self) -> Score:  # type: ignore[override]  # which depends on the data here
        """What is best: how often neighbours are right, where labels tell that; else the loss."""
        return KNN_ACCURACY if self.labelled else LOSS

    def judged_on(self, table: Table | None) -> Self:
        """Return it as it is judged on examples: by their labels, where they have such; see ``Kind.judged_on``."""
        return self if table is None else replace(self, labelled=table.targets is not None)

    def meet(self, data: Any, stage: str) -> Self:
        """Check that there are labels, by which alone it is trained and judged here; see ``Kind.meet``."""
        stages = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}[stage]
        for name in stages if data is not None else ():
            table = data.table(name)
            if table is not None and (table.targets is None or table.numeric or table.multi_label):
                raise ConfigError(
                    f"the {name} data has no label of each example: without them training_strategy='simclr' (or "
                    "another of: quickstudy list methods) trains it and has a loss to judge by; as it is, it answers: "
                    "trainer.predict, model.predictor(), model.adapt"
                )
        return self

    # ---- the network

    def first_head(self, encoder: Encoder) -> nn.Module:
        """Return what hands on the features, as they are the answer."""
        return nn.Identity()

    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        """Return what hands on the features."""
        return nn.Identity()

    def head_of(self, weights: Mapping[str, Tensor], encoder: Encoder, like: Batch | None) -> nn.Module:
        """Return what hands on the features."""
        return nn.Identity()

    # ---- how well it does

    def loss(self, asked: str | Loss | None, otherwise: Loss | None = None) -> Loss:
        """Return a function of (features, codes); by default that of neighbours which are of another class.

        Raises:
            ConfigError: it is asked for by a name.
        """
        if isinstance(asked, str):
            raise ConfigError(f"loss_fn='{asked}' is of other answers: give a function of (features [N, D], codes [N])")
        return asked or otherwise or neighbourhood_loss

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Tensor, loss: Loss) -> Judged:
        """Embed a batch, and judge by its labels how near each other those of a class are; see ``Kind.judge``."""
        outputs: Tensor = self.outputs(encoder, head, inputs)
        return Judged(loss(exact(outputs), targets), len(outputs), outputs, targets, self.figures(outputs, targets))

    def figures(self, outputs: Tensor, targets: Tensor | None) -> Tensor:
        """Return ``[N, D + 1]``: features and code of each example; none where they have no label."""
        if targets is None:
            return outputs.new_empty(0, outputs.shape[-1] + 1)
        features = exact(outputs.detach())
        return torch.cat([features, targets.to(features)[:, None]], 1)

    def settled(self, figures: Tensor) -> Tensor:
        """Return for each of all examples together whether its nearest others are right, 0 or 1."""
        if figures.ndim < 2 or not len(figures):
            return figures.new_empty(0)
        # Always in the same order, whichever process had which: of neighbours that are as near, the first vote.
        figures = figures.float()
        keys = (figures * torch.arange(1.0, figures.shape[1] + 1, device=figures.device).cos()).sum(1)
        order = figures[:, -1].argsort(stable=True)
        order = order[keys[order].argsort(stable=True)]
        features, codes = figures[order, :-1], figures[order, -1].long()
        right = votes_of_nearest(features, codes, self.neighbours) == codes
        return torch.zeros_like(keys).index_copy(0, order, right.to(keys))

    def measure(self, per_example: bool, choices: int = 0) -> Figures:
        """Return what gathers features, of which the score follows; see ``Kind.measure``."""
        from quickstudy.kinds.metrics import Settled  # torchmetrics takes long to import, and answering needs none

        return Settled(KNN_ACCURACY.name, self.settled)

    def further(self, asked: Any, choices: int = 0) -> MetricCollection:
        """Return the deviation of the features, which tells when all become alike; see ``Kind.further``."""
        from torchmetrics import MetricCollection

        from quickstudy.kinds.metrics import FeatureDeviation

        super().further(asked, choices)
        return MetricCollection({"feature_std": FeatureDeviation()})

    def for_metrics(self, outputs: Tensor, targets: Any, choices: int = 0) -> tuple[Any, Any]:
        """Return features ``[N, D]`` and targets."""
        return exact(outputs.detach()).flatten(0, -2), targets

    # ---- answers

    def answers(self, outputs: Tensor, form: str) -> Any:
        """Return the features ``[N, D]``.

        Raises:
            DataError: one is not finite.
        """
        check_finite(outputs.isfinite().all(-1), "finite")
        return exact(outputs)

    def in_json(self, answer: Tensor) -> dict[str, Any]:
        """Return the features of an input as a list; see ``Kind.in_json``."""
        return {"embedding": answer.tolist()}
