"""Networks of tables: vectorised, differentiated twice, exported; ensembles against their members, one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from quickstudy.algorithms import STRATEGIES
from quickstudy.batches import take, unfold
from quickstudy.episode import Episode
from quickstudy.errors import ConfigError
from quickstudy.nets import Encoder, audit
from quickstudy.nets.stages import layers_of, stages_of
from quickstudy.tabular.nets import MLP, Columns, FTTransformer, OneHot, ResNet, TabM

SIZES = (3, 4)
NETWORKS: dict[str, Any] = {
    "mlp": lambda **columns: MLP(embedding="periodic", width=16, **columns),
    "resnet": lambda **columns: ResNet(embedding="piecewise", width=8, **columns),
    "ft_transformer": lambda **columns: FTTransformer(width=8, heads=2, **columns),
    "tabm": lambda **columns: TabM(members=3, width=8, dropout=0.0, **columns),
    "one_hot": OneHot,
}


def rows(count: int = 6, numbers: int = 3, categories: tuple[int, ...] = SIZES) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(count)
    missing = torch.rand(count, numbers, generator=generator) < 0.2
    codes = [torch.randint(size, (count, 1), generator=generator) for size in categories]
    return {
        "numbers": torch.randn(count, numbers, generator=generator, dtype=torch.float64).masked_fill(missing, 0),
        "missing": missing,
        "codes": torch.cat([torch.empty(count, 0, dtype=torch.int64), *codes], 1),
    }


def made(name: str, numbers: int = 3, categories: tuple[int, ...] = SIZES) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = NETWORKS[name](numbers=numbers, categories=categories)
    for parameter in network.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)  # what begins as zeros or ones tells little
    return network.double().eval()


@pytest.mark.parametrize("name", ["mlp", "resnet", "ft_transformer", "tabm"])
def test_gradients_through_gradient_steps_are_alike_one_by_one_and_vectorised(name: str) -> None:
    network = made(name)
    audit(network)
    weights = {name: value.detach() for name, value in network.named_parameters()}

    def loss(own: dict[str, Tensor], some: dict[str, Tensor]) -> Tensor:
        return functional_call(network, own, (some,)).flatten(1).square().sum(1).sin().mean()

    def after_a_step(own: dict[str, Tensor], support: Any, query: Any) -> Tensor:
        step = grad(loss)(own, support)
        return loss({name: value - 0.1 * step[name] for name, value in own.items()}, query)

    tasks = [unfold(rows(12), 2, -1), unfold(rows(10), 2, -1)]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        together = vmap(grad(after_a_step), (None, 0, 0), randomness="error")(weights, *tasks)
        for task in range(2):
            for name, value in grad(after_a_step)(weights, *(take(each, task) for each in tasks)).items():
                torch.testing.assert_close(together[name][task], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_takes_any_number_of_rows(name: str) -> None:
    network = made(name)
    axes = {key: {0: torch.export.Dim("N")} for key in ("numbers", "missing", "codes")}
    graph = torch.export.export(network, (rows(),), dynamic_shapes=(axes,)).module()
    for count in (2, 9):
        torch.testing.assert_close(graph(rows(count)), network(rows(count)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("numbers", "categories"), [(0, SIZES), (3, ())])
def test_columns_may_all_be_of_one_sort(name: str, numbers: int, categories: tuple[int, ...]) -> None:
    found = made(name, numbers, categories)(rows(5, numbers, categories))
    assert len(found) == 5
    assert found.isfinite().all()
    assert (found[0] != found[1]).any()


@pytest.mark.parametrize("name", NETWORKS)
def test_columns_that_a_network_is_not_made_for_are_told(name: str) -> None:
    with pytest.raises(ConfigError, match=r"made for 0 columns of numbers and 0 of .* rows have 3 and 2.*'numbers': 3"):
        made(name, 0, ())(rows())
    with pytest.raises(ConfigError, match=r"takes rows of tables.*for pictures name another, such as 'resnet18'"):
        made(name)(torch.zeros(1, 3, 8, 8))


def test_one_hot_is_numbers_flags_and_a_column_of_each_known_category() -> None:
    some = {
        "numbers": torch.tensor([[0.5, 0.0]]),
        "missing": torch.tensor([[False, True]]),
        "codes": torch.tensor([[2, 0]]),
    }
    assert OneHot(2, (4, 2))(some).tolist() == [[0.5, 0, 0, 1, 0, 1, 0, 0]]
    assert MLP(2, (4, 2)).columns(some)[0, 3].abs().max() == 0  # what training does not see tells nothing


def test_piecewise_numbers_bend_at_quantiles_and_go_on_beyond_them() -> None:
    columns = Columns(1, (), 1, "piecewise").double()
    columns.begins = torch.special.ndtri(torch.linspace(0, 1, 17, dtype=torch.float64)[1:-1])  # as it is before float32
    columns.begins = torch.cat([2 * columns.begins[:1] - columns.begins[1:2], columns.begins])
    columns.widths = torch.cat([columns.begins.diff(), columns.begins.diff()[-1:]])
    with torch.no_grad():
        columns.weight.zero_(), columns.bias.zero_()
        columns.bends[0, :, 0] = columns.widths  # slope 1 in each bin, so all of it is one straight line

    def embedded(values: list[float]) -> Tensor:
        numbers = torch.tensor(values, dtype=torch.float64)[:, None]
        return columns({"numbers": numbers, "missing": numbers > 99, "codes": torch.empty(len(values), 0).long()})

    found = embedded([-7.0, -0.3, 0.0, 0.4, 9.0]).flatten()
    torch.testing.assert_close(found.diff(), torch.tensor([6.7, 0.3, 0.4, 8.6], dtype=torch.float64))
    columns.bends.data[0, :8] = 0
    assert embedded([-2.0, 0.0, 1.0]).flatten().diff().tolist() == pytest.approx([0.0, 1.0])


def test_a_member_is_a_perceptron_of_its_own() -> None:
    network = made("tabm")
    assert isinstance(network, TabM)
    some = rows(4)
    features = network(some)
    for member in range(3):
        states = network.columns(some).flatten(1)
        for layer in network.layers:
            scales = layer.scale[member], layer.other_scale[member]
            own = scales[1][:, None] * layer.weight * scales[0]
            states = F.linear(states, own, layer.bias[member]).relu()
        torch.testing.assert_close(features[:, member], states, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("strategy", ["prototypicalnetworks", "maml"])
@pytest.mark.parametrize("name", ["resnet", "tabm"])
def test_tasks_are_learned_alike_one_by_one_and_together(strategy: str, name: str) -> None:
    targets = torch.tensor([[0, 1, 0, 1]] * 3)
    episode = Episode(unfold(rows(12), 3, -1), targets, unfold(rows(12), 3, -1), targets)
    found = []
    for chunk in (1, 3):
        torch.manual_seed(0)
        encoder, algorithm = Encoder(made(name)), STRATEGIES[strategy]()
        algorithm.task_chunk = chunk
        algorithm.meet(encoder, encoder.feature_shape(take(episode.support, (0, slice(1)))), 2)
        algorithm.double().train(), encoder.train()
        torch.manual_seed(1)
        loss, _ = algorithm.judge(encoder, episode, 2, algorithm.loss)
        loss.backward()
        found.append({name: value.grad for name, value in encoder.named_parameters() if value.grad is not None})
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-8, atol=1e-12)


def test_the_last_stage_of_an_ft_transformer_is_its_last_layer_of_attention() -> None:
    network = FTTransformer(3, SIZES, width=8, heads=2)
    first, *others = stages_of(network)
    assert {*first} == {network, *layers_of(network.columns)}  # the first has the place, which is its own
    assert others == [layers_of(network.layers[0]), [*layers_of(network.layers[1]), network.norm]]
