"""Fine-tuning: which layers train in which epoch, with whatever strategy, and after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from quickstudy import ConfigError, Trainer
from quickstudy.image import ImageClassificationData, ImageClassifier
from quickstudy.nets import build_encoder
from quickstudy.nets.stages import stages_of
from quickstudy.training.finetuning import build_finetuning

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
PLAN = {"ways": 3, "queries": 2, "meta_batch_size": 2, "epoch_length": 4, "adaptation_lr": 0.1}


def backbone() -> nn.Module:
    """Layers 0 and 3 are convolutions, 1 and 4 BatchNorm, 7 linear."""
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh()),
        *(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh()),
        nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Dropout(0.5), nn.Flatten()),
        nn.Linear(16, 8),
    )


def data() -> ImageClassificationData:
    images = torch.randint(0, 256, (24, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageClassificationData.from_tensors(
        images, [f"{code}" for code in range(4) for _ in range(6)], batch_size=8
    )


def model(strategy: str = "default", **options: Any) -> ImageClassifier:
    torch.manual_seed(0)
    plan = {"training_strategy": strategy, "training_strategy_kwargs": PLAN} if strategy != "default" else {}
    return ImageClassifier(backbone=backbone(), learning_rate=0.1, **{"optimizer": "SGD", **plan, **options})


class Watch(Callback):
    """Notes the layers of the backbone whose weights, or running statistics, moved in each epoch."""

    def __init__(self) -> None:
        self.moved: list[str] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._before = {name: value.clone() for name, value in pl_module.encoder.backbone.state_dict().items()}

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        after = pl_module.encoder.backbone.state_dict()
        self.moved.append(
            "".join(sorted({n[0] for n, value in self._before.items() if not torch.equal(value, after[n])}))
        )


def moved(finetuning: Any, epochs: int, train_bn: bool = False, strategy: str = "default", **options: Any) -> list[str]:
    watch = Watch()
    trainer = Trainer(max_epochs=epochs, callbacks=[watch], **QUIET)
    trainer.finetune(model(strategy, **options), data(), strategy=finetuning, train_bn=train_bn)
    return watch.moved


@pytest.mark.parametrize("strategy", ["default", "anil"])
@pytest.mark.parametrize(
    ("finetuning", "expected"),
    [
        ("no_freeze", ["01347", "01347"]),
        ("freeze", ["", ""]),
        (("freeze_unfreeze", 1), ["", "01347"]),
        (("unfreeze_milestones", ((0, 2), 2)), ["47", "47", "01347"]),
        (("unfreeze_milestones", ((1, 3), 1)), ["", "7", "7", "01347"]),
        (["unfreeze_milestones", [[1, 2], 1]], ["", "7", "01347"]),  # as YAML has it
        (("unfreeze_last", 2), ["47", "47"]),
        (("gradual", 1), ["", "7", "47", "347", "1347", "01347"]),
    ],
    ids=str,
)
def test_layers_train_from_their_epoch(finetuning: Any, expected: list[str], strategy: str) -> None:
    assert moved(finetuning, len(expected), strategy=strategy) == expected


def test_batch_norm_may_train_all_along() -> None:
    assert moved(("unfreeze_milestones", ((1, 2), 1)), 3, train_bn=True) == ["14", "147", "01347"]


@pytest.mark.parametrize("strategy", ["maml", "prototypicalnetworks", "metaoptnet", "relationnetworks"])
def test_episodes_train_what_is_not_frozen(strategy: str) -> None:
    plan = {name: value for name, value in PLAN.items() if name != "adaptation_lr"}
    first, second = moved(("unfreeze_milestones", ((0, 1), 1)), 2, strategy=strategy, training_strategy_kwargs=plan)
    assert first == "7"
    assert second == "01347"


def test_maml_with_a_frozen_backbone_trains_its_head() -> None:
    heads: list[Tensor] = []

    class Head(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            heads.append(pl_module.algorithm.head.weight.detach().clone())

    Trainer(max_epochs=1, callbacks=[Head()], **QUIET).finetune(
        model("maml"), data(), strategy="freeze", train_bn=False
    )
    assert not torch.equal(heads[0], heads[1])


def test_dropout_rests_with_the_layers_around_it() -> None:
    masks: list[bool] = []

    class Modes(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            masks.append(pl_module.encoder.backbone[6][1].training)

    Trainer(max_epochs=2, limit_train_batches=1, callbacks=[Modes()], **QUIET).finetune(
        model(), data(), strategy=("freeze_unfreeze", 1)
    )
    assert masks == [False, True]


@pytest.mark.parametrize("strategy", ["freeze_unfreeze", "gradual"])
def test_what_would_train_nothing_says_so(strategy: str) -> None:
    trainer = Trainer(max_epochs=1, **QUIET)
    with pytest.raises(ConfigError, match="nothing would train before epoch 2"):
        plan = {"ways": 3, "queries": 2}
        proto = model("prototypicalnetworks", training_strategy_kwargs=plan)
        trainer.finetune(proto, data(), strategy=(strategy, 2), train_bn=False)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("freez", "did you mean 'freeze'"),
        (("unfreeze_milestone", ((1, 2), 1)), "did you mean 'unfreeze_milestones'"),
        ("gradual", r"is not \('gradual', epochs per stage\)"),
        (("gradual", 0), "whole numbers"),
        (("freeze_unfreeze", 1.5), "whole numbers"),
        (("freeze_unfreeze", True), "whole numbers"),
        (("unfreeze_milestones", ((3, 1), 1)), "begin in epoch 3, after the rest in 1"),
        (("unfreeze_milestones", (1, 2, 3)), "is not"),
        (("lora", -1), "whole numbers"),
        ((), "Known"),
    ],
    ids=str,
)
def test_wrong_strategies_say_what_is_right(wrong: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_finetuning(wrong, True)


def test_more_layers_than_there_are() -> None:
    with pytest.raises(ConfigError, match="the last 9 layers of a backbone that has 5"):
        moved(("unfreeze_milestones", ((0, 1), 9)), 1)
    with pytest.raises(ConfigError, match="the last 6 stages of a backbone that has 5"):
        moved(("unfreeze_last", 6), 1)


def test_stages_are_those_of_the_network_within_a_wrapper() -> None:
    assert len(stages_of(backbone())) == 5
    assert len(stages_of(nn.Sequential(backbone()))) == 5
    assert len(stages_of(build_encoder("conv4", {"in_channels": 1}, False).backbone)) == 4


@pytest.mark.parametrize("backbone_lr", [None, 1e-9])
def test_the_backbone_may_have_its_own_learning_rate(backbone_lr: float | None) -> None:
    trained = model(backbone_lr=backbone_lr)
    before = trained.encoder.backbone[7].weight.detach().clone()
    trainer = Trainer(max_epochs=1, **QUIET)
    trainer.fit(trained, datamodule=data())
    change = float((trained.encoder.backbone[7].weight.detach() - before).abs().max())
    assert (change < 1e-7) == (backbone_lr is not None)
    assert len(trainer.optimizers[0].param_groups) == (1 if backbone_lr is None else 2)
    with pytest.raises(ConfigError, match=r"backbone_lr=-1"):
        model(backbone_lr=-1)


# ---- low-rank additions


def test_lora_trains_additions_alone_and_leaves_a_plain_network(tmp_path: Path) -> None:
    trained = model(optimizer="Adam")
    before = {name: value.clone() for name, value in trained.encoder.backbone.state_dict().items()}
    names: list[str] = []

    class Names(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            names[:] = [n for n, p in pl_module.encoder.named_parameters() if p.requires_grad and p.grad is not None]

    trainer = Trainer(max_epochs=2, callbacks=[Names()], **QUIET)
    given = data()
    trainer.finetune(trained, given, strategy=("lora", 2), train_bn=False)
    assert len(names) == 6
    assert all(".lora_" in name for name in names)
    after = trained.encoder.backbone.state_dict()
    assert {name: value.shape for name, value in after.items()} == {name: value.shape for name, value in before.items()}
    weights = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert weights == {"0.weight", "3.weight", "7.weight"}
    for name in weights:
        change = (after[name] - before[name]).detach().flatten(1)
        assert torch.linalg.matrix_rank(change, rtol=1e-4) <= (2 if name == "7.weight" else 4)
    assert all(parameter.requires_grad for parameter in trained.parameters())


def test_a_checkpoint_with_additions_makes_a_plain_model(tmp_path: Path) -> None:
    class Save(Callback):
        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            trainer.save_checkpoint(tmp_path / "lora.ckpt")

    trained, given = model(), data()
    Trainer(max_epochs=1, callbacks=[Save()], **QUIET).finetune(trained, given, strategy=("lora", 2))
    assert any("lora_" in name for name in torch.load(tmp_path / "lora.ckpt")["state_dict"])
    again = ImageClassifier.load_from_checkpoint(tmp_path / "lora.ckpt", backbone=backbone())
    images: Tensor = torch.rand(5, 1, 8, 8)
    trained.eval()
    torch.testing.assert_close(again(images), trained(images))
    given = data()
    tested = ImageClassificationData.from_tensors(
        test_data=torch.zeros(4, 1, 8, 8, dtype=torch.uint8), test_targets=[f"{code}" for code in range(4)]
    )
    Trainer(**QUIET).test(again, datamodule=tested, ckpt_path=tmp_path / "lora.ckpt", verbose=False)
    torch.testing.assert_close(again(images), trained(images))


@pytest.mark.parametrize("strategy", ["maml", "prototypicalnetworks"])
def test_lora_goes_with_episodes(strategy: str) -> None:
    plan = {name: value for name, value in PLAN.items() if name != "adaptation_lr"}
    moves = moved(("lora", 2), 1, strategy=strategy, training_strategy_kwargs=plan)
    assert moves == ["037"]


def test_lora_without_layers_to_add_to() -> None:
    with pytest.raises(ConfigError, match="no linear or convolutional layer"):
        plain = ImageClassifier(backbone=nn.Flatten())
        Trainer(max_epochs=1, **QUIET).finetune(plain, data(), strategy=("lora", 2))


# ---- going on


@pytest.mark.parametrize(
    "finetuning",
    ["no_freeze", "freeze", ("freeze_unfreeze", 1), ("unfreeze_milestones", ((0, 2), 1)), ("gradual", 1), ("lora", 2)],
    ids=str,
)
@pytest.mark.parametrize("strategy", ["default", "anil"])
def test_a_resumed_run_is_the_uninterrupted_one(finetuning: Any, strategy: str, tmp_path: Path) -> None:
    class Save(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            if trainer.global_step in (2, 5):
                trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt")

    def fit(ckpt_path: Path | None = None) -> dict[str, Tensor]:
        trained = model(strategy, optimizer="AdamW", lr_scheduler=("CosineAnnealingLR", {"T_max": 4}))
        trainer = Trainer(max_epochs=4, callbacks=[Save()], **QUIET)
        path = str(ckpt_path) if ckpt_path else None
        trainer.finetune(trained, data(), strategy=finetuning, train_bn=False, ckpt_path=path)
        return trained.state_dict()

    whole = fit()
    for step in (2, 5):  # the second checkpoint is one of the resumed run
        resumed = fit(tmp_path / f"{step}.ckpt")
        for name, value in whole.items():
            assert torch.equal(value, resumed[name]), (step, name)
