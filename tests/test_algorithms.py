"""Every registered algorithm against the contract, and through training, checkpoints and use."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy import ConfigError, Trainer
from quickstudy.algorithms import STRATEGIES, EmbeddingAlgorithm, available_strategies
from quickstudy.algorithms.maml import MAML
from quickstudy.algorithms.prototypicalnetworks import PrototypicalNetworks
from quickstudy.algorithms.r2d2 import R2D2
from quickstudy.cli.describing import strategy_flags
from quickstudy.episode import Episode
from quickstudy.errors import DataWarning
from quickstudy.functional.inner_loop import Weights
from quickstudy.functional.svm import svm_dual
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.nets import Encoder, audit, build_encoder
from quickstudy.testing import check_algorithm, small_encoder, small_episodes
from quickstudy.training.procedure import build_procedure as build_strategy

TOGETHER: list[tuple[str, dict[str, Any]]] = [
    ("linear_probe", {}),
    ("linear_probe", {"regularization": 0.01}),
    ("maml", {"head": "shared", "adaptation_steps": 2}),
    ("maml", {"normalization": "transductive", "meta_gradient": "adjoint"}),
    ("maml", {"normalization": "group", "meta_gradient": "unrolled"}),
    ("metasgd", {"adaptation_steps": 3, "meta_gradient": "adjoint"}),
]
RATES = {"anil": 1.0, "boil": 0.5, "finetune": 1.0, "metasgd": 0.1}


def choices(name: str) -> Iterator[dict[str, Any]]:
    """Yield every value of every option of a strategy that is one of a few words, or yes or no, but for defaults."""
    for option, flag in strategy_flags(STRATEGIES[name]).items():
        for kind in get_args(flag.type) if get_origin(flag.type) in (Union, UnionType) else [flag.type]:
            known = (False, True) if kind is bool else get_args(kind) if get_origin(kind) is Literal else ()
            yield from ({option: value} for value in known if value != flag.default)


CHOICES = [(name, options) for name in STRATEGIES.names() for options in choices(name)]
LEARNING: dict[str, dict[str, Any]] = {
    "anil": {"adaptation_lr": 0.4},
    "boil": {"adaptation_lr": 0.4, "adaptation_steps": 2},
    "finetune": {"adaptation_lr": 0.1},
    "maml": {"adaptation_lr": 0.4, "adaptation_steps": 2},
    "metasgd": {"adaptation_lr": 0.4},
    "protomaml": {"adaptation_steps": 2},
    "reptile": {"adaptation_lr": 0.4, "adaptation_steps": 2},
}
"""With what they learn characters; the others as they are, and so conform as they are where they learn."""
CASES = [*((name, {}) for name in LEARNING), *CHOICES, *TOGETHER]


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda value: str(value))
def test_conforms(name: str, options: dict[str, Any]) -> None:
    check_algorithm(name, options)


def test_every_choice_is_among_the_cases() -> None:
    assert {"head": "cosine"} in [options for name, options in CHOICES if name == "finetune"]
    assert {"meta_gradient": "adjoint"} in [options for name, options in CHOICES if name == "metasgd"]  # inherited
    assert len(CHOICES) > 20


def test_a_head_that_stays_is_not_shared() -> None:
    with pytest.raises(
        ConfigError, match=r"head='shared': boil's head does not adapt.*choose training_strategy='proto"
    ):
        STRATEGIES["boil"](head="shared")
    plan = {"ways": 4, "test_ways": 3}
    with pytest.raises(ConfigError, match="make them equal, or choose training_strategy='protomaml', or 'maml' with"):
        build_strategy("boil", plan)
    assert build_strategy("protomaml", plan)
    boil = STRATEGIES["boil"]()
    boil.meet(small_encoder(), (6,), 3)
    with pytest.raises(ConfigError, match=r"made for 3 ways, and these are 4: .* choose training_strategy='protomaml'"):
        boil.adapt(small_encoder(), torch.zeros(4, 1, 8, 8), torch.arange(4), 4)


@pytest.mark.dear(
    "algorithms", "functional", "nets", "data", "training", "kinds", "testing", "batches.py", "episode.py"
)
@pytest.mark.parametrize("name", STRATEGIES.names())
def test_conforms_and_learns_characters(name: str) -> None:
    check_algorithm(name, LEARNING.get(name), learns=True)


def test_all_are_there() -> None:
    of_the_mission = {"maml", "anil", "metaoptnet", "prototypicalnetworks"}
    ladder = {"nearest_neighbour", "nearest_centroid", "linear_probe", "finetune", "protomaml", "meta_baseline"}
    transductive = {"tim", "bdcspn", "laplacianshot"}
    others = {"metasgd", "boil", "reptile", "r2d2", "matchingnetworks", "relationnetworks", "default"}
    assert of_the_mission | ladder | transductive | others <= set(available_strategies())


def test_first_order_maml_says_so() -> None:
    assert not MAML(meta_gradient="first_order").exact_gradient


# ---- through training, checkpoints and use


def patterns(classes: int, each: int, first: int) -> tuple[Tensor, list[str]]:
    """Images uint8 ``[N, 1, 16, 16]``: a pattern per class with noise."""
    generator = torch.Generator().manual_seed(first)
    coarse = torch.rand(classes, 1, 4, 4, generator=generator)
    images = nn.functional.interpolate(coarse, size=16, mode="bilinear").repeat_interleave(each, 0)
    images = images + 0.2 * torch.randn(images.shape, generator=generator)
    return (images.clamp(0, 1) * 255).to(torch.uint8), [
        f"{first + code}" for code in range(classes) for _ in range(each)
    ]


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 32))


@pytest.mark.parametrize("name", STRATEGIES.names())
def test_fit_test_save_adapt_and_predict(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    least = 0.15 if name == "relationnetworks" else 0.35
    plan: dict[str, Any] = {"ways": 4, "shots": 2, "queries": 5, "meta_batch_size": 2, "epoch_length": 8}
    plan |= {"adaptation_lr": RATES[name]} if name in RATES else {}
    plan |= {"adaptation_steps": 10} if name == "metasgd" else {}
    model = ImageClassifier(
        backbone=linear(),
        learning_rate=1e-3,
        training_strategy=name,
        training_strategy_kwargs={**plan, "test_epoch_length": 20},
    )
    data = ImageClassificationData.from_tensors(*patterns(12, 8, 0), *patterns(5, 8, 100), *patterns(8, 8, 200))
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    before = [parameter.detach().clone() for parameter in model.encoder.parameters()]
    trainer = Trainer(accelerator="cpu", max_epochs=1, num_sanity_val_steps=0, **quiet)
    trainer.fit(model, datamodule=data)
    assert all(not torch.equal(*pair) for pair in zip(before, model.encoder.parameters(), strict=True))
    (measured,) = trainer.test(model, datamodule=data, verbose=False)
    assert measured["test_accuracy"] > least
    assert measured["test_transductive"] == float(name in {"bdcspn", "laplacianshot", "tim"})
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    restored = ImageClassifier.load_from_checkpoint(tmp_path / "model.ckpt", backbone=linear())
    (again,) = Trainer(accelerator="cpu", **quiet).test(restored, datamodule=data, verbose=False)
    assert again == measured
    images, labels = patterns(4, 8, 200)
    shown = [0, 8, 9, 16, 24, 25, 26]  # classes have 1, 2, 1 and 3 examples
    predictor = restored.adapt(images[shown], [labels[row] for row in shown])
    trained = model.adapt(images[shown], [labels[row] for row in shown])
    assert (predictor.predict_proba(images) == trained.predict_proba(images)).all()
    assert len(set(predictor.predict(images))) > 1
    asked = [row for row in range(len(labels)) if row not in shown]
    assert predictor.score(images[asked], [labels[row] for row in asked]) > least - 0.15  # few queries
    assert predictor.predict_proba(images[:3]).shape == (3, 4)


def test_ways_may_differ_with_a_shared_head_only() -> None:
    plan = {"ways": 4, "test_ways": 3}
    for name in ("maml", "anil"):
        with pytest.raises(ConfigError, match="test_ways=3 after ways=4: make them equal, or add 'head': 'shared'"):
            ImageClassifier(backbone="conv4", training_strategy=name, training_strategy_kwargs=plan)
        shared = {**plan, "head": "shared"}
        assert ImageClassifier(backbone="conv4", training_strategy=name, training_strategy_kwargs=shared).plan


def test_layers_that_cannot_be_adapted_are_named() -> None:
    audit(build_encoder("vit_tiny_patch16_224", {"img_size": 32, "depth": 1}, pretrained=False).backbone)
    with pytest.raises(
        ConfigError, match=r"the layer '1' \(LSTM\) cannot be adapted by gradient steps: .*use attention"
    ):
        audit(nn.Sequential(nn.Flatten(), nn.LSTM(4, 4)))
    spectral = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))
    with pytest.raises(ConfigError, match="weight_norm"):
        audit(spectral)


@pytest.mark.parametrize("method", ["adjoint", "unrolled"])
def test_second_derivatives_through_attention(method: str) -> None:
    torch.manual_seed(0)
    options = {"img_size": 8, "patch_size": 4, "depth": 1, "embed_dim": 12, "num_heads": 2, "in_chans": 1}
    encoder = build_encoder("vit_tiny_patch16_224", options, pretrained=False).double()
    algorithm = MAML(adaptation_steps=2, meta_gradient=method)  # type: ignore[arg-type]
    algorithm.meet(encoder, (12,), 3)
    algorithm.double()
    episodes, parameters = small_episodes(2), [*encoder.parameters(), *algorithm.parameters()]

    def loss() -> Tensor:
        return algorithm.judge(encoder, episodes, 3, algorithm.loss)[0]

    loss().backward()
    direction = [torch.randn_like(parameter) for parameter in parameters]
    slope = sum(float((parameter.grad * part).sum()) for parameter, part in zip(parameters, direction, strict=True))
    ends = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            for parameter, part in zip(parameters, direction, strict=True):
                parameter += step * part
        ends.append(float(loss().detach()))
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)


def test_the_svm_is_at_its_optimum() -> None:
    # Some have far fewer features than examples; in the last, features differ in size by a million.
    for ways, shots, features, fall in ((2, 1, 4, 0), (5, 5, 64, 0), (5, 15, 64, 0), (20, 5, 16, 0), (20, 15, 8, -6)):
        generator = torch.Generator().manual_seed(ways)
        support = torch.rand(ways * shots, features, generator=generator, dtype=torch.float64)
        support = support * 10 * torch.logspace(0, fall, features, dtype=torch.float64)
        kernel = support @ support.mT
        wanted = torch.eye(ways, dtype=torch.float64).repeat_interleave(shots, 0)
        dual = svm_dual(kernel, wanted, bound=0.1)
        assert dual.sum(1).abs().max() < 1e-12
        assert (dual <= 0.1 * wanted + 1e-12).all()
        # Crammer and Singer's primal: at the optimum it equals the dual.
        values = kernel @ dual
        slacks = (values - wanted - (values * wanted).sum(1, keepdim=True)).max(1).values + 1
        primal = 0.5 * (dual * values).sum() + 0.1 * slacks.sum()
        dual_value = (dual * wanted).sum() - 0.5 * (dual * values).sum()
        assert abs(float((primal - dual_value) / primal)) < 1e-8


@pytest.mark.parametrize(
    ("name", "options"),
    [("r2d2", {}), ("linear_probe", {}), ("metaoptnet", {"head": "ridge"}), ("metaoptnet", {"head": "svm"})],
    ids=str,
)
@pytest.mark.parametrize("regularization", [1e-12, 1e-3, 1e6])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_solvers_answer_to_dependent_examples(
    name: str, options: dict[str, Any], regularization: float, size: float
) -> None:
    torch.manual_seed(0)
    different = size * torch.rand(30, 8)
    support = torch.cat([different, different, different]).requires_grad_()
    algorithm = STRATEGIES[name](**options, regularization=regularization)
    assert isinstance(algorithm, EmbeddingAlgorithm)
    targets = torch.arange(5).repeat(18)  # the same example is of different classes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the machine says where it gave up
        logits = algorithm.classify(support[None], targets[None], size * torch.rand(1, 20, 8), 5)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert support.grad is not None and support.grad.isfinite().all()


@pytest.mark.parametrize("name", STRATEGIES.names())
def test_every_option_is_checked(name: str) -> None:
    check_options(name)


def check_options(name: str) -> None:
    for option, flag in strategy_flags(STRATEGIES[name]).items():
        for wrong in (-1, 0, float("inf"), float("nan"), "nonsense", True, None):
            if (wrong is None and flag.default is None) or (option == "adaptation_layers" and wrong == 0):
                continue  # which is the head alone
            with pytest.raises(ConfigError, match=f"{option}={wrong!r}"):
                STRATEGIES[name](**{option: wrong})


@pytest.mark.parametrize("name", ["maml", "anil"])
def test_options_out_of_range(name: str) -> None:
    for options in ({"adaptation_steps": 0}, {"adaptation_lr": 0.0}, {"test_adaptation_steps": -1}, {"head": "conv"}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            STRATEGIES[name](**options)


@pytest.fixture
def from_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what registers an algorithm that the guide shows, for the time of a test."""
    monkeypatch.setattr(STRATEGIES, "_entries", dict(STRATEGIES._entries))
    root = Path(__file__).parents[1]
    guide = (root / "docs" / "add-an-algorithm.md").read_text(encoding="utf-8")

    def register(name: str) -> None:
        (code,) = (
            part for part in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if f'register("{name}")' in part
        )
        assert code.count("\n") < 80
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
        beside_the_others = root / "src" / "quickstudy" / "algorithms" / f"{name}.py"
        ruff = [sys.executable, "-m", "ruff", "check", "--stdin-filename", str(beside_the_others), "-"]
        subprocess.run(ruff, input=code, text=True, check=True, cwd=root)
        runpy.run_path(str(tmp_path / f"{name}.py"))
        assert name in available_strategies()

    return register


def test_the_guide_adds_an_algorithm(from_the_guide: Callable[[str], None]) -> None:
    from_the_guide("feat")
    check_algorithm("feat")
    check_options("feat")
    plan = {"ways": 5, "temperature": 32.0}
    assert ImageClassifier(backbone="conv4", training_strategy="feat", training_strategy_kwargs=plan).plan


def test_the_guide_adapts_a_context(from_the_guide: Callable[[str], None]) -> None:
    from_the_guide("cavia")
    for method in ("adjoint", "unrolled"):
        check_algorithm("cavia", {"context_size": 5, "meta_gradient": method})
    check_options("cavia")
    episodes, gradients = small_episodes(), []
    for method, chunk in (("adjoint", 1), ("adjoint", 3), ("unrolled", 1), ("unrolled", 3)):
        encoder = small_encoder(norm=True)
        algorithm = STRATEGIES["cavia"](5, 3, meta_gradient=method, task_chunk=chunk)
        algorithm.meet(encoder, (6,), 3)
        algorithm.double().judge(encoder, episodes, 3, algorithm.loss)[0].backward()
        parameters = [*encoder.parameters(), *algorithm.parameters()]
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))
    for found in gradients[1:]:
        torch.testing.assert_close(found, gradients[0], rtol=1e-9, atol=1e-12)


def test_weights_that_stay_cost_no_way_back_through_earlier_steps() -> None:
    kept = []
    for name in ("maml", "boil"):  # all of whose weights move, and all but the head's
        numbers: list[int] = []
        encoder, algorithm = small_encoder(norm=True), STRATEGIES[name](6, meta_gradient="unrolled", task_chunk=1)
        algorithm.meet(encoder, (6,), 3)

        def count(tensor: Tensor, numbers: list[int] = numbers) -> Tensor:
            numbers.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            algorithm.double().judge(encoder, small_episodes(), 3, algorithm.loss)
        kept.append(sum(numbers))
    assert kept[1] <= kept[0]


# ---- what an author may get wrong


def prototypes_by(select: Callable[[Tensor, Tensor, int], Tensor]) -> type[PrototypicalNetworks]:
    class Mine(PrototypicalNetworks):
        def fit(self, support_SD: Tensor, targets_S: Tensor, ways: int) -> Tensor:
            return torch.stack([select(support_SD, targets_S, code).mean(0) for code in range(ways)])

    return Mine


def by_mask(support_SD: Tensor, targets_S: Tensor, code: int) -> Tensor:
    return support_SD[targets_S == code]


def by_item(support_SD: Tensor, targets_S: Tensor, code: int) -> Tensor:
    return support_SD[[row for row, target in enumerate(targets_S) if target.item() == code]]


def by_if(support_SD: Tensor, targets_S: Tensor, code: int) -> Tensor:
    return torch.stack([row for row, target in zip(support_SD, targets_S, strict=True) if target == code])


def by_unique(support_SD: Tensor, targets_S: Tensor, code: int) -> Tensor:
    return support_SD[(targets_S == targets_S.unique()[code]).nonzero().flatten()]


@pytest.mark.parametrize("select", [by_mask, by_item, by_if, by_unique])
def test_what_vmap_refuses_is_named_and_may_be_a_loop(select: Any) -> None:
    Mine = prototypes_by(select)
    with pytest.raises(
        ConfigError, match=r"^Mine\.fit cannot run on several tasks at once, in line \d+ of test_algo"
    ) as told:
        check_algorithm(Mine)
    assert "'return torch.stack([select(" in str(told.value)
    assert "vmap = False in Mine" in str(told.value)
    Mine.vmap = False
    check_algorithm(Mine)


def test_what_fails_alone_too_says_so_itself() -> None:
    def wrong(support_SD: Tensor, targets_S: Tensor, code: int) -> Tensor:
        return support_SD @ support_SD[:2]

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        check_algorithm(prototypes_by(wrong))


def test_what_vmap_refuses_in_an_inner_loop_is_named_and_may_be_a_loop() -> None:
    class Mine(MAML):
        def inner_loss(self, logits_SW: Tensor, targets_S: Tensor, weights: Weights) -> Tensor:
            wrong = logits_SW.argmax(1) != targets_S
            return nn.functional.cross_entropy(logits_SW[wrong], targets_S[wrong]) if wrong.any() else logits_SW.sum()

    encoder, episodes = small_encoder(), small_episodes(2)
    algorithm = Mine(task_chunk=2)
    algorithm.meet(encoder, (6,), 3)
    algorithm.double()
    with pytest.raises(ConfigError, match=r"^Mine\.inner_loss cannot run on several tasks at once, in line \d+"):
        algorithm.judge(encoder, episodes, 3, algorithm.loss)
    Mine.vmap = False
    assert algorithm.judge(encoder, episodes, 3, algorithm.loss)[0].isfinite()


@pytest.mark.parametrize(
    ("start", "rates", "message"),
    [
        ({"context": 0.5}, {}, r"Mine\.start returns 'context' = 0\.5: each weight must be a tensor of floating-point"),
        ({"context": torch.zeros(2, dtype=torch.long)}, {}, "a constant may be weights\\[.head.weight.\\].new_zeros"),
        (
            {"context": torch.zeros(2)},
            {"contxt": 1.0},
            "rate for 'contxt', .* returns no such weight; did you mean 'cont",
        ),
    ],
)
def test_weights_that_cannot_be_are_named(start: dict[str, Any], rates: dict[str, Any], message: str) -> None:
    class Mine(MAML):
        def start(self, *arguments: Any) -> Weights:
            return {**super().start(*arguments), **start}

        def rates(self, weights: Weights) -> Any:
            return {**super().rates(weights), **rates}

    with pytest.raises(ConfigError, match=message):
        check_algorithm(Mine)


def test_the_inner_loss_is_the_algorithms_own() -> None:
    class Twice(MAML):
        def inner_loss(self, logits_SW: Tensor, targets_S: Tensor, weights: Weights) -> Tensor:
            return 2 * super().inner_loss(logits_SW, targets_S, weights)

    def smoothed(logits_NW: Tensor, targets_N: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits_NW, targets_N, label_smoothing=0.3)

    answers = []
    for algorithm, loss in ((Twice(3), smoothed), (MAML(3, adaptation_lr=0.2), smoothed), (Twice(3), Twice.loss)):
        encoder = small_encoder()
        algorithm.meet(encoder, (6,), 3)
        torch.nn.init.ones_(algorithm.head.weight)
        logits = algorithm.double().judge(encoder, small_episodes(), 3, loss if loss is smoothed else algorithm.loss)[1]
        answers.append(logits.detach())
    torch.testing.assert_close(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])  # whatever judges the queries


def test_the_inner_loop_may_be_watched() -> None:
    encoder, episodes = small_encoder().eval(), small_episodes()
    algorithm = MAML(test_adaptation_steps=8, head="shared").eval()
    algorithm.meet(encoder, (6,), 3)
    curve = algorithm.double().inner_curve(encoder, episodes, 3)
    assert curve.support_loss.shape == curve.query_accuracy.shape == (3, 9)
    torch.testing.assert_close(curve.support_loss[:, 0], torch.full((3,), 3.0, dtype=torch.float64).log())
    assert (curve.support_loss.diff(dim=1) < 0).all()
    with torch.no_grad():
        logits = algorithm.judge(encoder, episodes, 3, algorithm.loss)[1]
    right = (logits.argmax(-1) == episodes.query_targets).float().mean(1)
    torch.testing.assert_close(curve.query_accuracy[:, -1], right)
    algorithm.task_chunk = 3
    torch.testing.assert_close(algorithm.inner_curve(encoder, episodes, 3), curve)
    assert algorithm.inner_curve(encoder, episodes, 3, steps=2).support_loss.shape == (3, 3)


@pytest.mark.parametrize("normalization", ["support", "transductive", "group"])
@pytest.mark.parametrize("method", ["adjoint", "unrolled"])
def test_bfloat16_has_the_gradient_of_float32(method: str, normalization: str) -> None:
    episodes = Episode(*(part.float() if part.is_floating_point() else part for part in small_episodes(2)))
    gradients = []
    for enabled, chunk in ((False, 1), (True, 1), (True, 2)):
        encoder = small_encoder(norm=True).float().train()
        torch.manual_seed(0)
        algorithm = MAML(2, meta_gradient=method, normalization=normalization, task_chunk=chunk)  # type: ignore[arg-type]
        algorithm.meet(encoder, (6,), 3)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss, _ = algorithm.judge(encoder, episodes, 3, algorithm.loss)
        loss.backward()
        parameters = [*encoder.parameters(), *algorithm.parameters()]
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))
    for found in gradients[1:]:
        assert torch.nn.functional.cosine_similarity(found, gradients[0], dim=0) > 0.99


@pytest.mark.parametrize("normalization", ["support", "transductive", "group"])
def test_conv4_in_chunks_has_the_gradient_of_one_by_one(normalization: str) -> None:
    found = []
    small = small_episodes(tasks=3)
    support, query = (part.repeat_interleave(2, -1).repeat_interleave(2, -2) for part in (small.support, small.query))
    episodes = Episode(support, small.support_targets, query, small.query_targets)
    for chunk in (1, 2):
        torch.manual_seed(0)
        encoder = build_encoder("conv4", {"in_channels": 1, "hidden": 12}).double()
        algorithm = MAML(meta_gradient="adjoint", normalization=normalization, task_chunk=chunk)  # type: ignore[arg-type]
        algorithm.meet(encoder, encoder.feature_shape(episodes.support[0, :1]), 3)
        algorithm.double()
        algorithm.judge(encoder, episodes, 3, algorithm.loss)[0].backward()
        found.append(torch.cat([parameter.grad.flatten() for parameter in encoder.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)


def test_running_out_of_memory_takes_fewer_tasks_at_once_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    vmap = torch.func.vmap

    def fits_two(function: Any) -> Any:
        def mapped(*tensors: Tensor) -> Any:
            sizes.append(len(tensors[0]))
            if len(tensors[0]) > 2:
                raise torch.cuda.OutOfMemoryError("out of memory")
            return vmap(function)(*tensors)

        return mapped

    algorithm = MAML(adaptation_steps=1)
    encoder = small_encoder()
    algorithm.meet(encoder, encoder.feature_shape(small_episodes().support[0, :1]), 3)
    algorithm.double()
    monkeypatch.setattr(MAML, "_one_by_one", lambda self, encoder, device: False)
    episodes = small_episodes(6)
    expected = algorithm.judge(encoder.train(), episodes, 3, algorithm.loss)[1]
    monkeypatch.setattr(torch.func, "vmap", fits_two)
    with pytest.warns(DataWarning, match="out of memory; going on with task_chunk=[32]"):
        found = algorithm.judge(encoder, episodes, 3, algorithm.loss)[1]
    assert sizes == [6, 3, 2, 2, 2]
    torch.testing.assert_close(found, expected)
    sizes.clear()
    algorithm.judge(encoder, episodes, 3, algorithm.loss)
    assert sizes == [2, 2, 2]


# ---- tasks one after another


def judged(algorithm: EmbeddingAlgorithm, encoder: Encoder, chunk: int | None, loss: Any = F.cross_entropy) -> Tensor:
    algorithm.task_chunk = chunk
    encoder.zero_grad()
    total, logits = algorithm.judge(encoder, small_episodes(5), 3, loss)
    total.backward()
    gradients = [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]
    return torch.cat([value.detach().flatten() for value in (total, logits, *gradients)])


def test_graphs_of_several_tasks_do_not_coexist_on_a_cpu() -> None:
    class Kept:
        def __init__(self, value: Tensor) -> None:
            self.value = value

    most: dict[int | None, int] = {}
    for chunk in (1, None, 2, 5):
        kept: weakref.WeakSet[Kept] = weakref.WeakSet()
        counts = []

        def keep(value: Tensor, kept: Any = kept, counts: list[int] = counts) -> Kept:
            held = Kept(value)
            kept.add(held)
            counts.append(sum(one.value.numel() for one in kept if one.value.shape[-1:] == (8,)))
            return held

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda held: held.value):
            judged(PrototypicalNetworks(), small_encoder(norm=True).train(), chunk)
        most[chunk] = max(counts)
    assert most[None] == most[1]
    assert most[2] == 2 * most[1]
    assert most[5] == 5 * most[1]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics_move_once_whatever_passes_together(momentum: float | None) -> None:
    found = []
    for chunk in (5, 1, 2):
        encoder = small_encoder(norm=True).train()
        norm = next(module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d))
        norm.momentum = momentum
        judged(PrototypicalNetworks(), encoder, chunk)
        assert int(norm.num_batches_tracked) == 1
        found.append(torch.cat([norm.running_mean, norm.running_var]))  # type: ignore[list-item]
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, rtol=1e-12, atol=1e-12)


def test_a_loss_may_learn_and_need_be_no_mean() -> None:
    class Learned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

        def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
            return F.cross_entropy(self.scale * logits, targets, reduction="sum")

    found = []
    for chunk in (5, 1):
        loss = Learned()
        values = judged(PrototypicalNetworks(), small_encoder(), chunk, loss)
        assert loss.scale.grad is not None
        found.append(torch.cat([values, loss.scale.grad[None]]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", [MAML, PrototypicalNetworks])
def test_a_loss_that_is_no_mean_is_judged_as_it_was_trained(kind: type[MAML | PrototypicalNetworks]) -> None:
    """The mean over the episodes, in evaluation too."""

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, reduction="sum")

    encoder, episodes = small_encoder().eval(), small_episodes(4)
    algorithm = kind().eval()
    algorithm.meet(encoder, encoder.feature_shape(episodes.support[0]), 3)
    algorithm.double()
    one_by_one = [
        algorithm.judge(encoder, Episode(*(part[task : task + 1] for part in episodes)), 3, loss)[0]
        for task in range(4)
    ]
    together = algorithm.judge(encoder, episodes, 3, loss)[0]
    torch.testing.assert_close(together, torch.stack(one_by_one).mean(), rtol=1e-10, atol=0)


def test_what_inputs_come_of_has_its_gradient_too() -> None:
    found = []
    for chunk in (5, 1):
        episodes, shift = small_episodes(5), torch.zeros((), dtype=torch.float64, requires_grad=True)
        algorithm = PrototypicalNetworks()
        algorithm.task_chunk = chunk
        shifted = episodes._replace(support=episodes.support + shift)
        algorithm.judge(small_encoder(), shifted, 3, F.cross_entropy)[0].backward()
        found.append(shift.grad)
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=0)
    assert found[0]


def test_frozen_weights_have_no_gradient_and_others_have_theirs() -> None:
    encoder = small_encoder().requires_grad_(False)
    algorithm = PrototypicalNetworks("cosine").double()
    judged(algorithm, encoder, 1)
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert algorithm.scale is not None and algorithm.scale.grad


def test_under_autocast_a_classifier_goes_backwards_in_full_precision() -> None:
    """The logits' gradient passes products of matrices, which autocast would round to bfloat16."""
    found = []
    for chunk in (5, 1):
        algorithm = R2D2()
        algorithm.task_chunk = chunk
        features = nn.Parameter(torch.eye(64)[:, :8] / 8)

        class Fixed(nn.Module):
            def forward(self, inputs: Tensor, features: Tensor = features) -> Tensor:
                with torch.autocast("cpu", enabled=False):
                    return inputs.flatten(1) @ features

        episodes = Episode(*(part.float() if part.is_floating_point() else part for part in small_episodes(5)))
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = algorithm.judge(Encoder(Fixed()), episodes, 3, F.cross_entropy)
        loss.backward()
        assert features.grad is not None
        found.append(features.grad)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


FAMILY = [name for name in STRATEGIES.names() if issubclass(STRATEGIES[name], MAML)]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in FAMILY),
        *(("maml", {"meta_gradient": method}) for method in ("adjoint", "unrolled", "first_order")),
        *(("maml", {"task_chunk": chunk}) for chunk in (2, 3)),
        ("maml", {"normalization": "group"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("momentum", [0.25, None])
def test_running_statistics_move_to_the_mean_of_the_supports(
    name: str, options: dict[str, Any], momentum: float | None
) -> None:
    encoder, episodes = small_encoder(norm=True), small_episodes()
    algorithm = STRATEGIES[name](**options)
    algorithm.meet(encoder, (6,), 3)
    algorithm.double()
    convolution, norm = encoder.backbone[0], encoder.backbone[1]
    norm.momentum = momentum
    mean, variance = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    for step in range(1, 3):
        seen = [convolution(support).transpose(0, 1).flatten(1) for support in episodes.support]  # [channels, values]
        share = 1 / step if momentum is None else momentum
        mean = (1 - share) * mean + share * torch.stack([values.mean(1) for values in seen]).mean(0)
        variance = (1 - share) * variance + share * torch.stack([values.var(1) for values in seen]).mean(0)
        loss, _ = algorithm.judge(encoder, episodes, 3, nn.functional.cross_entropy)
        loss.backward()
        assert torch.allclose(norm.running_mean, mean, rtol=0, atol=1e-12)
        assert torch.allclose(norm.running_var, variance, rtol=0, atol=1e-12)
        assert norm.num_batches_tracked == step
        assert norm.training
    for rests in (norm, algorithm):  # one that is frozen; a test
        rests.eval()
        algorithm.judge(encoder, episodes, 3, nn.functional.cross_entropy)
        assert torch.allclose(norm.running_mean, mean, rtol=0, atol=1e-12)
        norm.train()


@pytest.mark.parametrize("name", ["prototypicalnetworks", "nearest_neighbour", "tim"])
def test_episodes_of_rows_are_answered_as_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quickstudy.algorithms.base._OF_CPU", 3 * 15 * 8 * 8)  # bytes of three episodes
    values = torch.randn(60, 8, dtype=torch.float64)
    rows = torch.stack([torch.randperm(20)[:5] + 20 * torch.arange(3)[:, None] for _ in range(7)])
    algorithm: Any = STRATEGIES[name]().eval()
    found = algorithm.answers(values, rows, 2)
    targets = torch.arange(3).repeat_interleave(2)[None]
    for episode, answers in zip(rows, found, strict=True):
        support, query = (values[part.flatten()][None] for part in (episode[:, :2], episode[:, 2:]))
        assert algorithm.classify(support, targets, query, 3)[0].argmax(1).equal(answers)
