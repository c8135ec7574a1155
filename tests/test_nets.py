"""Encoders: shapes, inputs as they are, and BatchNorm by episode."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from quickstudy.algorithms import STRATEGIES
from quickstudy.batches import Batch
from quickstudy.errors import ConfigError
from quickstudy.nets import (
    Encoder,
    available_backbones,
    build_encoder,
    by_batch,
    by_episode,
    by_example,
    by_support,
    pooling,
    sized,
)
from quickstudy.nets.batch_norm import Call
from quickstudy.nets.conv4 import Conv4
from quickstudy.nets.pooling import MaxPool2x2
from quickstudy.testing import small_encoder, small_episodes
from quickstudy.testing.made_up import Places


@pytest.mark.parametrize(
    ("name", "kwargs", "size", "features"),
    [
        ("conv4", {"in_channels": 1}, 28, 64),
        ("conv4", {}, 84, 1600),
        ("conv4", {"hidden": 32, "norm": "group"}, 32, 128),
        ("conv4", {"in_channels": 5}, 17, 64),
        ("resnet12", {}, 32, 640),
        ("resnet12", {"pool": False}, 84, 16000),
        ("resnet18", {"in_chans": 1}, 64, 512),
        ("vit_tiny_patch16_224", {"img_size": 32}, 32, 192),
    ],
)
def test_shapes(name: str, kwargs: dict[str, object], size: int, features: int) -> None:
    encoder = build_encoder(name, kwargs, pretrained=False).eval()
    channels = encoder.in_channels
    assert channels is not None
    with torch.no_grad():
        assert encoder(torch.zeros(2, channels, size, size, dtype=torch.uint8)).shape == (2, features)


def test_resnet12_has_the_filters_of_the_paper_and_drops_only_in_training() -> None:
    encoder = build_encoder("resnet12", {"drop_rate": 0.3})
    filters = [m.out_channels for m in encoder.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert filters == [64, 160, 320, 640]
    images = torch.rand(2, 3, 32, 32)
    encoder.eval()
    assert torch.equal(encoder(images), encoder(images))
    encoder.train()
    assert not torch.equal(encoder(images), encoder(images))


def test_uint8_is_scaled_and_normalised_and_floats_are_left_alone() -> None:
    encoder = build_encoder("resnet18", pretrained=False).double().eval()
    assert encoder.mean is not None
    assert encoder.std is not None
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    prepared = (pixels.double() / 255 - encoder.mean) / encoder.std
    with torch.no_grad():
        torch.testing.assert_close(encoder(pixels), encoder(prepared))
    seen: list[Tensor] = []

    class Watch(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(inputs)
            return inputs

    values = torch.randn(2, 5, 7)
    build_encoder(Watch())(values)
    assert torch.equal(seen[0], values)


@pytest.mark.parametrize("name", ["conv4", "resnet18", "resnet12"])
def test_batch_norm_sees_one_episode_at_a_time(name: str) -> None:
    kwargs = {"drop_rate": 0.0} if name == "resnet12" else {}
    encoder = build_encoder(name, kwargs, pretrained=False).double().train()
    alone = [copy.deepcopy(encoder) for _ in range(3)]
    inputs = torch.randn(3 * 4, 3, 32, 32, dtype=torch.float64) * torch.arange(1, 4).repeat_interleave(4).view(
        -1, 1, 1, 1
    )
    with by_episode(3):
        together = encoder(inputs)
    apart = torch.cat([copied(part) for copied, part in zip(alone, inputs.chunk(3), strict=True)])
    torch.testing.assert_close(together, apart, rtol=1e-10, atol=1e-10)
    buffers = [dict(copied.named_buffers()) for copied in alone]
    moved = [name for name, _ in encoder.named_buffers() if name.endswith(("running_mean", "running_var"))]
    assert moved
    for key in moved:
        mean = torch.stack([b[key] for b in buffers]).mean(0)
        torch.testing.assert_close(encoder.get_buffer(key), mean, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "norm", [lambda: by_support(3, examples=12), lambda: by_episode(4, 12), lambda: by_example(12), by_batch]
)
def test_places_that_are_folded_into_rows_are_their_examples(norm: Any) -> None:
    inputs = torch.randn(12, 1, 8, 8, dtype=torch.float64) * torch.arange(1, 13).view(-1, 1, 1, 1)
    found = []
    for encoder in (small_encoder(norm=True), small_encoder(fold=True)):
        with norm():
            features = encoder.train()(inputs)
        found.append([features, *(buffer for name, buffer in encoder.named_buffers() if "running" in name)])
    for plain, folded in zip(*found, strict=True):
        torch.testing.assert_close(folded, plain, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm", [by_support(2, examples=4), by_episode(2, 4), by_example(4)])
def test_rows_that_are_nobodys_say_what_to_do(norm: Any) -> None:
    with norm, pytest.raises(ConfigError, match=r"6 rows of 4 examples, .* take a backbone without BatchNorm"):
        nn.BatchNorm1d(3)(torch.randn(6, 3))


class Across(Places):
    """Normalises places as rows, the first of each example, the second of each: as where places come first."""

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        rows_HWNC = maps_NCHW.permute(2, 3, 0, 1)
        normalized: Tensor = self.norm(rows_HWNC.flatten(0, 2)).view(rows_HWNC.shape).permute(2, 3, 0, 1)
        return normalized


class Crossed(Places):
    """Takes examples for places."""

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        normalized: Tensor = self.norm(maps_NCHW.flatten(2).permute(2, 1, 0)).permute(2, 1, 0).view(maps_NCHW.shape)
        return normalized


def folding(places: type[Places]) -> Encoder:
    encoder = small_encoder(fold=True)
    encoder.backbone[1] = places(4).double()
    return encoder.train()


@pytest.mark.parametrize("norm", ["support", "group", "transductive"])
@pytest.mark.parametrize("name", ["prototypicalnetworks", "maml", "reptile"])
def test_places_that_come_first_are_their_examples(name: str, norm: str) -> None:
    if name == "prototypicalnetworks" and norm != "support":
        return
    found = []
    for places in (Places, Across):
        encoder, episodes = folding(places), small_episodes()
        torch.manual_seed(0)
        algorithm = STRATEGIES[name](**({} if name == "prototypicalnetworks" else {"normalization": norm})).train()
        algorithm.meet(encoder, encoder.feature_shape(episodes.support[0, :1]), 3)
        algorithm.double().task_chunk = 3
        loss, logits = algorithm.judge(encoder, episodes, 3, algorithm.loss)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [parameter.grad for parameter in encoder.parameters()]
        running = [buffer for name, buffer in encoder.named_buffers() if "running" in name]
        with torch.no_grad():
            state = algorithm.eval().adapt(
                encoder.eval(), algorithm.keep(encoder, [episodes.support[0]]), episodes.support_targets[0], 3
            )
            found.append([logits, *gradients, *running, algorithm.predict(encoder, state, [episodes.query[0]])])
    for adjacent, across in zip(*found, strict=True):
        torch.testing.assert_close(across, adjacent, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["prototypicalnetworks", "maml"])
def test_rows_that_cannot_be_told_are_an_error(name: str) -> None:
    # 64 rows, as many as examples: that their number divides evenly says nothing.
    encoder, episodes = folding(Crossed), small_episodes(4, 2, 3, 5)
    algorithm = STRATEGIES[name]().train()
    algorithm.meet(encoder, encoder.feature_shape(episodes.support[0, :1]), 2)
    algorithm.double().task_chunk = 4
    with pytest.raises(ConfigError, match=r"it cannot be told which are whose.* take a backbone without BatchNorm"):
        algorithm.judge(encoder, episodes, 2, algorithm.loss)


def test_how_rows_are_laid_out_is_found_once_and_leaves_no_trace() -> None:
    inputs, passed = torch.randn(4, 1, 8, 8, dtype=torch.float64), []
    for places, layout in ((Places, "adjacent"), (Across, "strided"), (Crossed, "unclear")):
        encoder = folding(places)
        before, generator = {k: v.clone() for k, v in encoder.state_dict().items()}, torch.get_rng_state()
        encoder.backbone.register_forward_hook(lambda *_: passed.append(1))
        encoder.find_rows(inputs[:1].expand(4, -1, -1, -1))  # all alike, which tells nothing
        assert encoder.rows_of(inputs).of(Call(inputs.new_zeros(8, 4), None, None)) == ([2] * 4, False)
        assert not passed
        for _ in range(2):
            encoder.find_rows(inputs)
        assert len(passed) == 2 and all(module.training for module in encoder.modules())
        assert encoder.rows_of(inputs).layouts == {layout}
        assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
        assert torch.equal(torch.get_rng_state(), generator)
        passed.clear()


class Packed(nn.Module):
    """Normalises the real tokens alone, packed, and then what is made of each text."""

    def __init__(self, by: str) -> None:
        super().__init__()
        self.by, self.norm, self.last = by, nn.BatchNorm1d(3), nn.BatchNorm1d(3)

    def forward(self, texts: Batch) -> Tensor:
        lengths = texts["length"] if self.by == "length" else texts["mask"].sum(1)
        there = torch.arange(texts["x"].shape[1]) < lengths[:, None]
        words = self.norm(texts["x"][there])
        owner = torch.arange(len(lengths)).repeat_interleave(lengths)
        features: Tensor = self.last(words.new_zeros(len(lengths), 3).index_add(0, owner, words.square()))
        return features


@pytest.mark.parametrize("by", ["length", "mask"])
@pytest.mark.parametrize("norm", ["episode", "support", "example"])
def test_packed_rows_are_counted_by_a_leaf(by: str, norm: str) -> None:
    lengths = torch.tensor([2, 5, 1, 3, 4, 3])  # 18 rows of 6 texts: three each, if one would believe it
    mask = torch.arange(5) < lengths[:, None]
    values = torch.randn(6, 5, 3, dtype=torch.float64) * torch.arange(1, 7)[:, None, None] * mask[..., None]
    texts: Batch = {"x": values, "more": torch.ones(6, dtype=torch.long), "mask": mask, "length": lengths}
    encoder = Encoder(Packed(by)).double().train()
    encoder.find_rows(texts)
    rows = encoder.rows_of(texts)
    assert rows.layouts in ({"one", "['mask']"}, {"one", "['length']"})  # which say the same
    seen: list[Tensor] = []
    encoder.backbone.norm.register_forward_hook(lambda _, inputs, output: seen.extend([*inputs, output]))
    with {"episode": by_episode(2, rows), "support": by_support(3, examples=rows), "example": by_example(rows)}[norm]:
        encoder(texts)
    inputs, output = seen
    if norm == "example":
        parts = zip(inputs.split(lengths.tolist()), output.split(lengths.tolist()), strict=True)
    else:
        parts = iter([(inputs[:8], output[:8]), (inputs[8:], output[8:])])
    for part, normalized in parts:
        like = inputs[:8] if norm == "support" else part
        axes = (0, 1) if norm == "example" else (0,)
        if norm == "example":
            expected = F.group_norm(part.T[None], 1, eps=1e-5)[0].T
        else:
            expected = (part - like.mean(axes)) / (like.var(axes, correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(normalized, expected, rtol=1e-9, atol=1e-9)


def test_gradients_of_a_meta_batch_are_the_mean_over_its_episodes() -> None:
    encoder = build_encoder("conv4", {"in_channels": 1, "hidden": 8}).double().train()
    inputs = torch.randn(2 * 6, 1, 16, 16, dtype=torch.float64)
    with by_episode(2):
        encoder(inputs).square().mean().backward()
    together = [parameter.grad for parameter in encoder.parameters()]
    encoder.zero_grad()
    for part in inputs.chunk(2):
        (encoder(part).square().mean() / 2).backward()
    for one, other in zip(together, encoder.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad, rtol=1e-9, atol=1e-12)


def test_evaluation_uses_running_statistics() -> None:
    encoder = build_encoder("conv4", {"in_channels": 1}).double().eval()
    images = torch.rand(6, 1, 28, 28, dtype=torch.float64)
    with torch.no_grad(), by_episode(2):
        torch.testing.assert_close(encoder(images)[:1], encoder(images[:1]))


def test_pretrained_weights_without_a_network_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"'resnet18' could not be loaded.*pretrained=False.*checkpoint_path"):
        build_encoder("resnet18")


def test_backbones_are_listed() -> None:
    names = available_backbones()
    own = {
        "conv4",
        "minilm",
        "resnet12",
        "small_transformer",
        "static_embeddings",
        "transformers",
    }  # beside those of other tests
    assert {*own, "resnet18"} <= {*names} and own <= {*names[: names.index("transformers") + 1]}
    assert len(names) > 1000


def test_whole_numbers_other_than_uint8_are_left_alone() -> None:
    tokens = torch.randint(0, 1000, (2, 7))
    embedding = nn.Embedding(1000, 4)
    assert torch.equal(build_encoder(embedding)(tokens), embedding(tokens).flatten(1))


def test_double_stays_double_without_parameters() -> None:
    values = torch.rand(3, 4, dtype=torch.float64)
    assert torch.equal(build_encoder(nn.Flatten())(values), values)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(6, 8), (7, 9)])
def test_our_pooling_is_torchs_and_so_are_its_two_derivatives(
    size: tuple[int, int], layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooling, "_LARGE", 0)
    maps = torch.randn(3, 4, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    maps[0, 0] = 1.0  # ties
    maps = maps.contiguous(memory_format=layout)
    ours, theirs = MaxPool2x2(), torch.nn.MaxPool2d(2)
    assert torch.equal(ours(maps), theirs(maps))
    assert ours(maps).is_contiguous(memory_format=layout)
    derivatives = []
    for pool in (ours, theirs):
        leaf = maps.clone().requires_grad_()
        (first,) = torch.autograd.grad(pool(leaf).pow(3).sum(), leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.pow(2).sum(), leaf)
        assert first.is_contiguous(memory_format=layout)
        derivatives.append((first.detach(), second))
    assert all(torch.equal(one, other) for one, other in zip(*derivatives, strict=True))
    assert torch.equal(torch.func.vmap(ours)(maps[None]), theirs(maps)[None])
    several = torch.stack([maps, maps.flip(0)])
    for loss in (torch.Tensor.sum, lambda pooled: pooled.pow(3).sum()):
        one, other = (torch.func.grad(lambda m, pool=pool, loss=loss: loss(pool(m))) for pool in (ours, theirs))
        assert torch.equal(torch.func.vmap(one)(several), torch.stack([other(some) for some in several]))
    change = torch.randn(maps.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with forward_ad.dual_level(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.script. is deprecated", FutureWarning)  # torch's own
        ahead = [forward_ad.unpack_dual(pool(forward_ad.make_dual(maps, change))).tangent for pool in (ours, theirs)]
    assert torch.equal(*ahead)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pooling_keeps_nothing_of_large_maps_for_its_gradients(layout: torch.memory_format) -> None:
    kept: list[torch.Tensor] = []
    maps = torch.randn(2, 16, 64, 64).contiguous(memory_format=layout).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        MaxPool2x2()(maps)
    assert [tensor.numel() for tensor in kept] == [maps.numel() // 4]


def test_gradients_do_not_depend_on_which_pooling_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = torch.randint(0, 256, (40, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    gradients = []
    for large in (0, 2**40):
        monkeypatch.setattr(pooling, "_LARGE", large)
        torch.manual_seed(0)
        encoder = Encoder(Conv4(1, 64))
        encoder(pictures).square().sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_an_exported_graph_pools_in_one_node_of_any_number_of_pictures() -> None:
    pictures = torch.zeros(2, 1, 16, 16)
    exported = torch.export.export(Conv4(1, 2).eval(), (pictures,), dynamic_shapes=({0: torch.export.Dim("N")},))
    nodes = [str(node.target) for node in exported.graph.nodes]
    assert nodes.count("aten.max_pool2d.default") == 4 and not any("maximum" in node for node in nodes)


def test_conv4_with_fewer_pools_keeps_larger_maps() -> None:
    assert Conv4(in_channels=1, hidden=8, pools=2)(torch.zeros(2, 1, 28, 28)).shape == (2, 8, 7, 7)
    with pytest.raises(ConfigError, match="pools=0 to pools=4, not 5"):
        Conv4(pools=5)
    with pytest.raises(ConfigError, match="halves an image 2 times and needs at least 4x4"):
        Conv4(in_channels=1, pools=2)(torch.zeros(2, 1, 3, 3))


def test_a_backbone_is_made_for_what_its_inputs_tell_unless_it_is_told_or_trained(tmp_path: Path) -> None:
    made = sized(build_encoder("one_hot"), {"numbers": 3, "categories": [2, 4], "unheard": 1})
    assert made.made_by == ("one_hot", {"numbers": 3, "categories": [2, 4]})
    assert sized(made, {"numbers": 5}) is made
    tiny = {"width": 4, "heads": 1, "layers": 1}
    plain = build_encoder("small_transformer", tiny)
    assert sized(plain, {"vocabulary_size": 9000}).backbone.tokens.num_embeddings == 9000
    torch.save(plain.backbone.state_dict(), tmp_path / "weights.pth")
    trained = build_encoder("small_transformer", {**tiny, "checkpoint_path": str(tmp_path / "weights.pth")})
    assert sized(trained, {"vocabulary_size": 9000}) is trained
