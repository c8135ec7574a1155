"""Small made-up encoders and episodes."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch, unfold
from quickstudy.episode import Episode
from quickstudy.nets import Encoder

WAYS, SHOTS, QUERIES, TASKS = 3, 2, 4, 3
Form = Literal["pictures", "tokens", "graphs"]
"""Of inputs: tensors ``[N, 1, 8, 8]``; dicts of token ids and a mask; dicts of padded nodes and edges, and counts."""


class Places(nn.Module):
    """Normalises features ``[N, C, H, W]`` as rows ``[N * H * W, C]``, as LeViT does: places are folded into rows."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """Return maps of the same shape."""
        rows_NHWC = maps_NCHW.movedim(1, -1)
        normalized: Tensor = self.norm(rows_NHWC.flatten(0, 2)).view(rows_NHWC.shape).movedim(-1, 1)
        return normalized


class Bag(nn.Module):
    """The mean of what a small network makes of each token; padding has no part in it."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(_WORDS, 4)
        self.mix = nn.Sequential(nn.Linear(4, 16), nn.Tanh())
        self.norm = nn.BatchNorm1d(2) if norm else nn.Identity()
        self.last = nn.Linear(16, 6)

    def forward(self, tokens: Batch) -> Tensor:
        """Return ``[N, 6]``."""
        mask_NL1 = tokens["mask"][..., None].to(self.embed.weight.dtype)
        pooled_ND = (self.mix(self.embed(tokens["ids"])) * mask_NL1).sum(1) / mask_NL1.sum(1)
        # Two channels of eight values: one text alone can be normalised, too.
        features: Tensor = self.last(torch.tanh(self.norm(pooled_ND.view(-1, 2, 8))).flatten(1))
        return features


class Messages(nn.Module):
    """Passes messages along the edges of graphs, all nodes of a batch packed one graph's after the other's."""

    vmap = False
    """How many nodes there are depends on values, which ``torch.func.vmap`` cannot follow: tasks go one by one."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(4, 8), nn.BatchNorm1d(8) if norm else nn.Identity()
        self.last = nn.Linear(8, 6)

    def forward(self, graphs: Batch) -> Tensor:
        """Return ``[N, 6]``."""
        counts, edges_NE2 = graphs["nodes"], graphs["edges"]
        there = torch.arange(graphs["x"].shape[1], device=counts.device) < counts[:, None]
        some = torch.arange(edges_NE2.shape[1], device=counts.device) < graphs["edge_count"][:, None]
        begins = counts.cumsum(0) - counts
        source, target = (edges_NE2 + begins[:, None, None])[some].unbind(1)
        nodes = self.first(graphs["x"][there])
        nodes = torch.tanh(self.norm(nodes.index_add(0, target, nodes[source])))
        owner = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
        pooled = nodes.new_zeros(len(counts), 8).index_add(0, owner, nodes) / counts[:, None]
        features: Tensor = self.last(pooled)
        return features


def small_encoder(norm: bool = False, fold: bool = False, form: Form = "pictures") -> Encoder:
    """Return an encoder of small inputs in float64, without BatchNorm unless asked for.

    Args:
        norm: whether it has BatchNorm; that of graphs normalises nodes.
        fold: of pictures, whether it has one that sees every place of an image as a row.
        form: of its inputs; images are ``[1, 8, 8]``.
    """
    torch.manual_seed(0)
    if form != "pictures":
        return Encoder(Bag(norm) if form == "tokens" else Messages(norm)).double()
    layers: list[nn.Module] = [
        nn.Conv2d(1, 4, 3, padding=1),
        nn.Tanh(),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(16, 6),
    ]
    if norm:
        layers.insert(1, nn.BatchNorm2d(4))
    if fold:
        layers.insert(1, Places(4))
    return Encoder(nn.Sequential(*layers)).double()


def small_episodes(
    tasks: int = TASKS,
    ways: int = WAYS,
    shots: int = SHOTS,
    queries: int = QUERIES,
    noise: float = 0.5,
    seed: int | None = None,
    form: Form = "pictures",
) -> Episode:
    """Return episodes of images ``[1, 8, 8]`` in float64, noise around a pattern per class; or in another form."""
    generator = torch.Generator().manual_seed(tasks if seed is None else seed)

    def draw(each: int) -> Tensor:
        drawn = torch.randn(tasks, ways * each, 1, 8, 8, generator=generator, dtype=torch.float64)
        return patterns.repeat_interleave(each, 1) + noise * drawn

    patterns = torch.randn(tasks, ways, 1, 8, 8, generator=generator, dtype=torch.float64)
    codes = torch.arange(ways)
    turned = {"pictures": lambda images: images, "tokens": _as_tokens, "graphs": _as_graphs}[form]
    return Episode(
        turned(draw(shots)),
        codes.repeat_interleave(shots).expand(tasks, -1),
        turned(draw(queries)),
        codes.repeat_interleave(queries).expand(tasks, -1),
    )


_WORDS = 18


def _as_tokens(images: Tensor) -> Batch:
    """Return images ``[T, N, 1, 8, 8]`` as texts of 16 to 63 words, which are their places by their brightness."""
    pixels = images.flatten(0, 1).flatten(1)
    lengths = 16 + _whole_number(pixels, 48)
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    places = torch.arange(64) % 2  # two words of each brightness, as a bag does not know where they stand
    words = 9 * places + (pixels.clamp(-2, 2) * 2).round().long() + 4
    return unfold({"ids": words[:, : mask.shape[1]] * mask, "mask": mask}, *images.shape[:2])


def _as_graphs(images: Tensor) -> Batch:
    """Return them as rings of 5 to 16 nodes, with a chord each, whose features are their places."""
    pixels = images.flatten(0, 1).flatten(1)
    counts = 5 + _whole_number(pixels, 12)
    most = int(counts.max())
    node = torch.arange(most).expand(len(counts), -1)
    there = node < counts[:, None]
    ring = torch.stack([node, (node + 1) % counts[:, None]], -1) * there[..., None]
    chord = torch.stack([torch.zeros_like(counts), counts // 2], -1)
    edges = F.pad(ring, (0, 0, 0, 1)).scatter(1, counts[:, None, None].expand(-1, 1, 2), chord[:, None])
    nodes = pixels.view(len(pixels), 16, 4)[:, :most] * there[..., None]
    return unfold({"x": nodes, "nodes": counts, "edges": edges, "edge_count": counts + 1}, *images.shape[:2])


def _whole_number(pixels: Tensor, below: int) -> Tensor:
    """Return a whole number ``[N]`` that each example alone decides on."""
    return (pixels.sum(1).abs() * 1000).long() % below
