"""Tasks that rows make of themselves, without labels: what some columns tell is to be told by the others.

Nam et al. 2023, "STUNT: Few-shot Tabular Learning with Self-generated Tasks from Unlabeled Tables",
https://arxiv.org/abs/2303.00918

Shapes: N rows, F numbers, K categories, P features of some columns, W clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.batches import Batch, join, size, take
from quickstudy.data.episodes import EpisodeDraw
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, DataError, brief, check_counts
from quickstudy.functional.distances import squared_euclidean
from quickstudy.functional.prototypes import counts, prototypes

_STEPS = 20
"""Of k-means, at most."""


def self_made_tasks(
    rows: Batch,
    tasks: int = 200,
    clusters: int = 10,
    share: tuple[float, float] = (0.2, 0.5),
    examples: int = 1000,
    seed: int = 0,
    first: int = 0,
) -> Table:
    """Return so many tasks: for each, the clusters of rows by some columns, which are then shuffled among the rows.

    Args:
        rows: ``{"numbers": [N, F], "missing": [N, F], "codes": [N, K]}``.
        tasks: how many.
        clusters: W, the classes of each, found by k-means.
        share: of the columns, that makes a task's classes: drawn between these two.
        examples: rows of each task, drawn anew.
        seed: a task is a function of this, its number and the rows.
        first: the number of the first, from which on they are counted.

    Returns:
        Rows and classes named ``"task 3, cluster 1"``; ``of_one_task`` draws episodes of them.

    Raises:
        ConfigError: an option is out of range.
        DataError: there are fewer rows than clusters, or a single column.
    """
    check_counts(tasks=tasks)
    check_counts(2, clusters=clusters, examples=examples)
    if not (_are_two(share) and 0 < share[0] <= share[1] < 1):
        raise ConfigError(f"share={brief(share)}: give two shares of the columns, the least and the most, (0.2, 0.5)")
    many, numbers = size(rows), rows["numbers"].shape[1]
    wide = numbers + rows["codes"].shape[1]
    if many < clusters or wide < 2:
        raise DataError(
            f"{many} rows of {wide} columns make no tasks of {clusters} clusters by some columns: give more rows, of "
            "two columns or more, or set clusters="
        )
    parts, targets = [], []
    for task in range(tasks):
        generator = np.random.default_rng([seed, first + task])
        some = take(rows, torch.from_numpy(generator.permutation(many)[:examples]))
        chosen = generator.permutation(wide)[: max(1, round(generator.uniform(*share) * wide))]
        targets.append(task * clusters + _clusters(_features(some, chosen, numbers), clusters, generator))
        parts.append(_shuffled(some, chosen, numbers, generator))
    names = tuple(f"task {first + task}, cluster {cluster}" for task in range(tasks) for cluster in range(clusters))
    return Table(join(parts), torch.cat(targets).numpy().astype(np.int32), names)


def _are_two(share: Any) -> bool:
    return isinstance(share, (tuple, list)) and len(share) == 2 and all(isinstance(one, (int, float)) for one in share)


def of_one_task(draw: EpisodeDraw) -> NDArray[np.int64]:
    """Draw an episode whose classes are of one task, as ``episode_sampler``.

    Raises:
        DataError: no task has so many clusters of so many rows.
    """
    least, by_task = draw.shots + draw.queries, dict[str, list[int]]()
    for code, (name, rows) in enumerate(zip(draw.classes, draw.rows, strict=True)):
        if len(rows) >= least:
            by_task.setdefault(name.partition(",")[0], []).append(code)
    fitting = [codes for codes in by_task.values() if len(codes) >= draw.ways]
    if not fitting:
        raise DataError(
            f"no self-made task has {draw.ways} clusters of {least} rows or more: set fewer ways, shots or queries, or "
            "make tasks of more examples or more clusters"
        )
    codes = draw.generator.permutation(fitting[int(draw.generator.integers(len(fitting)))])[: draw.ways]
    return np.stack([draw.generator.permutation(draw.rows[code])[:least] for code in codes]).astype(np.int64)


def _features(rows: Batch, chosen: Sequence[int] | NDArray[np.int64], numbers: int) -> Tensor:
    """Return what k-means sees of some columns, ``[N, P]``: numbers, and of categories ones and zeros."""
    found = []
    for column in chosen:
        if column < numbers:
            found.append(rows["numbers"][:, [column]].double())
        else:
            codes = torch.unique(rows["codes"][:, column - numbers], return_inverse=True)[1]
            found.append(F.one_hot(codes).double())
    return torch.cat(found, 1)


def _clusters(points_NP: Tensor, clusters: int, generator: np.random.Generator) -> Tensor:
    """Return the cluster of each point by k-means, ``[N]``; a cluster may be empty."""
    distinct = torch.unique(points_NP, dim=0)
    start = generator.permutation(len(distinct))[:clusters]
    centres_WP, codes_N = distinct[torch.from_numpy(start)], points_NP.new_zeros(0).long()
    for _ in range(_STEPS):
        before, codes_N = codes_N, squared_euclidean(points_NP, centres_WP).argmin(1)
        if codes_N.equal(before):
            break
        held_W1 = counts(codes_N, len(centres_WP))[:, None] > 0
        centres_WP = torch.where(held_W1, prototypes(points_NP, codes_N, len(centres_WP)), centres_WP)
    return codes_N


def _shuffled(
    rows: Batch, chosen: Sequence[int] | NDArray[np.int64], numbers: int, generator: np.random.Generator
) -> Batch:
    """Return rows whose cells of some columns are those of other rows."""
    made = {name: leaf.clone() for name, leaf in rows.items()}
    for column in chosen:
        order = torch.from_numpy(generator.permutation(size(rows)))
        leaves = ("numbers", "missing") if column < numbers else ("codes",)
        for name in leaves:
            place = column if column < numbers else column - numbers
            made[name][:, place] = rows[name][order, place]
    return made
