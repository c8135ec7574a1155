"""The conformance suite of a kind of answer: what must hold of its head, its loss, its score and its forms.

from quickstudy.testing import check_kind
check_kind(Regression(), Encoder(nn.Linear(4, 8)), inputs, numbers)
"""

from __future__ import annotations

import copy
import json
import pickle
import tempfile
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from quickstudy.batches import Batch, each, size, take
from quickstudy.errors import ConfigError, DataError, QuickstudyError, brief
from quickstudy.kinds.base import Judged, Kind, kind_of
from quickstudy.kinds.predictions import plain_answer
from quickstudy.modality import Tensors
from quickstudy.nets import Encoder
from quickstudy.nets.stages import stages_of
from quickstudy.testing.demands import NEAR, check_randomness, demand, demand_close, quiet, quiet_trainer
from quickstudy.torch_internals import tree_leaves
from quickstudy.trained import TrainedModel
from quickstudy.training.finetuning import Strategy
from quickstudy.training.task import Task

_STEPS = 200
_WIDER = 3
_RATE = 1e-3


def check_kind(
    kind: Kind, encoder: Encoder, inputs: Batch, targets: Any, *, steps: int = _STEPS, learning_rate: float = 0.02
) -> None:
    """Check a kind of answer against the contract, in float64; it takes seconds.

    Args:
        kind: with what it must know of the targets.
        encoder: a small one.
        inputs: ``[N, ...]``, eight or more, from which the targets can be learned to some extent.
        targets: as a loader gives them, first axis N. Leaves of a dict are padded with zeros where that is meant.
        steps, learning_rate: by which Adam learns the inputs, where a network needs others.

    Raises:
        NonconformingError: a check failed; the message names it.
        MissingPackageError: peft, which fine-tuning by ``"lora"`` needs, is not installed.
    """
    inputs, targets = (each(_exact, part) for part in (inputs, targets))
    network = _Network(kind, encoder, inputs)
    _is_a_plain_value(kind)
    _has_a_head_of_its_own(network)
    _loses_what_it_says(network, inputs, targets)
    _follows_the_gradient(network, inputs, targets)
    _leaves_no_trace(network, inputs, targets)
    _answers_each_by_itself(network, inputs)
    _answers_in_every_form(network, inputs)
    _is_judged_the_right_way_round(network, inputs, targets, steps, learning_rate)
    inputs, targets = (each(_single, part) for part in (inputs, targets))
    _is_saved_and_read(network, inputs)
    with quiet():
        _is_finetuned(network, inputs, targets)


class _Network:
    """A kind's network, which can be had anew."""

    def __init__(self, kind: Kind, encoder: Encoder, inputs: Batch) -> None:
        self.kind, self._encoder, self._example = kind, encoder, take(inputs, slice(1))

    def __call__(self) -> tuple[Encoder, nn.Module]:
        encoder = copy.deepcopy(self._encoder).double().train()
        torch.manual_seed(0)
        return encoder, self.kind.head(encoder, self._example).double().train()

    def judge(self, made: tuple[Encoder, nn.Module], inputs: Batch, targets: Any) -> Judged:
        if made[0].training:
            torch.manual_seed(0)  # what draws as it trains draws the same each time
        return self.kind.judge(*made, inputs, targets, self.kind.loss(None))

    def score(self, outputs: Any, targets: Any) -> float:
        """Return the score of answers; NaN where it follows from no figures of single ones."""
        measure = self.kind.measure(True, self.kind.choices)
        measure.update(self.kind.figures(outputs, targets))
        found = measure.estimates()
        return found[self.kind.score.name].mean if self.kind.score.name in found else float("nan")


def _is_a_plain_value(kind: Kind) -> None:
    told = "a file holds it, by its registered name and plain options"
    try:
        held = kind_of(json.loads(json.dumps(kind.described())))
    except (TypeError, ValueError, ConfigError) as error:
        held, kept = None, str(error)
    else:
        kept = str(held)
    demand(held == kind, told, f"{kind.described()}: {kept}")
    learned = json.loads(json.dumps(kind.memory()))
    demand(kind.recalled(learned) == kind, "it recalls what it learned", learned)
    demand(pickle.loads(pickle.dumps(kind)) == kind, "it can be sent to other processes", kind)


def _has_a_head_of_its_own(network: _Network) -> None:
    encoder, head = network()
    of_encoder = {id(parameter) for parameter in encoder.parameters()}
    shared = [name for name, parameter in head.named_parameters() if id(parameter) in of_encoder]
    demand(not shared, "the head has its own parameters", f"{shared} are the encoder's")
    again = network()[1].state_dict()
    differing = [name for name, value in head.state_dict().items() if not torch.equal(value, again[name])]
    demand(not differing, "the head follows from torch's seed", differing)


def _loses_what_it_says(network: _Network, inputs: Batch, targets: Any) -> None:
    made, count = network(), size(inputs)
    parameters = [*made[0].parameters(), *made[1].parameters()]
    whole = network.judge(made, inputs, targets)
    demand(whole.loss.ndim == 0 and bool(whole.loss.isfinite()), "the loss is one finite number", whole.loss)
    demand(float(whole.weight) > 0, "what it is the mean over is more than nothing", whole.weight)
    figures = network.kind.figures(whole.outputs, whole.targets)
    same = torch.equal(figures.nan_to_num(), whole.figures.nan_to_num())
    demand(same, "judge gives the figures of its answers", f"{whole.figures}, which are {figures}")
    demand(len(figures) in (0, count), "figures are one of each example", f"{len(figures)} of {count}")
    gradients = torch.autograd.grad(whole.loss, parameters, allow_unused=True)
    for place, gradient in enumerate(gradients):
        found = gradient is not None and bool(gradient.isfinite().all())
        demand(found, "every parameter has a gradient", f"parameter {place} of {len(gradients)} has none")
    if getattr(network.kind, "shares", True):
        parts = [slice(0, count // 3), slice(count // 3, count)]
        judged = [network.judge(made, take(inputs, part), take(targets, part)) for part in parts]
        mean = torch.stack([one.loss * one.weight for one in judged]).sum() / sum(float(one.weight) for one in judged)
        others = torch.autograd.grad(mean, parameters)
        what = "a batch's loss and gradient are the means of its parts', by their weights"
        demand_close(whole.loss.detach(), mean.detach(), what, NEAR)
        demand_close(_flat(gradients), _flat(others), what, NEAR)
    padded = each(_padded, targets) if isinstance(targets, dict) else targets
    wider = network.judge(made, inputs, padded).loss
    demand_close(whole.loss.detach(), wider.detach(), "the targets' padding does not matter", NEAR)


def _follows_the_gradient(network: _Network, inputs: Batch, targets: Any) -> None:
    if not network.kind.whole_gradient:
        return
    made = network()
    parameters = [*made[0].parameters(), *made[1].parameters()]
    gradient = _flat(torch.autograd.grad(network.judge(made, inputs, targets).loss, parameters))
    direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    direction /= direction.norm()
    wanted, least, slopes = float(gradient @ direction), float(gradient.norm()) * 1e-3, []
    for step in (1e-5, 1e-4, 1e-6):  # a long one may cross a kink
        losses = []
        for along in (step, -2 * step):
            _move(parameters, along * direction)
            losses.append(float(network.judge(made, inputs, targets).loss.detach()))
        _move(parameters, step * direction)
        slopes.append((losses[0] - losses[1]) / (2 * step))
        if abs(slopes[-1] - wanted) < 1e-5 * max(abs(wanted), least, 1e-12):
            return
    demand(False, "the gradient is that of the loss", f"{wanted}; finite differences give {slopes}")


def _leaves_no_trace(network: _Network, inputs: Batch, targets: Any) -> None:
    encoder, head = network()
    made = encoder.eval(), head.eval()
    before = copy.deepcopy([*encoder.state_dict().values(), *head.state_dict().values()])

    def judged(_: int) -> Any:
        with torch.no_grad():
            return each(torch.Tensor.clone, network.judge(made, inputs, targets).outputs)

    first, second = judged(0), judged(0)
    after = [*encoder.state_dict().values(), *head.state_dict().values()]
    kept = all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    demand(kept, "an evaluation changes nothing of the network", "its state differs")
    pairs = zip(tree_leaves(first), tree_leaves(second), strict=True)
    demand(all(torch.equal(*pair) for pair in pairs), "the same inputs have the same answers", "the second differ")
    check_randomness(judged, "in evaluation")


def _answers_each_by_itself(network: _Network, inputs: Batch) -> None:
    encoder, head = network()
    with torch.no_grad():
        together = network.kind.outputs(encoder.eval(), head.eval(), inputs)
        some = network.kind.outputs(encoder, head, take(inputs, slice(2, 5)))
    for one, other in zip(tree_leaves(take(together, slice(2, 5))), tree_leaves(some), strict=True):
        demand_close(one.double(), other.double(), "an answer does not depend on the others", NEAR)


def _answers_in_every_form(network: _Network, inputs: Batch) -> None:
    kind, (encoder, head) = network.kind, network()
    with torch.no_grad():
        outputs = kind.outputs(encoder.eval(), head.eval(), inputs)
    one = torch.tensor([1])
    broken = each(lambda leaf: leaf.index_fill(0, one, torch.nan) if leaf.is_floating_point() else leaf, outputs)
    for form in kind.forms:
        answers = kind.answers(outputs, form)
        demand(len(answers) == size(inputs), "there is an answer to each input", f"{len(answers)} as {form}")
        try:
            _in_json(answers)
        except (TypeError, ValueError) as error:
            demand(False, "answers of every form go through JSON", f"{form}: {error}")
        try:
            kind.answers(broken, form)
        except DataError as error:
            demand("input 1 " in f"{error} ", "the message on an answer that is not a number names its input", error)
        else:
            demand(False, "an answer that is not a number is a DataError", form)


def _is_judged_the_right_way_round(
    network: _Network, inputs: Batch, targets: Any, steps: int, learning_rate: float
) -> None:
    made, kind = network(), network.kind
    optimizer = torch.optim.Adam([*made[0].parameters(), *made[1].parameters()], lr=learning_rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = network.judge(made, inputs, targets).loss
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    demand(
        losses[-1] < losses[0], "steps against the gradient lower the loss", f"{losses[0]:.4g}, then {losses[-1]:.4g}"
    )
    with torch.no_grad():
        outputs = kind.outputs(made[0].eval(), made[1].eval(), inputs)
    order = torch.randperm(size(inputs), generator=torch.Generator().manual_seed(0))
    right, wrong = network.score(outputs, targets), network.score(outputs, take(targets, order))
    if right != right:
        return  # of no single answers
    told = f"{kind.score.name}, the {kind.score.best} of which is best, is {right:.4g}, and by others' {wrong:.4g}"
    demand(kind.score.better(right, wrong), "who learned answers better than by the targets of others", told)
    lost = network.score(
        each(lambda leaf: torch.full_like(leaf, torch.nan) if leaf.is_floating_point() else leaf, outputs), targets
    )
    demand(not kind.score.better(lost, right), "answers that are no numbers are not the best", f"{lost:.4g}")


# ---- in use, in float32


def _is_saved_and_read(network: _Network, inputs: Batch) -> None:
    encoder, head = network()
    model = TrainedModel(encoder.float(), head.float(), network.kind, Tensors(), take(inputs, slice(1)))
    with tempfile.TemporaryDirectory() as folder:
        try:
            model.save(folder)
            read = TrainedModel.load(folder, backbone=copy.deepcopy(encoder.backbone))
        except QuickstudyError as error:
            demand(False, "a trained model is saved and read", error)
    for form in network.kind.forms:
        one, other = (_in_json(each.predict(inputs, form)) for each in (model, read))
        told = f"{form}: {brief(one)}, then {brief(other)}"
        demand(one == other, "a trained model that was saved answers the same to the bit", told)


def _is_finetuned(network: _Network, inputs: Batch, targets: Any) -> None:
    """Train by every way of fine-tuning, and see which weights move."""

    def run(strategy: Strategy, epochs: int) -> _Moved:
        model, moved = Task(network.kind, copy.deepcopy(backbone), learning_rate=_RATE), _Moved()
        torch.manual_seed(0)
        trainer = quiet_trainer(max_epochs=epochs, callbacks=[moved], enable_checkpointing=False)
        loader = DataLoader(_Rows(inputs, targets), batch_size=size(inputs))
        trainer.finetune(model, train_dataloaders=loader, strategy=strategy, train_bn=False)
        return moved

    encoder, head = network()
    backbone = encoder.backbone.float()
    movable = run("no_freeze", 1).backbone[0]
    frozen: list[tuple[Strategy, int]] = [
        ("freeze", 1),
        (("freeze_unfreeze", 1), 2),
        (("unfreeze_milestones", ((1, 2), 1)), 3),
        (("gradual", 1), len(stages_of(backbone)) + 1),
    ]
    for strategy, epochs in frozen if list(head.parameters()) else []:  # else nothing would train at first
        moved = run(strategy, epochs)
        demand(not moved.backbone[0], "what is frozen stays as it is", f"by {strategy}: {sorted(moved.backbone[0])}")
        demand(moved.head[0], "the head trains while the backbone is frozen", f"by {strategy} it stays as it is")
        if epochs > 1:
            still = sorted(movable - moved.backbone[-1])
            demand(not still, "what is unfrozen trains", f"by {strategy} these stay: {still}")
    if any(isinstance(layer, nn.Linear | nn.Conv2d) for layer in backbone.children()):
        added = run(("lora", 1), 1).backbone[0]
        demand(bool(added), "low-rank additions to the backbone train", "by ('lora', 1) none moves")


class _Rows(Dataset[Any]):
    def __init__(self, inputs: Batch, targets: Any) -> None:
        self._both = inputs, targets

    def __len__(self) -> int:
        return size(self._both[0])

    def __getitem__(self, row: int) -> Any:
        return tuple(take(part, row) for part in self._both)


class _Moved(Callback):
    """Notes which weights and statistics of the backbone move in each epoch, and whether any of the head does."""

    def __init__(self) -> None:
        self.backbone: list[set[str]] = []
        self.head: list[bool] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Note how the epoch begins."""
        self._before = copy.deepcopy([part.state_dict() for part in (pl_module.encoder.backbone, pl_module.head)])

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Compare its end."""
        after = [part.state_dict() for part in (pl_module.encoder.backbone, pl_module.head)]
        own, of_head = (
            {name for name, value in one.items() if not torch.equal(value, before[name])}
            for before, one in zip(self._before, after, strict=True)
        )
        self.backbone.append(own)
        self.head.append(bool(of_head))


def _in_json(answers: Any) -> str:
    return json.dumps(plain_answer(answers))


def _single(leaf: Tensor) -> Tensor:
    return leaf.float() if leaf.is_floating_point() else leaf


def _exact(leaf: Tensor) -> Tensor:
    return leaf.double() if leaf.is_floating_point() else leaf


def _flat(gradients: Any) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])


def _padded(leaf: Tensor) -> Tensor:
    return F.pad(leaf, (0, _WIDER) * (leaf.ndim - 1)) if leaf.ndim > 1 else leaf


def _move(parameters: list[nn.Parameter], by: Tensor) -> None:
    with torch.no_grad():
        for parameter, part in zip(parameters, torch.split(by, [p.numel() for p in parameters]), strict=True):
            parameter.add_(part.view_as(parameter))
