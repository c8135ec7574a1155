"""Networks of rows of tables, in plain torch: they start from nothing and need no network.

An input is ``{"numbers": float [N, F], "missing": bool [N, F], "codes": int64 [N, K]}``: numbers in units of about
their deviation from about their mean, whether each is missing, and codes of categories, of which 0 is "other". A
network is told how many there are, as ``Row.for_backbone`` tells it: ``numbers``, F, and ``categories``, of each how
many codes. Before the data is known these are 0 and ``()``, and it is made anew once it is.

Shapes: N rows, F columns of numbers, K columns of categories, C columns of both, E features of a column, D features,
M members of an ensemble, B bins.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import ConfigError, check_choice, check_counts
from quickstudy.nets.registry import BACKBONES
from quickstudy.nets.sequences import AttentionLayer
from quickstudy.tabular import forecast_methods as forecast_methods  # which registers networks of series, as does
from quickstudy.tabular import forecast_nets as forecast_nets

Embedding = Literal["plain", "periodic", "piecewise"]
"""Of numbers: as they are, by sines and cosines, or by the bins that they have passed."""
READS: Mapping[str, Any] = {"name": "tabular", "options": {}}
"""What reads their inputs; see ``Modality.described``."""
_FREQUENCIES, _TURNS = 16, 0.1  # of a column, and the deviation that they start with, in turns per unit
_BINS = 16


class _OfColumns(nn.Module):
    """What knows the columns that it is made for."""

    def __init__(self, numbers: int, categories: Sequence[int]) -> None:
        check_counts(0, numbers=numbers)
        check_counts(**{f"categories[{place}]": count for place, count in enumerate(categories)})
        super().__init__()
        self.made_for = numbers, len(categories)

    def check(self, rows: Batch) -> None:
        """Check that rows have these columns.

        Raises:
            ConfigError: they have others, or are none.
        """
        if isinstance(rows, Tensor):
            raise ConfigError(
                f"the backbone takes rows of tables, and this is a tensor of shape {tuple(rows.shape)}: for pictures "
                "name another, such as 'resnet18' or 'conv4'"
            )
        numbers, categories = rows["numbers"].shape[1], rows["codes"].shape[1]
        if self.made_for != (numbers, categories):
            raise ConfigError(
                f"the backbone is made for {self.made_for[0]} columns of numbers and {self.made_for[1]} of categories, "
                f"and these rows have {numbers} and {categories}: give backbone_kwargs={{'numbers': {numbers}, "
                "'categories': [...]}, of each how many codes; data that a task is trained on tells it"
            )


@BACKBONES.register("one_hot")
class OneHot(_OfColumns):
    """Numbers as they are, whether each is missing, and a 0 or 1 per category but "other", which is zeros: no weights.

    With a linear head, or ``linear_probe``, it is logistic regression: what other networks must surpass.

    Args:
        numbers: F; it follows from the data.
        categories: of each of the K columns how many there are, "other" included; they follow from the data.
    """

    reads = READS
    columns: Tensor
    known: Tensor

    def __init__(self, numbers: int = 0, categories: Sequence[int] = ()) -> None:
        super().__init__(numbers, categories)
        known = [(column, code) for column, count in enumerate(categories) for code in range(1, count)]
        self.register_buffer("columns", torch.tensor([column for column, _ in known], dtype=torch.int64))
        self.register_buffer("known", torch.tensor([code for _, code in known], dtype=torch.int64))

    def forward(self, rows: Batch) -> Tensor:
        """Return the features, ``[N, D]``."""
        self.check(rows)
        numbers, chosen = rows["numbers"], rows["codes"][:, self.columns] == self.known
        return torch.cat([numbers, rows["missing"].to(numbers), chosen.to(numbers)], 1)


class Columns(_OfColumns):
    """An embedding of each column, ``[N, C, E]``, first of the numbers; a missing one has an embedding of its own.

    Gorishniy et al. 2022, "On Embeddings for Numerical Features in Tabular Deep Learning",
    https://arxiv.org/abs/2203.05556

    Args:
        numbers: F; it follows from the data, as do categories.
        categories: of each of the K columns how many there are, "other" included.
        width: E.
        embedding: of numbers: ``"plain"``, a number times a vector; ``"periodic"``, a linear layer and a ReLU behind
            sines and cosines of frequencies that are learned; ``"piecewise"``, plain, and to it a linear layer of
            zeros at first behind the shares of B bins that a number has passed, so that it bends between them. Their
            ends are the quantiles of the normal distribution, as numbers come in units of their deviation.
    """

    first_codes: Tensor
    begins: Tensor
    widths: Tensor

    def __init__(self, numbers: int, categories: Sequence[int], width: int, embedding: Embedding) -> None:
        super().__init__(numbers, categories)
        check_counts(width=width)
        check_choice("embedding", embedding, "plain", "periodic", "piecewise")
        self.embedding, parts = embedding, 1
        if embedding == "periodic":
            self.frequencies, parts = nn.Parameter(_TURNS * torch.randn(numbers, _FREQUENCIES)), 2 * _FREQUENCIES
        reach = parts**-0.5
        self.weight = nn.Parameter(torch.empty(numbers, parts, width).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.empty(numbers, width).uniform_(-reach, reach))
        if embedding == "piecewise":
            ends = torch.special.ndtri(torch.linspace(0, 1, _BINS + 1, dtype=torch.float64)[1:-1])
            widths = torch.cat([ends.diff()[:1], ends.diff(), ends.diff()[-1:]])  # the outer bins go on without end
            self.register_buffer("begins", torch.cat([ends[:1] - widths[:1], ends]).float())
            self.register_buffer("widths", widths.float())
            self.bends = nn.Parameter(torch.zeros(numbers, _BINS, width))
        self.missing = nn.Parameter(width**-0.5 * torch.randn(numbers, width))
        first_codes = list(itertools.accumulate(categories, initial=0))[:-1]
        self.register_buffer("first_codes", torch.tensor(first_codes, dtype=torch.int64))
        self.categories = nn.Embedding(sum(categories), width)
        nn.init.normal_(self.categories.weight, std=width**-0.5)
        self.categories.weight.data[self.first_codes] = 0  # "other", which training does not see

    def forward(self, rows: Batch) -> Tensor:
        """Return the embeddings."""
        self.check(rows)
        numbers_NF1 = rows["numbers"][..., None]
        parts_NFP = numbers_NF1
        if self.embedding == "periodic":
            angles = 2 * torch.pi * numbers_NF1 * self.frequencies
            parts_NFP = torch.cat([angles.sin(), angles.cos()], -1)
        embedded_NFE = torch.einsum("nfp,fpe->nfe", parts_NFP, self.weight) + self.bias
        if self.embedding == "periodic":
            embedded_NFE = embedded_NFE.relu()
        if self.embedding == "piecewise":
            embedded_NFE = embedded_NFE + torch.einsum("nfb,fbe->nfe", self._passed(numbers_NF1), self.bends)
        embedded_NFE = torch.where(rows["missing"].bool()[..., None], self.missing, embedded_NFE)
        return torch.cat([embedded_NFE, self.categories(rows["codes"] + self.first_codes)], 1)

    def _passed(self, numbers_NF1: Tensor) -> Tensor:
        """Return the shares of the bins that numbers have passed, ``[N, F, B]``."""
        passed = (numbers_NF1 - self.begins) / self.widths
        first, middle, last = passed[..., :1], passed[..., 1:-1], passed[..., -1:]
        return torch.cat([first.clamp(max=1), middle.clamp(0, 1), last.clamp(min=0)], -1)


class _Network(nn.Module):
    """Begins with the columns' embeddings."""

    reads = READS

    def __init__(self, numbers: int, categories: Sequence[int], width: int, embedding: Embedding) -> None:
        super().__init__()
        self.columns = Columns(numbers, categories, width, embedding)
        self.entering = width * max(numbers + len(categories), 1)
        """Features of all columns side by side; as if of one before they are known."""


@BACKBONES.register("mlp")
class MLP(_Network):
    """A perceptron of the columns' embeddings, ``[N, D]``.

    Args:
        numbers, categories, embedding: see ``Columns``.
        column_width: E.
        width: D.
        layers: how many.
        dropout: share of the features of a layer that is dropped in training.
    """

    def __init__(
        self,
        numbers: int = 0,
        categories: Sequence[int] = (),
        embedding: Embedding = "plain",
        column_width: int = 8,
        width: int = 256,
        layers: int = 2,
        dropout: float = 0.0,
    ) -> None:
        check_counts(width=width, layers=layers)
        super().__init__(numbers, categories, column_width, embedding)
        widths = [self.entering, *[width] * layers]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(widths))
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Batch) -> Tensor:
        """Return the features."""
        states: Tensor = self.columns(rows).flatten(1)
        for layer in self.layers:
            states = self.dropout(layer(states).relu())
        return states


@BACKBONES.register("resnet")
class ResNet(_Network):
    """Blocks of two layers that add to the features, ``[N, D]``.

    Gorishniy et al. 2021, "Revisiting Deep Learning Models for Tabular Data", https://arxiv.org/abs/2106.11959

    Args:
        numbers, categories, embedding: see ``Columns``.
        column_width: E.
        width: D; within a block twice as many.
        blocks: how many.
        dropout: share of the features within a block that is dropped in training.
    """

    def __init__(
        self,
        numbers: int = 0,
        categories: Sequence[int] = (),
        embedding: Embedding = "plain",
        column_width: int = 8,
        width: int = 128,
        blocks: int = 2,
        dropout: float = 0.0,
    ) -> None:
        check_counts(width=width, blocks=blocks)
        super().__init__(numbers, categories, column_width, embedding)
        self.first = nn.Linear(self.entering, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm1d(width),
                nn.Linear(width, 2 * width),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(2 * width, width),
            )
            for _ in range(blocks)
        )
        self.norm = nn.BatchNorm1d(width)

    def forward(self, rows: Batch) -> Tensor:
        """Return the features."""
        states = self.first(self.columns(rows).flatten(1))
        for block in self.blocks:
            states = states + block(states)
        features: Tensor = self.norm(states).relu()
        return features


@BACKBONES.register("ft_transformer")
class FTTransformer(_Network):
    """Attention among the columns; the features ``[N, D]`` are those of a place of its own, which looks at all.

    Gorishniy et al. 2021, "Revisiting Deep Learning Models for Tabular Data", https://arxiv.org/abs/2106.11959

    Args:
        numbers, categories, embedding: see ``Columns``.
        width: D, of a column too.
        layers: of attention.
        heads: of each layer, which divide D.
        dropout: share of what a layer adds that is dropped in training.

    Raises:
        ConfigError: an option is out of range.
    """

    def __init__(
        self,
        numbers: int = 0,
        categories: Sequence[int] = (),
        embedding: Embedding = "plain",
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        check_counts(layers=layers, heads=heads)
        if width % heads:
            raise ConfigError(f"width={width} is no multiple of heads={heads}: type width={16 * heads}")
        super().__init__(numbers, categories, width, embedding)
        self.place = nn.Parameter(width**-0.5 * torch.randn(width))
        self.layers = nn.ModuleList(AttentionLayer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    @property
    def blocks_of_layers(self) -> nn.ModuleList:
        """Its layers of attention, from the bottom to the top."""
        return self.layers

    def forward(self, rows: Batch) -> Tensor:
        """Return the features."""
        columns_NCE = self.columns(rows)
        states_NLD = torch.cat([self.place.expand(columns_NCE.shape[0], 1, -1), columns_NCE], 1)
        for layer in self.layers:
            states_NLD = layer(states_NLD)
        features: Tensor = self.norm(states_NLD[:, 0])
        return features


@BACKBONES.register("tabm")
class TabM(_Network):
    """An ensemble of perceptrons that share their weights, but for scales of each member's own: ``[N, M, D]``.

    Gorishniy et al. 2025, "TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling",
    https://arxiv.org/abs/2410.24210; its layers are BatchEnsemble's, Wen et al. 2020, https://arxiv.org/abs/2002.06715.

    As ``members`` tells a task, which gives each a linear head of its own: the loss of training is the mean over the
    members' losses, and an answer is the mean of their probabilities, or numbers. Whatever takes the features alone
    (few-shot strategies, embedders) has those of all members side by side, ``[N, M * D]``, and is one classifier of
    them, no ensemble.

    Args:
        numbers, categories, embedding: see ``Columns``.
        column_width: E.
        members: M.
        width: D.
        layers: how many.
        dropout: share of the features of a layer that is dropped in training.
    """

    def __init__(
        self,
        numbers: int = 0,
        categories: Sequence[int] = (),
        embedding: Embedding = "piecewise",
        column_width: int = 8,
        members: int = 32,
        width: int = 128,
        layers: int = 2,
        dropout: float = 0.0,
    ) -> None:
        check_counts(members=members, width=width, layers=layers)
        super().__init__(numbers, categories, column_width, embedding)
        self.members = members
        widths = [self.entering, *[width] * layers]
        self.layers = nn.ModuleList(_MemberLayer(members, *pair) for pair in itertools.pairwise(widths))
        # Members start apart by how they see the columns, each a column with one scale.
        with torch.no_grad():
            first: Any = self.layers[0]
            first.scale.copy_(torch.randn(members, self.entering // column_width).repeat_interleave(column_width, 1))
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Batch) -> Tensor:
        """Return the members' features."""
        states_NMD: Tensor = self.columns(rows).flatten(1)[:, None]
        for layer in self.layers:
            states_NMD = self.dropout(layer(states_NMD).relu())
        return states_NMD


class _MemberLayer(nn.Module):
    """A linear layer whose weights all members share, with scales and biases of each one's own."""

    def __init__(self, members: int, one: int, other: int) -> None:
        super().__init__()
        reach = one**-0.5
        self.weight = nn.Parameter(torch.empty(other, one).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.empty(members, other).uniform_(-reach, reach))
        self.scale, self.other_scale = nn.Parameter(torch.ones(members, one)), nn.Parameter(torch.ones(members, other))

    def forward(self, states_NMI: Tensor) -> Tensor:
        return F.linear(states_NMI * self.scale, self.weight) * self.other_scale + self.bias
