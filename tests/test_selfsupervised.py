"""Self-supervised methods: losses are those of the papers, and each keeps the contract, also one of a test's own."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback
from torch import Tensor, nn

from quickstudy import ConfigError, DataError, DataWarning, MissingPackageError, Trainer
from quickstudy.batches import Batch, fold, size, take, unfold
from quickstudy.cli import main
from quickstudy.data.loading import Share
from quickstudy.image import ImageClassifier, ImageEmbedder, ImageEmbeddingData
from quickstudy.nets import Encoder
from quickstudy.selfsupervised import METHODS, Method, available_methods, mlp
from quickstudy.testing.demands import check_randomness
from quickstudy.training.procedure import Views, build_procedure

QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}
SMALL: dict[str, Any] = {"backbone": "conv4", "backbone_kwargs": {"hidden": 4, "in_channels": 1}}


class Byol(Method):
    """Grill et al. 2020, https://arxiv.org/abs/2006.07733: what a researcher writes, with a teacher that follows."""

    paper = "Grill et al. 2020, Bootstrap Your Own Latent, https://arxiv.org/abs/2006.07733"

    def __init__(self, momentum: float = 0.9) -> None:
        super().__init__()
        self._momentum = momentum

    def heads(self, features: int) -> nn.Module:
        return mlp(features, (8, 4))

    def meet(self, encoder: Encoder, features: int) -> None:
        super().meet(encoder, features)
        self.predictor = mlp(4, (8, 4))
        self.teacher = copy.deepcopy(nn.ModuleList([encoder, self.projector])).requires_grad_(False)

    def outputs(self, features_BVD: Tensor, views: Batch) -> Batch:
        online = super().outputs(features_BVD, views)
        with torch.no_grad():
            encoder, projector = self.teacher
            taught = unfold(projector(encoder(fold(views))), *online.shape[:2])
        return {"predicted": unfold(self.predictor(online.flatten(0, 1)), *online.shape[:2]), "taught": taught}

    def loss(self, outputs: Any) -> Tensor:
        return -F.cosine_similarity(outputs["predicted"], outputs["taught"].flip(1), dim=-1).mean()

    @torch.no_grad()
    def after_step(self, encoder: Encoder) -> None:
        online = nn.ModuleList([encoder, self.projector])
        for own, other in zip(self.teacher.parameters(), online.parameters(), strict=True):
            own.lerp_(other, 1 - self._momentum)


@pytest.fixture(autouse=True)
def own_method(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(METHODS._entries, "byol", Byol)
    yield


NAMES = [*available_methods(), "byol"]


def network(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> tuple[Method, Encoder]:
    torch.manual_seed(0)
    encoder = Encoder(nn.Sequential(nn.Linear(5, 8), nn.Tanh()))
    method = METHODS[name](**options)
    method.meet(encoder, 8)
    return method.to(dtype), encoder.to(dtype)


def views(count: int = 12, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(count, 1, 5, generator=generator, dtype=torch.float64)
    return (centres + 0.3 * torch.randn(count, 2, 5, generator=generator, dtype=torch.float64)).to(dtype)


def lost(made: tuple[Method, Encoder], batch: Tensor) -> Tensor:
    method, encoder = made
    return method.loss(method.outputs(unfold(encoder(fold(batch)), *batch.shape[:2]), batch))


# ---- the losses of the papers


def pair(count: int = 6, width: int = 4) -> Tensor:
    return torch.randn(count, 2, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_simclr_is_that_of_the_paper() -> None:
    outputs, temperature = pair(), 0.3
    rows = F.normalize(outputs.transpose(0, 1).flatten(0, 1), dim=1)
    expected = []
    for row in range(12):
        like = (rows @ rows[row] / temperature).exp()
        expected.append(-torch.log(like[(row + 6) % 12] / (like.sum() - like[row])))
    found = METHODS["simclr"](temperature=temperature).loss(outputs)
    assert float(found) == pytest.approx(float(torch.stack(expected).mean()), rel=1e-12)


def test_barlow_twins_is_that_of_the_paper() -> None:
    outputs = pair()
    first, second = ((one - one.mean(0)) / (one.var(0, correction=0) + 1e-5).sqrt() for one in outputs.unbind(1))
    correlations = first.T @ second / len(first)
    diagonal = correlations.diagonal()
    expected = (1 - diagonal).square().sum() + 0.02 * (correlations.square().sum() - diagonal.square().sum())
    assert float(METHODS["barlow_twins"](off_diagonal=0.02).loss(outputs)) == pytest.approx(float(expected), rel=1e-12)


def test_vicreg_is_that_of_the_paper() -> None:
    outputs = 0.5 * pair()
    expected = 25 * (outputs[:, 0] - outputs[:, 1]).square().mean()
    for one in outputs.unbind(1):
        covariances = torch.cov(one.T)
        expected += 12.5 * (1 - (covariances.diagonal() + 1e-4).sqrt()).clamp(min=0).mean()
        expected += 2 * (covariances.square().sum() - covariances.diagonal().square().sum()) / 4
    assert float(METHODS["vicreg"](covariance=2.0).loss(outputs)) == pytest.approx(float(expected), rel=1e-12)


# ---- the contract, of every one that is registered


@pytest.mark.parametrize("name", NAMES)
def test_a_method_keeps_its_contract(name: str) -> None:
    assert "http" in METHODS[name].paper
    made, batch = network(name), views()
    method, encoder = made
    loss = lost(made, batch).detach()
    assert loss.ndim == 0 and bool(loss.isfinite()) and loss.dtype == torch.float64
    order = torch.randperm(size(batch), generator=torch.Generator().manual_seed(2))
    assert float(lost(made, take(batch, order)).detach()) == pytest.approx(float(loss), rel=1e-10)
    assert float(lost(made, batch.flip(1)).detach()) == pytest.approx(float(loss), rel=1e-10)  # no view is the first
    trained = [one for part in made for one in part.parameters() if one.requires_grad]
    assert len(trained) > len(list(encoder.parameters()))  # it has a projector, whose own they are
    assert all(bool(found.isfinite().all()) for found in torch.autograd.grad(lost(made, batch), trained))
    check_randomness(lambda _: lost(made, batch), "in a step")
    other = network(name)[0]
    other.load_state_dict(method.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_a_method_learns(name: str) -> None:
    made, batch = network(name, **({} if name == "byol" else {"projection": (16, 8)})), views()
    trained = [one for part in made for one in part.parameters() if one.requires_grad]
    optimizer, losses = torch.optim.Adam(trained, lr=0.01), []
    for _ in range(60):
        optimizer.zero_grad()
        loss = lost(made, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        made[0].after_step(made[1])
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1 * abs(losses[0])


@pytest.mark.parametrize("name", available_methods())
def test_options(name: str) -> None:
    options = {"simclr": "temperature", "barlow_twins": "off_diagonal", "vicreg": "variance"}
    with pytest.raises(ConfigError, match=f"{options[name]}=0: it must be an int or a float above 0"):
        build_procedure(name, {options[name]: 0})
    for wrong in ((), "256", (8, 0), 256):
        with pytest.raises(ConfigError, match="projection="):
            build_procedure(name, {"projection": wrong})
    with pytest.raises(ConfigError, match=f"'{name}' has no option 'ways'"):
        build_procedure(name, {"ways": 5})
    made = build_procedure(name, {"projection": [3, 2]})
    assert isinstance(made, Views) and made.method.heads(7)(torch.zeros(4, 7)).shape == (4, 2)


def test_without_lightly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightly", None)
    monkeypatch.setitem(sys.modules, "lightly.loss", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'quickstudy\[selfsupervised\]'"):
        ImageEmbedder(**SMALL, training_strategy="simclr")
    assert ImageEmbedder(**SMALL).score.name == "knn_accuracy"


def test_methods_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "methods"]) == 0
    assert {"barlow_twins", "simclr", "vicreg"} <= set(capsys.readouterr().out.split())
    assert main(["list", "methods", "simclr"]) == 0
    told = capsys.readouterr().out
    assert "https://arxiv.org/abs/2002.05709" in told and "- `temperature=0.2`: what cosines are divided by" in told


def test_what_learns_no_features_is_told_of_embedders() -> None:
    with pytest.raises(ConfigError, match="'simclr' learns without labels, which an embedder does"):
        ImageClassifier(**SMALL, training_strategy="simclr")
    with pytest.raises(ConfigError, match="head belongs to training_strategy='default'"):
        ImageEmbedder(**SMALL, head=nn.Flatten(), training_strategy="simclr")
    with pytest.raises(ConfigError, match="did you mean 'simclr'"):
        ImageEmbedder(**SMALL, training_strategy="simcl")


# ---- views


def shifted(pixels: Tensor) -> Tensor:
    return torch.roll(pixels, int(torch.randint(6, ())), -1)


def pictures(count: int = 22) -> Tensor:
    return torch.randint(0, 256, (count, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def test_views_follow_from_seed_step_place_and_view() -> None:
    """Whatever the number of processes: what the first of two and the second see is what one alone sees."""

    def seen(share: Share, epoch: int, stage: Any = "train") -> list[Any]:
        data = ImageEmbeddingData.from_tensors(pictures(), val_data=pictures(5), batch_size=8 // share.world_size)
        loader = data.view_loader(stage, 2, shifted, share)
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        return list(loader)

    alone, two = seen(Share(), 1), [seen(Share(rank, 2), 1) for rank in (0, 1)]
    assert [len(batch["views"]) for batch in alone] == [8, 8, 6]
    for step, batch in enumerate(alone):
        together = torch.stack([part[step]["views"] for part in two], 1).flatten(0, 1)
        assert batch["views"].shape[1:] == (2, 1, 16, 16) and torch.equal(together, batch["views"])
        assert set(batch) == {"views"}
    assert not torch.equal(alone[0]["views"][:, 0], alone[0]["views"][:, 1])
    assert not torch.equal(seen(Share(), 2)[0]["views"], alone[0]["views"])
    (first,), (second,) = seen(Share(), 0, "val"), seen(Share(), 1, "val")
    assert torch.equal(first["views"], second["views"]) and torch.equal(first["input"], pictures(5))


@pytest.mark.parametrize(("processes", "strategy"), [(2, "default"), (1, "default"), (2, "simclr")])
def test_a_loss_within_batches_says_that_it_depends_on_the_processes(
    processes: int, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ImageEmbeddingData.from_tensors(pictures(4), [0, 1, 0, 1])
    model = ImageEmbedder(**SMALL, training_strategy=strategy)
    trainer = Trainer(max_epochs=1, **QUIET)
    monkeypatch.setattr(Trainer, "world_size", processes)
    model.trainer = trainer
    trainer.fit_loop._data_source.instance = data
    trainer.fit_loop.epoch_loop.val_loop._data_source.instance = data
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.procedure.meet(model, data, "fit")
    depends = ["the result depends on the number of processes" in str(one.message) for one in told]
    assert any(depends) == (processes == 2 and strategy == "default")


def test_views_need_a_transform() -> None:
    class Plain(ImageEmbeddingData):
        load = staticmethod(lambda item: item)

    model = ImageEmbedder(**SMALL, training_strategy="simclr")
    with pytest.raises(ConfigError, match="nothing makes them: give the data transform="):
        Trainer(max_epochs=1, **QUIET).fit(model, datamodule=Plain.from_tensors(pictures()))
    with pytest.raises(DataError, match=r"takes batches \{'views': \[B, 2, ...\]\}, as data modules make them"):
        model.procedure.judge(model, pictures(), "train")


def test_few_examples_are_told() -> None:
    model = ImageEmbedder(**SMALL, training_strategy="simclr")
    with pytest.warns(DataWarning, match=r"by default there are 4: give the data hundreds, batch_size=256"):
        model.procedure.check(model, ImageEmbeddingData.from_tensors(pictures(4)))
    with pytest.raises(ConfigError, match="a step has one example, with which there is nothing to compare"):
        Trainer(max_epochs=1, **QUIET).fit(model, datamodule=ImageEmbeddingData.from_tensors(pictures(1), batch_size=8))


class SaveThird(Callback):
    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if trainer.global_step == 3:
            trainer.save_checkpoint(self._path)


@pytest.mark.parametrize("name", ["simclr", "byol"])
def test_an_interrupted_run_ends_as_one_that_was_not(name: str, tmp_path: Path) -> None:
    ends, third = [], tmp_path / "third.ckpt"
    for ckpt_path in (None, str(third)):
        torch.manual_seed(0)
        data = ImageEmbeddingData.from_tensors(pictures(), transform=shifted, batch_size=12)
        model = ImageEmbedder(**SMALL, training_strategy=name)
        callbacks = [] if ckpt_path else [SaveThird(third)]
        Trainer(max_steps=6, callbacks=callbacks, **QUIET).fit(model, datamodule=data, ckpt_path=ckpt_path)
        ends.append(model.state_dict())
    assert [name for name in ends[0] if not torch.equal(ends[0][name], ends[1][name])] == []
    held = torch.load(third, weights_only=True)["state_dict"]
    moved = [key for key in ends[0] if key.startswith("method.") and not torch.equal(held[key], ends[0][key])]
    assert any(key.startswith("method.projector") for key in moved)
    assert name != "byol" or any(key.startswith("method.teacher") for key in moved)
    again = ImageEmbedder.load_from_checkpoint(third)
    assert again.predictor().predict(pictures(3)).shape == (3, 4)
    with pytest.raises(ConfigError, match=f"the checkpoint was trained with training_strategy='{name}', and this mode"):
        ImageEmbedder.load_from_checkpoint(third, training_strategy="default", training_strategy_kwargs=None)
