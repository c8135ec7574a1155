"""Graphs as a domain: how they are read, their networks, the doors of their data, and tasks."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from quickstudy import Predictor
from quickstudy.batches import Batch, each, stack
from quickstudy.data.samples import TRANSFORMS, seeded
from quickstudy.errors import ConfigError, DataError, DataWarning
from quickstudy.graph import GraphClassificationData, GraphClassifier, GraphRegressionData, Graphs, packed
from quickstudy.graph.nets import MessagePassing
from quickstudy.graph.reading import graph_of
from quickstudy.graph.tables import graphs_of_tables
from quickstudy.graph.walks import with_returns
from quickstudy.ladder.opening import opened
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
    bad: list[Any] = [
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


@pytest.mark.parametrize("pooling", ["sum", "mean", "root", "max"])
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
    made, graphs = network("gin", "none", pooling="sum"), some()
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


def test_a_readout_by_root_lies_between_sum_and_mean() -> None:
    there = packed(some())
    sums, means, roots = (there.pooled(there.nodes, how) for how in ("sum", "mean", "root"))
    torch.testing.assert_close(roots, sums / torch.tensor([5.0, 6, 7]).double().sqrt()[:, None])
    torch.testing.assert_close(roots.square(), sums * means)


def test_the_histogram_of_degrees_counts_nodes() -> None:
    star: Any = {"nodes": 5, "edges": [[0, place] for place in range(1, 4)]}
    line: Any = {"nodes": 2, "edges": [[0, 1]]}
    network, modality = Graphs().raw()
    assert network(stack([modality(star), modality(line)]))[:, :5].tolist() == [[1, 3, 0, 1, 0], [0, 2, 0, 0, 0]]


def test_what_is_packed_has_no_padding() -> None:
    there = packed(some())
    assert len(there.nodes) == 5 + 6 + 7 and there.edges.shape == (2, 2 * (4 + 5 + 6))
    assert there.owner.tolist() == [0] * 5 + [1] * 6 + [2] * 7
    assert (there.owner[there.edges[0]] == there.owner[there.edges[1]]).all()
    assert there.edges.is_contiguous()  # or layers take a third longer


def test_a_network_is_made_for_what_nodes_and_edges_have() -> None:
    graphs = Graphs().fitted([ring(5), star(6)])
    assert graphs.for_backbone() == {"features": 3, "edge_features": 1}
    encoder = build_encoder("gin", {"width": 8, **graphs.for_backbone()}, pretrained=False)
    assert encoder(stack([graphs(ring(5)), graphs(star(9))])).shape == (2, 8 * 4)
    assert isinstance(encoder.backbone, MessagePassing)


def test_other_graphs_than_those_that_it_is_made_for_are_told() -> None:
    with pytest.raises(
        ConfigError, match="made for 2 features of a node and 0 of an edge, and these graphs have 3 and 0"
    ):
        network("gin", features=2)(some())
    with pytest.raises(ConfigError, match="takes graphs, and this is a tensor of shape"):
        network("gat")(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ConfigError, match="width=6 is no multiple of heads=4"):
        BACKBONES["gat"](width=6)


# ---- reading


def test_edges_count_once_and_both_ways_unless_directed() -> None:
    graph = {"nodes": 4, "edges": [[0, 1], [1, 0], [0, 1], [1, 2], [2, 2]]}
    both, one = Graphs()(graph), Graphs(directed=True)(graph)
    assert both["edges"].tolist() == [[0, 1], [1, 0], [1, 2], [2, 1], [2, 2]]
    assert one["edges"].tolist() == [[0, 1], [1, 0], [1, 2], [2, 2]]
    assert both["nodes"].argmax(1).tolist() == [1, 2, 2, 0]  # degrees; the last node has no neighbour
    two = Graphs()({"nodes": 2, "edges": [[0, 1, 0.5], [0, 1, 0.5], [0, 1, 2.5]]})
    assert two["edges"].tolist() == [[0, 1], [0, 1], [1, 0], [1, 0]] and len(two["edge_features"].unique()) == 2


@pytest.mark.parametrize("dense", [0, 100])
@pytest.mark.parametrize("directed", [False, True])
def test_chances_of_return_are_those_of_powers_of_a_matrix(
    dense: int, directed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quickstudy.graph.walks._DENSE", dense)
    made = networkx.gnm_random_graph(20, 50, seed=0, directed=True)
    found = with_returns(graph_of(made), 7, directed).of_nodes["chance of return"]
    adjacency = networkx.to_numpy_array(made if directed else made.to_undirected())
    step = adjacency / np.maximum(adjacency.sum(1, keepdims=True), 1)
    wanted = [np.diag(np.linalg.matrix_power(step, count)) for count in range(2, 8)]
    np.testing.assert_allclose(found, np.stack(wanted, 1), rtol=0, atol=1e-12)


def test_walks_tell_apart_what_messages_cannot() -> None:
    """Two triangles and a ring of six: each node has two neighbours like itself."""
    whole, part = networkx.cycle_graph(6), networkx.cycle_graph(3)
    triangles = networkx.disjoint_union(part, part)
    for walks, same in ((0, True), (3, False)):
        graphs = Graphs(walks=walks).fitted([triangles, whole])
        made = BACKBONES["gin"](**graphs.for_backbone()).eval()
        one, other = made(stack([graphs(triangles), graphs(whole)]))
        assert torch.allclose(one, other, atol=1e-6) == same


def test_walks_come_beside_what_nodes_have_and_change_no_sketch() -> None:
    star, turned = networkx.star_graph(4), networkx.relabel_nodes(networkx.star_graph(4), {0: 4, 4: 0})
    graphs = Graphs(walks=5).fitted([star, networkx.path_graph(4)])
    assert graphs.for_backbone()["features"] == 5 + 4  # degrees 0 to 4, and 2 to 5 steps
    assert graphs(star)["nodes"][:, :5].argmax(1).tolist() == [4, 1, 1, 1, 1]
    assert graphs.sketch(star) == graphs.sketch(turned) != graphs.sketch(networkx.path_graph(5))
    assert [part.get("one_hot") for part in graphs.recipe()["node_features"]] == ["degree", None]
    words = Graphs(walks=5).fitted([ring(5), ring(7)])
    assert words.degrees == 0 and words.for_backbone()["features"] == len("CNO") + 4
    assert Graphs(walks=5).show(star, graphs(star)) == Graphs().show(star, Graphs().fitted([star])(star))


def test_more_walks_than_can_be_followed_are_told() -> None:
    with pytest.raises(DataError, match=r"too many walks of 2 steps \(400,020,000\).*set walks=2"):
        Graphs(walks=8)({"nodes": 20_001, "edges": [[0, place] for place in range(1, 20_001)]})
    for walks in (1, 33):
        with pytest.raises(ConfigError, match=f"walks={walks}: set 2 to 32"):
            Graphs(walks=walks)


def test_a_model_goes_on_with_the_walks_that_it_was_trained_with(tmp_path: Path) -> None:
    files, labels = written(tmp_path, 3)
    data = GraphClassificationData.from_files(train_files=files, train_targets=labels, walks=4)
    model = GraphClassifier(training_strategy="prototypicalnetworks", training_strategy_kwargs={"ways": 2, "shots": 1})
    model.meet(data, "fit")
    model.adapt(files, labels).save(tmp_path / "kept")
    again: Any = Predictor.load(tmp_path / "kept")
    assert again.modality.walks == 4 and len(again.predict(files)) == len(files)


@pytest.mark.parametrize("ids", [(0, 1, 2), (1, 2, 3), (7, 500, 10**30), ("a", "b", "c")])
def test_where_nodes_are_not_given_they_are_those_that_edges_join(ids: tuple[Any, ...]) -> None:
    first, second, third = ids
    graph = Graphs()({"edges": [[first, second], [second, third]]})
    assert graph["edges"].tolist() == [[0, 1], [1, 0], [1, 2], [2, 1]] and len(graph["mask"]) == 3


def test_all_forms_of_a_graph_read_alike() -> None:
    geometric: Any = pytest.importorskip("torch_geometric.data")
    made = networkx.Graph()
    made.add_nodes_from((name, {"x": [float(place), 1.0]}) for place, name in enumerate("abc"))
    made.add_edges_from([("a", "b"), ("b", "c")])
    data = geometric.Data(
        x=torch.tensor([[0.0, 1], [1, 1], [2, 1]]), edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    )
    in_json = networkx.node_link_data(made, edges="edges")
    graphs = Graphs().fitted([made])
    for other in (data, in_json, json.dumps(in_json).encode()):
        for name, leaf in graphs(made).items():
            assert torch.equal(graphs(other)[name], leaf), (type(other), name)


def test_words_and_numbers_are_learned_from_training_graphs() -> None:
    graphs = Graphs().fitted(
        [{"nodes": [{"kind": "C", "mass": 12, "ring": 0}, {"kind": "N", "mass": 14, "ring": 1}], "edges": []}]
    )
    other = {"nodes": [{"kind": "C", "mass": 13, "ring": 1}, {"kind": "Xe", "mass": 15, "ring": 0}], "edges": []}
    assert graphs(other)["nodes"].tolist() == [[1, 0, 0, 1], [0, 0, 2, 0]]  # kind, mass, ring


def test_attributes_that_not_all_graphs_have_are_not_used() -> None:
    with pytest.warns(DataWarning, match="'mass', which graph 1 lacks"):
        graphs = Graphs().fitted(Graphs().listed([{"nodes": [{"mass": 3}], "edges": []}, {"nodes": 2, "edges": []}]))
    assert graphs.for_backbone() == {"features": 1, "edge_features": 0}


def test_a_direction_that_is_lost_is_told() -> None:
    with pytest.warns(DataWarning, match="1 of 1 graphs have edges that go one way.*directed=True"):
        Graphs().fitted([networkx.DiGraph([(0, 1)])])
    Graphs(directed=True).fitted([networkx.DiGraph([(0, 1)])])
    geometric: Any = pytest.importorskip("torch_geometric.data")
    one_way, both_ways = (
        geometric.Data(edge_index=torch.tensor(ends), num_nodes=2) for ends in ([[0], [1]], [[0, 1], [1, 0]])
    )
    with pytest.warns(DataWarning, match="1 of 2 graphs have edges that go one way"):
        Graphs().fitted([one_way, both_ways])


def test_a_graph_of_too_many_edges_is_refused() -> None:
    with pytest.raises(DataError, match=r"has 201 edges; more than 100 for each of max_nodes=2 .* set max_nodes=3"):
        Graphs(max_nodes=2)({"nodes": 2, "edges": np.zeros((201, 2), int)})


def test_attributes_that_lack_are_told_with_how_to_give_them() -> None:
    graphs = Graphs().fitted([{"nodes": ["C", "N"], "edges": [[0, 1]]}])
    with pytest.raises(
        DataError, match=r"lack 'label'.*such as \{'label': 'C'\}.*set_node_attributes\(graph, 'C', 'label'\)"
    ):
        graphs(networkx.cycle_graph(4))


def test_a_table_of_edges_is_told_where_files_or_classes_are_wanted(tmp_path: Path) -> None:
    (edges := tmp_path / "edges.csv").write_text("graph,source,target\na,0,1\na,1,2\nb,0,1\nb,1,0\n")
    with pytest.raises(DataError, match=r"is no graph: .*A table of edges is read by .*from_tables"):
        Graphs()(edges)
    with pytest.raises(DataError, match=r"is a table of edges: .*--target_field target"):
        opened(edges)
    (rows := tmp_path / "rows.csv").write_text("size,source,target\n1,web,yes\n2,ad,no\n3,web,yes\n")
    assert type(opened(rows)).__name__ == "TabularClassificationData"


@pytest.mark.parametrize(
    ("graph", "told"),
    [
        ({"nodes": 3, "edges": [[0, 1], [2, 3]]}, "edge 1 of graph 0 joins 2 and 3, and it has 3 nodes, 0 to 2"),
        ({"nodes": 2, "edges": [[1, 2]]}, "numbered from 1, take 1 away"),
        ({"nodes": 2, "edges": [[0, 1], [10**30, 1]]}, "edge 1 of graph 0 joins 10+ and 1, and it has 2 nodes, 0 to 1"),
        ({"nodes": [[10**400]], "edges": []}, "node 0 of graph 0 has .10+.*in 'features': give a word, a number"),
        ({"nodes": [{"id": 1}, {"id": 5}], "edges": [[1, 2]]}, "no node has the id 2; there are '1', '5'"),
        ({"nodes": [{"id": 1}, {"id": 1}], "edges": []}, "nodes 0 and 1 of graph 0 have one id, 1"),
        ({"nodes": [[1, 2], [1]], "edges": []}, "node 1 of graph 0 has 1 numbers in 'features', and node 0 has 2"),
        ({"nodes": ["a", {"label": 1}], "edges": []}, "node 1 of graph 0 has 1 in 'label', and node 0 a word"),
        ({"nodes": [{"a": 1}, {}], "edges": []}, "node 1 of graph 0 has no 'a', which others have"),
        ({"nodes": [1, float("nan")], "edges": []}, "node 1 of graph 0 has .nan. in 'value': no finite number"),
        ({"nodes": 300_000, "edges": []}, "graph 0 has 300,000 nodes; more than 200,000 are refused"),
        ({"nodes": 0, "edges": []}, "graph 0 has no nodes: leave it out"),
        ({"nodes": [], "edges": []}, "graph 0 has no nodes: leave it out"),
        ({"nodes": 2}, "graph 0 has no 'edges'"),
        ({"nodes": 2, "edges": [[0]]}, "edge 0 of graph 0 is .0.: give a pair"),
        ({"nodes": 2, "edges": np.zeros((2, 3))}, "turn it, edges.T"),
        ({"node": ["C"], "edges": []}, "graph 0 has 'node', which is not read: call it 'nodes'"),
        ({"nodes": 1, "Edge": []}, "graph 0 has 'Edge', which is not read: call it 'edges'"),
        ({"edges": [[0, 1], [{"id": 1}, 0]]}, "edge 1 of graph 0 joins .*id.*, which calls no node: give a word or a"),
        ({"nodes": [{"id": "a"}], "edges": [["a", [{}]]]}, "edge 0 of graph 0 joins .*, which calls no node"),
        ({"nodes": [{"id": [{}]}], "edges": []}, "node 0 of graph 0 has the id .*: give a word or a number"),
    ],
)
def test_what_is_wrong_with_a_graph_is_told(graph: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        [Graphs()(one) for one in Graphs().listed([graph])]


def test_what_differs_from_training_graphs_is_told() -> None:
    graphs = Graphs().fitted([{"nodes": [[1, 2]], "edges": []}])
    for nodes, told in (
        (["C"], "lack 'features', which training graphs have; they have 'label'"),
        ([[1]], "has 1 number"),
    ):
        with pytest.raises(DataError, match=told):
            graphs({"nodes": nodes, "edges": []})


# ---- doors


def tu(folder: Path, **changed: str) -> Path:
    """Write a TU data set of three graphs: a triangle, an edge, and a node by itself."""
    files = {
        "A": "1, 2\n2, 1\n2, 3\n3, 2\n3, 1\n1, 3\n4, 5\n5, 4\n",
        "graph_indicator": "1\n1\n1\n2\n2\n3\n",
        "graph_labels": "1\n-1\n1\n",
        "node_labels": "0\n1\n0\n2\n2\n0\n",
        "node_attributes": "0.5, 1\n1, 2\n0, 0\n3, 1\n1, 1\n2, 2\n",
    }
    folder.mkdir(exist_ok=True)
    for name, content in {**files, **changed}.items():
        (folder / f"TOY_{name}.txt").write_text(content)
    return folder


def test_folders_of_the_tu_collection_are_read(tmp_path: Path) -> None:
    folder = tu(tmp_path / "TOY")
    data = GraphClassificationData.from_folders(train_folder=folder)
    table = data.table("train")
    assert table is not None and table.targets is not None
    assert [table.classes[code] for code in table.targets] == ["1", "-1", "1"]
    graphs = Graphs().fitted(table.inputs)
    assert graphs.for_backbone() == {"features": 3 + 2, "edge_features": 0}
    assert [graphs(graph)["edges"].shape[0] for graph in table.inputs] == [6, 2, 0]
    one = GraphClassificationData.from_tu(train_folder=folder, train_classes=[1]).table("train")
    assert one is not None and len(one) == 2 and one.classes == ("1",)
    with pytest.raises(DataError, match="has no graph of class 7; it has '-1', '1'"):
        GraphClassificationData.from_tu(train_folder=folder, train_classes=[7])
    (folder / "TOY_graph_attributes.txt").write_text("0.5\n1.5\n2\n")
    assert type(opened(folder)) is GraphClassificationData  # of the ladder, though no file ends as a graph's does
    tu(tmp_path / "TOO")
    with pytest.raises(DataError, match=r"folders of the TU collection, 'TOO', 'TOY', .* give one of them, '.*/TOO'"):
        opened(tmp_path)
    numbers = GraphRegressionData.from_folders(train_folder=folder).table("train")
    assert numbers is not None and numbers.targets is not None
    assert numbers.targets.ravel().tolist() == [0.5, 1.5, 2]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"A": "1, 2\n2, 9\n"}, "line 2 of '.*TOY_A.txt' joins nodes 2 and 9, and there are 1 to 6"),
        ({"A": "1, 4\n"}, "line 1 of '.*TOY_A.txt' joins nodes of two graphs, 1 and 2"),
        ({"A": "1, 2\n2, x\n"}, "TOY_A.txt' is malformed: .*in line 2"),
        ({"A": "1, 2, 3\n"}, "TOY_A.txt' has 3 numbers a line, and not 2"),
        ({"graph_indicator": "1\n1\n1\n2\n2\n4\n"}, "line 6 of '.*graph_indicator.txt' says graph 4"),
        ({"graph_indicator": "1\n1\n1\n2\n2\n2\n"}, "graph 3 of '.*graph_labels.txt' has no node"),
        ({"node_labels": "0\n"}, "TOY_node_labels.txt' has 1 lines, and there are 6 nodes"),
        ({"node_labels": "0\n1.5\n0\n2\n2\n0\n"}, "line 2 of '.*TOY_node_labels.txt' is .1.5.: no whole numbers"),
        ({"node_attributes": "nan\n1\n0\n2\n2\n0\n"}, "line 1 of '.*attributes.txt' has no finite number"),
    ],
)
def test_a_malformed_tu_folder_is_told_by_file_and_line(changed: dict[str, str], told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told):
        GraphClassificationData.from_folders(train_folder=tu(tmp_path / "TOY", **changed))
    (tmp_path / "TOY" / "TOY_graph_indicator.txt").unlink()
    with pytest.raises(DataError, match=r"TOY_graph_indicator.txt' is missing"):
        GraphClassificationData.from_folders(train_folder=tmp_path / "TOY")


def test_tables_of_edges_and_nodes_are_graphs(tmp_path: Path) -> None:
    edges = pd.DataFrame({"graph": list("xxyy"), "source": [0, 1, 5, 6], "target": [1, 2, 6, 7], "w": [1, 2, 3, 4]})
    nodes = pd.DataFrame({"graph": list("xxxyyy"), "node": [0, 1, 2, 5, 6, 7], "kind": list("abaabc")})
    graphs = pd.DataFrame({"graph": ["y", "x"], "label": ["far", "near"]})
    edges.to_csv(tmp_path / "edges.csv", index=False)
    data = GraphClassificationData.from_tables(
        train_edges=tmp_path / "edges.csv", train_graphs=graphs, train_nodes=nodes, predict_edges=edges
    )
    table, asked = data.table("train"), data.table("predict")
    assert table is not None and asked is not None and table.targets is not None
    assert [table.classes[code] for code in table.targets] == ["far", "near"] and len(asked) == 2
    read = Graphs().fitted(table.inputs)
    assert read.for_backbone() == {"features": 3, "edge_features": 1}
    assert read(table.inputs[0])["nodes"].argmax(1).tolist() == [0, 1, 2]
    for wrong, told in (
        ({"train_edges": edges.drop(columns="target")}, "the table of edges has no column 'target'"),
        ({"train_graphs": graphs[:1]}, "the table of graphs has no row of x"),
        ({"train_nodes": nodes[:3]}, "the table of nodes has none of graph y"),
        ({"train_nodes": nodes[:5]}, "edge 1 of graph 'y' joins '6' and '7', and no node has the id '7'"),
    ):
        with pytest.raises(DataError, match=told):
            GraphClassificationData.from_tables(
                **{"train_edges": edges, "train_graphs": graphs, "train_nodes": nodes, **wrong}
            )


@pytest.mark.parametrize(
    ("nodes", "column"),
    [
        (["1234567890123456781", "1234567890123456782"], ["A", "1"]),
        (["007", "7"], ["nan", "x"]),
        ([1.0, 2.0], ["inf", "y"]),
    ],
)
def test_what_nodes_are_called_and_words_are_taken_letter_by_letter(nodes: list[Any], column: list[str]) -> None:
    edges = {"graph": np.array(["x"]), "source": np.array(nodes[:1]), "target": np.array(nodes[1:])}
    about = {"graph": np.array(["x", "x"]), "node": np.array(nodes, object), "word": np.array(column, object)}
    with_nodes = graphs_of_tables(edges, about, "graph", "node", "source", "target")["x"]
    assert (with_nodes.nodes, with_nodes.edges.tolist()) == (2, [[0, 1]])
    assert with_nodes.of_nodes["word"].tolist() == column
    assert graphs_of_tables(edges, None, "graph", "node", "source", "target")["x"].nodes == 2
    with pytest.raises(DataError, match="row 0 of the table of edges has no 'source'"):
        graphs_of_tables({**edges, "source": np.array([""])}, None, "graph", "node", "source", "target")


def test_what_pytorch_geometric_has_is_read_or_told() -> None:
    geometric: Any = pytest.importorskip("torch_geometric.data")
    ends = torch.tensor([[0, 1], [1, 0]])
    weighed = geometric.Data(edge_index=ends, num_nodes=2, edge_weight=torch.tensor([0.5, 0.5]))
    assert Graphs().fitted([weighed]).for_backbone()["edge_features"] == 1
    with pytest.warns(DataWarning, match="have pos, which are not read"):
        Graphs()(geometric.Data(edge_index=ends, num_nodes=2, pos=torch.zeros(2, 3)))


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ([{"id": {}}, {"id": 1}], "node 0 of .* has the id {}"),
        ([[1.0, 2.0], [[1.0], [2.0]]], "node 1 of .* has numbers of shape .2, 1. in 'features', and node 0 of .2,."),
    ],
)
def test_odd_nodes_are_named(nodes: list[Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        Graphs()({"nodes": nodes, "edges": []})


def test_a_sketch_tells_graphs_by_what_joins_their_nodes() -> None:
    one, other = ({"nodes": 3, "edges": [[0, 1, {"w": w}], [1, 2, {"w": 1.0}]]} for w in (1.0, 2.0))
    graphs = Graphs().fitted([one, other])
    assert graphs.sketch(one) != graphs.sketch(other)


def test_data_sets_of_pytorch_geometric_bring_their_labels() -> None:
    geometric: Any = pytest.importorskip("torch_geometric.data")
    ends = torch.tensor([[0, 1], [1, 0]])
    items = [geometric.Data(edge_index=ends, num_nodes=2 + place, y=torch.tensor([place % 2])) for place in range(4)]
    data = GraphClassificationData.from_datasets(items[:3], test_dataset=items[3:])
    table = data.table("train")
    assert table is not None and table.targets is not None
    assert table.classes == ("0", "1") and table.targets.tolist() == [0, 1, 0]
    assert Graphs()(table.inputs[2])["mask"].shape == (4,)


# ---- seeing, and what is nearly the same


def test_a_graph_is_drawn_the_same_each_time_whatever_its_size() -> None:
    graphs = Graphs().fitted([ring(5)])
    for graph in (ring(6), {**ring(1), "edges": []}, ring(500)):
        shown = graphs.show(graph, graphs(graph))
        assert shown == graphs.show(graph, graphs(graph)) and len(shown) < 8192
        picture = Image.open(io.BytesIO(shown))
        assert picture.size == (96, 96) and len(picture.convert("RGB").getcolors(9999) or ()) > 2


def test_graphs_that_differ_in_the_order_of_nodes_alone_are_nearly_the_same() -> None:
    graphs, graph = Graphs().fitted([ring(7)]), ring(7)
    order = np.random.default_rng(0).permutation(7)
    turned: dict[str, Any] = {
        "nodes": [graph["nodes"][place] for place in order.argsort()],
        "edges": [[int(order[one]), int(order[other]), told] for one, other, told in graph["edges"]],
    }
    assert graphs.sketch(turned) == graphs.sketch(graph) != graphs.sketch(star(7))
    other = {**graph, "nodes": ["C" if graph["nodes"][0] != "C" else "O", *graph["nodes"][1:]]}
    assert graphs.sketch(other) != graphs.sketch(graph)


@pytest.mark.parametrize("name", ["drop_nodes", "drop_edges", "mask_nodes", "graph_views"])
def test_what_is_dropped_leaves_a_graph(name: str) -> None:
    graphs = Graphs().fitted([ring(40)])
    with seeded((0,)):
        changed = TRANSFORMS[name](graphs(ring(40)))
    there, ends = packed(stack([changed])), changed["edges"][changed["edge_mask"]].tolist()
    assert len(there.nodes) == int(changed["mask"].sum()) > 20
    assert there.edges.numel() == 0 or int(there.edges.max()) < len(there.nodes)
    assert sorted(ends) == sorted([other, one] for one, other in ends)  # both ways, still
    least = {"drop_nodes": len(there.nodes), "drop_edges": len(ends) / 2, "mask_nodes": float(there.nodes.sum())}
    assert least.get(name, 0) < 40
