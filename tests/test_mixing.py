"""MixUp and CutMix by name: held to plain references, judged by whole classes, forgotten by whoever only predicts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy import ConfigError, Task, Trainer
from quickstudy.cli.flags import FlagParser
from quickstudy.cli.runs import add_model
from quickstudy.image import ImageClassificationData, ImageClassifier, mixing
from quickstudy.nets import Encoder

QUIET: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
QUIET |= {"accelerator": "cpu"}
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def pictures(count: int = 22, classes: int = 3, side: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
    return images, torch.arange(count) % classes


def data(**options: Any) -> ImageClassificationData:
    images, labels = pictures()
    test = {"test_data": images.bitwise_not(), "test_targets": labels}
    return ImageClassificationData.from_tensors(images, labels, **test, batch_size=5, **options)


def classifier(**arguments: Any) -> ImageClassifier:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.Tanh())
    return ImageClassifier(**{"backbone": backbone, "learning_rate": 0.01, **arguments})


def met(**arguments: Any) -> ImageClassifier:
    """A model in float64 that normalises uint8."""
    model = classifier(**arguments)
    model.encoder = Encoder(model.encoder.backbone, MEAN, STD)
    model.meet(data(), "fit")
    return model.double()


def by_hand(kind: str, alpha: float, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mix each example with the one before it, as the papers have it."""
    torch.multinomial(torch.ones(1), 1)  # which of one kind
    share = float(torch.distributions.Beta(torch.tensor([alpha]), torch.tensor([alpha])).sample())
    mixed = []
    if kind == "mixup":
        mixed = [share * inputs[i] + (1 - share) * inputs[i - 1] for i in range(len(inputs))]
    else:
        height, width = inputs.shape[-2:]
        x, y = int(torch.randint(width, (1,))), int(torch.randint(height, (1,)))
        half_w, half_h = (int(0.5 * (1 - share) ** 0.5 * side) for side in (width, height))
        inside = torch.zeros(height, width, dtype=torch.bool)
        inside[max(0, y - half_h) : y + half_h, max(0, x - half_w) : x + half_w] = True
        mixed = [torch.where(inside, inputs[i - 1], inputs[i]) for i in range(len(inputs))]
        share = 1 - float(inside.double().mean())
    one_hot = torch.eye(3)[targets]
    return torch.stack(mixed), share * one_hot + (1 - share) * one_hot.roll(1, 0)


@pytest.mark.parametrize("form", ["uint8", "floats"])
@pytest.mark.parametrize(
    ("mix", "alpha"),
    [("mixup", 0.2), ("cutmix", 1.0), (("mixup", {"alpha": 4}), 4.0), (("CutMix", {"alpha": 0.5}), 0.5)],
)
def test_mixing_is_that_of_the_papers(mix: Any, alpha: float, form: str, in_float64: None) -> None:
    images, targets = pictures(9)
    inputs = images.double() / 255
    seen = (
        (inputs - torch.tensor(MEAN).view(-1, 1, 1)) / torch.tensor(STD).view(-1, 1, 1) if form == "uint8" else inputs
    )
    batch = (images if form == "uint8" else inputs, targets)
    kind = (mix if isinstance(mix, str) else mix[0]).lower()
    for seed, options in enumerate(
        ({}, {"class_weights": [1.0, 5.0, 2.0]}, {"loss_fn": nn.CrossEntropyLoss(label_smoothing=0.1)})
    ):
        model = met(mix=mix, **options)
        torch.manual_seed(seed)
        judged = model.procedure.judge(model, batch, "train")
        model._measure(judged, "train")
        loss, units, *_ = judged
        torch.manual_seed(seed)
        mixed, shares = by_hand(kind, alpha, seen, targets)
        logs = model.head(model.encoder.backbone(mixed)).log_softmax(-1)  # type: ignore[misc]
        weights = torch.tensor(options.get("class_weights", [1.0] * 3))
        smoothed = 0.9 * shares + 0.1 / 3 if "loss_fn" in options else shares
        expected = -(weights * smoothed * logs).sum() / (weights * shares).sum()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
        assert float(units) == pytest.approx(float((weights * shares).sum()), rel=1e-12)
        right = logs.argmax(-1) == shares.argmax(-1)
        assert model.train_metrics.collect(judged=False)["accuracy"] == pytest.approx(right.double().mean().item())


def test_either_kind_is_drawn(in_float64: None) -> None:
    mix = mixing.build_mix("mixup_cutmix")
    images, targets = pictures(6)
    whole = 0
    for _ in range(40):
        mixed, shares = mix(images.double(), F.one_hot(targets, 3))
        assert torch.allclose(shares.sum(1), torch.ones(6))
        whole += bool((mixed == mixed.round()).all())
    assert 5 < whole < 35  # of CutMix, each with probability 1/2: beyond these with 1e-6


def test_training_is_judged_by_whole_classes_and_mixed_alone() -> None:
    model = classifier(mix="cutmix", metrics=["F1Score"], head=nn.Linear(8, 3))
    seen: list[Tensor] = []
    model.encoder.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    trainer = Trainer(max_epochs=1, enable_checkpointing=False, **QUIET)  # batches of 5, the last one of 2
    trainer.fit(model, datamodule=data())
    assert 0 <= trainer.callback_metrics["train_F1Score"] <= 1
    assert sum(map(len, seen)) == 22
    seen.clear()
    trainer.test(model, datamodule=data(), verbose=False)
    assert torch.equal(torch.cat(seen), pictures()[0].bitwise_not() / 255)


def test_a_head_for_more_classes_and_a_batch_of_one() -> None:
    model = classifier(mix="mixup", head=nn.Linear(8, 5), num_classes=3)
    model.meet(data(), "fit")
    for count in (1, 4):
        loss, units, *_ = model.procedure.judge(model, pictures(count), "train")
        assert loss.isfinite() and units == count


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mix": "mixpu"}, "unknown mix 'mixpu'; did you mean 'mixup'?"),
        ({"mix": ("mixup", {"alhpa": 1})}, "mix 'mixup' has no option 'alhpa'; did you mean 'alpha'?"),
        ({"mix": ("mixup", {"alpha": 0})}, "alpha=0: it must be an int or a float above 0"),
        ({"mix": ("mixup", {"alpha": 1e-3})}, "alpha=0.001: it must lie between 0.05 and 1000"),
        ({"mix": 0.2}, "mix=0.2 is none of: a name, a (name, {option: value}) pair"),
        ({"mix": "mixup", "multi_label": True}, "multi_label=True gives it several: leave one out"),
        ({"mix": "mixup", "loss_fn": "multi_margin_loss"}, "takes one label per example, and mix shares it"),
        ({"mix": "mixup", "training_strategy": "anil"}, "class_weights and mix belong to training_strategy='default'"),
    ],
)
def test_what_cannot_be_mixed_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        classifier(**options)


def test_a_task_of_something_else_has_nothing_to_mix_by() -> None:
    class Sounds(Task):
        default_backbone = "conv4"

    with pytest.raises(ConfigError, match="Sounds has nothing to mix by: leave mix out"):
        Sounds(mix="mixup")


def test_losses_and_inputs_that_cannot_be_mixed_say_what_to_type() -> None:
    def of_codes(logits: Tensor, targets: Tensor) -> Tensor:
        return F.nll_loss(logits.log_softmax(-1), targets)

    model = classifier(mix="mixup", loss_fn=of_codes)
    model.meet(data(), "fit")
    with pytest.raises(
        ConfigError, match=r"not the shares \[B, C\] of mix \(.*leave loss_fn out, give one that takes both"
    ):
        model.procedure.judge(model, pictures(), "train")
    model.procedure.judge(model, pictures(), "val")

    def broken(logits: Tensor, targets: Tensor) -> Tensor:
        raise ValueError("mine")

    model = classifier(mix="mixup", loss_fn=broken)
    model.meet(data(), "fit")
    with pytest.raises(ValueError, match="mine"):
        model.procedure.judge(model, pictures(), "train")

    model = classifier(mix="mixup", backbone=nn.Linear(4, 4))
    vectors = torch.randn(8, 4), torch.arange(8) % 2
    model.meet(ImageClassificationData.from_tensors(*vectors), "fit")
    with pytest.raises(
        ConfigError, match=r"mix takes pictures .* the batch is float32 of shape \(8, 4\): leave mix out"
    ):
        model.procedure.judge(model, vectors, "train")


def test_a_run_goes_on_mixing_and_predicting_needs_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mix, weights = ("mixup_cutmix", {"alpha": 0.7}), []
    for folder, stops in (("whole", (3,)), ("resumed", (1, 3))):
        for epochs in stops:
            model = classifier(mix=mix)
            torch.manual_seed(epochs)  # the run's own number is that of its beginning
            if folder == "whole":
                torch.manual_seed(1)
            options = {"resume": "auto", "default_root_dir": tmp_path / folder, "num_sanity_val_steps": 0, **QUIET}
            Trainer(max_epochs=epochs, **options).fit(model, datamodule=data())
        weights.append(torch.cat([each.detach().flatten() for each in model.parameters()]))
    assert torch.equal(*weights)

    def absent(*_: Any, **__: Any) -> None:
        raise AssertionError("torchvision was asked for")

    monkeypatch.setattr(mixing, "require", absent)
    backbone = classifier().encoder.backbone
    again = ImageClassifier.load_from_checkpoint(tmp_path / "whole" / "last.ckpt", backbone=backbone)
    assert again.hparams["mix"] == mix
    images, _ = pictures()
    assert torch.equal(again(images), model.eval()(images))
    plain = ImageClassifier.load_from_checkpoint(tmp_path / "whole" / "last.ckpt", backbone=backbone, mix=None)
    assert plain.procedure.judge(plain, pictures(), "train")[0].isfinite()


def test_mixing_by_a_flag() -> None:
    parser = FlagParser.for_command("fit", "")
    add_model(parser, "image_classification")
    assert parser.read(["--model.mix", "mixup"]).model["mix"] == "mixup"
    mix = parser.read(["--model.mix", '["cutmix", {"alpha": 0.5}]']).model["mix"]
    assert tuple(mix) == ("cutmix", {"alpha": 0.5})
    assert ImageClassifier(backbone="conv4", mix=mix).hparams["mix"] == mix
