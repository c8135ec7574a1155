"""Graphs as a domain: how they are read, their networks, the doors of their data, and tasks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pytest
import torch
from torch import Tensor

from quickstudy.batches import Batch, each, stack
from quickstudy.graph import GraphClassificationData, GraphClassifier, Graphs, packed
from quickstudy.graph.nets import MessagePassing
from quickstudy.nets import build_encoder
from quickstudy.nets.registry import BACKBONES
from quickstudy.testing import check_domain, check_modality

pytestmark = pytest.mark.filterwarnings("ignore:Exporting|.*LeafSpec")
NETWORKS = ("gin", "gcn", "sage", "gat")


def ring(nodes: int, seed: int = 0) -> dict[str, Any]:
    """Return a ring whose nodes are words and whose edges are numbers."""
    words = np.random.default_rng(seed).choice(["C", "N", "O"], nodes).tolist()
    return {"nodes": words, "edges": [[place, (place + 1) % nodes, {"length": place / 4}] for place in range(nodes)]}


def star(nodes: int, seed: int = 0) -> dict[str, Any]:
    graph = ring(nodes, seed)
    return {**graph, "edges": [[0, place, {"length": place / 4}] for place in range(1, nodes)]}


def written(folder: Path, each: int = 6) -> tuple[list[str], list[str]]:
    """Write graphs of two families as files of both kinds; return them and what they are."""
    files, labels = [], []
    for name, make in (("ring", ring), ("star", star)):
        for number in range(each):
            graph = make(4 + number, number)
            file = folder / name / f"{number}.{'json' if number % 2 else 'graphml'}"
            file.parent.mkdir(parents=True, exist_ok=True)
            if number % 2:
                file.write_text(json.dumps(graph))
            else:
                made = networkx.Graph()
                made.add_nodes_from((place, {"label": word}) for place, word in enumerate(graph["nodes"]))
                made.add_edges_from(graph["edges"])
                networkx.write_graphml(made, file)
            files.append(str(file))
            labels.append(name)
    return files, labels


def test_importing_it_brings_no_library() -> None:
    code = (
        "import sys, quickstudy.graph.modality, quickstudy.graph.nets, quickstudy.predictor\n"
        "assert not {'torch_geometric', 'networkx', 'scipy', 'pandas'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.dear("graph", "modality", "testing")
@pytest.mark.parametrize("backbone", ["gin", *(pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS[1:])])
def test_a_modality_of_graphs_conforms(tmp_path: Path, backbone: str) -> None:
    files, _ = written(tmp_path, 3)
    bad = [
        b"",
        b"{",
        b"<graphml>",
        b"\x89PNG",
        {"nodes": 2},
        {"nodes": 0, "edges": []},
        {"edges": [[0, "a"]], "nodes": 1},
    ]
    check_modality(Graphs(), files, bad=bad, backbone=backbone)


@pytest.mark.dear("graph", "testing", "learning", "serve", "saved")
def test_the_domain_of_graphs_conforms(tmp_path: Path) -> None:
    check_domain(GraphClassificationData, GraphClassifier, *written(tmp_path, 4))


# ---- networks


def network(name: str, norm: str = "layer", features: int = 3, edge_features: int = 0, **options: Any) -> Any:
    torch.manual_seed(0)
    about = {"edge_features": edge_features} if name in ("gin", "gat") else {}
    made: Any = BACKBONES[name]
    return made(features=features, width=8, layers=2, norm=norm, **about, **options).double().eval()


def some(count: int = 3, nodes: int = 5, features: int = 3) -> Batch:
    """Return graphs of different sizes, padded."""
    graphs = Graphs(nodes=(("x", "numbers", (0.0,) * features, (1.0,) * features),))
    generator = torch.Generator().manual_seed(1)
    made = [graphs.made_up(1, generator, {"nodes": torch.zeros(1, nodes + at, features)}) for at in range(count)]
    batch = stack([each(lambda leaf: leaf[0], one) for one in made])
    return {
        **batch,
        "nodes": torch.randn(batch["nodes"].shape, generator=generator).double() * batch["mask"][..., None],
    }


def wider(graphs: Batch, by: int = 3) -> Batch:
    return {
        name: torch.cat([leaf, leaf.new_zeros(leaf.shape[0], by, *leaf.shape[2:])], 1) for name, leaf in graphs.items()
    }


@pytest.mark.parametrize("pooling", ["sum", "mean", "max"])
@pytest.mark.parametrize("name", NETWORKS)
def test_padding_changes_no_answer_in_training_either(name: str, pooling: str) -> None:
    for norm in ("batch", "layer", "none"):
        made, graphs = network(name, norm, pooling=pooling).train(), some()
        torch.testing.assert_close(made(graphs), made(wider(graphs)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_tasks_side_by_side_answer_as_one_after_the_other(name: str) -> None:
    made, graphs = network(name), [some(), some(nodes=5)]
    apart = torch.stack([made(one) for one in graphs])
    together = torch.func.vmap(made)({key: torch.stack([one[key] for one in graphs]) for key in graphs[0]})
    torch.testing.assert_close(apart, together, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_second_derivatives_are_those_of_finite_differences(name: str) -> None:
    made, graphs = network(name), some()
    weights = {key: value.detach() for key, value in made.named_parameters()}
    generator = torch.Generator().manual_seed(2)
    towards = {key: torch.randn(value.shape, generator=generator).double() for key, value in weights.items()}

    def loss(values: dict[str, Tensor]) -> Tensor:
        found: Tensor = torch.func.functional_call(made, values, (graphs,)).square().mean()
        return found

    def along(values: dict[str, Tensor]) -> Tensor:
        slopes = torch.func.grad(loss)(values)
        return torch.stack([(slopes[key] * towards[key]).sum() for key in slopes]).sum()

    def moved(by: float) -> dict[str, Tensor]:
        return {key: value + by * towards[key] for key, value in weights.items()}

    analytic, step = torch.func.grad(along)(weights), 1e-6
    ahead, behind = torch.func.grad(loss)(moved(step)), torch.func.grad(loss)(moved(-step))
    for key, found in analytic.items():
        torch.testing.assert_close(found, (ahead[key] - behind[key]) / (2 * step), rtol=1e-4, atol=1e-6)


def test_gin_is_that_of_dense_matrices() -> None:
    """Sums over neighbours are a product with the adjacency matrix, whatever is packed and how."""
    made, graphs = network("gin", "none"), some()
    adjacency = torch.zeros(3, 7, 7, dtype=torch.float64)
    for row in range(3):
        for (one, other), there in zip(graphs["edges"][row].tolist(), graphs["edge_mask"][row].tolist(), strict=True):
            adjacency[row, other, one] += there
    states, found = made.first(graphs["nodes"]), []
    for layer in made.layers:
        states = layer.nn((1 + layer.eps) * states + adjacency @ states).relu() * graphs["mask"][..., None]
        found.append(states.sum(1))
    # A masked place has no feature, and the bias of the first layer has no neighbour to go to.
    torch.testing.assert_close(made(graphs), torch.cat(found, 1), rtol=0, atol=1e-10)


def test_what_is_packed_has_no_padding() -> None:
    there = packed(some())
    assert len(there.nodes) == 5 + 6 + 7 and there.edges.shape == (2, 2 * (4 + 5 + 6))
    assert there.owner.tolist() == [0] * 5 + [1] * 6 + [2] * 7
    assert (there.owner[there.edges[0]] == there.owner[there.edges[1]]).all()


def test_a_network_is_made_for_what_nodes_and_edges_have() -> None:
    graphs = Graphs().fitted([ring(5), star(6)])
    assert graphs.for_backbone() == {"features": 3, "edge_features": 1}
    encoder = build_encoder("gin", {"width": 8, **graphs.for_backbone()}, pretrained=False)
    assert encoder(stack([graphs(ring(5)), graphs(star(9))])).shape == (2, 8 * 4)
    assert isinstance(encoder.backbone, MessagePassing)
