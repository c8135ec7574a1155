"""The options of data, whatever its domain: what each is, by default and at the most."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from quickstudy.data.episodes import OwnSampler
from quickstudy.data.on_device import BatchTransform
from quickstudy.data.samples import TRANSFORMS, Transform
from quickstudy.data.stages import STAGES, StageName
from quickstudy.errors import ConfigError, brief, check_choice, check_counts, check_shares, given, unknown


@dataclass(frozen=True)
class DataOptions:
    """What every door takes beside the data; none of it depends on what the data is.

    Args:
        transform: a function of one loaded tensor, or the name of a ready-made one (``"flip_crop"``; all of them:
            ``quickstudy list transforms``), applied to training examples; or a mapping of these by stage. Its random
            choices depend on a seed, the step or episode, and the position alone.
        batch_transform: a module or a function of a training batch ``[N, C, ...]`` on its device, such as kornia's
            augmentations are; of an episode all examples pass together. uint8 comes to it as floats from 0 to 1, and is
            uint8 again thereafter. Its random choices follow from the run's seed, the step and the process: another
            number of processes draws others.
        test_time_augmentation: a transform, or the name of one, that draws each example of a test or of a prediction
            ``test_time_draws`` times: the answer is the mean over them and the example as it is, of probabilities where
            these are given. None: every example once. It is of ordinary training, with fixed answers.
        test_time_draws: how often; ``"mirror"``, which does not draw, needs one.
        val_split: share of the training data that becomes validation data, between 0 and 1: of the classes for a
            few-shot strategy, of each class's examples otherwise.
        test_split: share that becomes test data likewise; both are shares of all, and depend on ``seed`` alone.
        batch_size: examples per step and device of ordinary training, validation, test and prediction. Default: 4.
        sampler: ``"balanced"``: an epoch of ordinary training has as many examples of each class as of the others, rare
            ones several times; ``"by_length"``: a step of it has examples, such as texts, that are about as long, so
            that little fills them up; None: every example once, in any order.
        num_workers: processes that read; 0, the default, reads in the main process.
        pin_memory: whether loaded batches lie where a GPU copies them from fastest; None: yes, on a GPU.
        on_error: what an example does that is unreadable, or whose file or label is missing: ``"raise"`` stops,
            ``"skip"`` tries every example at the start, leaves such out, and says how many and which.
        cache: memory for decoded examples: ``"auto"``, the default (a quarter of what is free), False, bytes, or
            ``"4GB"``. Data that does not fit is decoded each time.
        episode_sampler: draws the episodes of few-shot strategies instead of quickstudy: a function of an
            ``EpisodeDraw`` that returns rows ``[ways, shots + queries]``; None: an episode as usual.
        seed: of these splits, and of shuffling and transforming ordinary batches; episodes have that of their
            ``EpisodePlan``.
        episode_key: a name for the data, by which episodes are chosen in place of the inputs themselves. Give features
            of two encoders one name, and with equal targets they have the same episodes, example for example. Without
            it other values are other data and have other episodes, so that no seed suits two data sets by design.
        group_field: the column of a table that says what each example comes from: a speaker, a recording, a patient.
            Episodes then ask for examples of other groups than they show, and ``val_split`` and ``test_split`` move
            whole groups, where they divide examples and not classes.
        group_by: the same of files, by a regular expression: what its first group finds, as ``"^([a-z]+)_"`` the
            speaker in ``yes/anna_3.wav``; or all that it finds. Without a slash it is sought in the names of the files
            themselves, and where one has no such part, or with a slash, in their paths below their folder. Of examples
            in memory the groups themselves, one for each training example, or by stage: ``{"train": ["anna", ...]}``.

    Raises:
        ConfigError: one is out of range.
    """

    transform: str | Mapping[str, str] | Transform | Mapping[str, str | Transform] | None = None
    batch_transform: BatchTransform | None = None
    test_time_augmentation: str | Transform | None = None
    test_time_draws: int = 8
    val_split: float | None = None
    test_split: float | None = None
    batch_size: int = 4
    sampler: Literal["balanced", "by_length"] | None = None
    num_workers: int = 0
    pin_memory: bool | None = None
    on_error: Literal["raise", "skip"] = "raise"
    cache: str | int | bool | None = "auto"
    episode_sampler: OwnSampler | None = None
    seed: int = 0
    episode_key: str | None = None
    group_field: str | int | None = None
    group_by: str | Sequence[Any] | Mapping[str, Sequence[Any]] | None = None

    def __post_init__(self) -> None:
        for name, transform in self.transforms.items():
            if name not in STAGES:
                raise unknown("stage of transform", name, STAGES)
            if transform is not None and not callable(transform):
                raise ConfigError(
                    f"transform={brief(transform)} is neither a function of a tensor, nor a name, nor a mapping of "
                    "them by stage"
                )
        if self.batch_transform is not None and not callable(self.batch_transform):
            raise ConfigError(f"batch_transform={brief(self.batch_transform)} is no module nor function of a batch")
        if self.episode_sampler is not None and not callable(self.episode_sampler):
            raise ConfigError(f"episode_sampler={self.episode_sampler!r} is no function of an EpisodeDraw")
        check_shares(**{f"{stage}_split": share for stage, share in self.splits.items()})
        if sum(self.splits.values()) >= 1:
            raise ConfigError("val_split and test_split are shares of one whole, and leave nothing to train on")
        check_counts(batch_size=self.batch_size, test_time_draws=self.test_time_draws)
        if self.drawn_by is not None and not callable(self.drawn_by):
            raise ConfigError(
                f"test_time_augmentation={brief(self.drawn_by)} is neither a function of one example nor the name of a "
                "transform"
            )
        check_counts(0, seed=self.seed, num_workers=self.num_workers)
        check_choice("pin_memory", self.pin_memory, True, False, None)
        key: Any = self.episode_key
        if key is not None and not (isinstance(key, str) and key):
            raise ConfigError(f"episode_key={key!r}: it must be a name, for instance episode_key='birds'")
        if self.group_field is not None and self.group_by is not None:
            raise ConfigError("group_field is of tables and group_by of names of files: give one of them")
        for stage in self.groups:
            if stage not in STAGES:
                raise unknown("stage of group_by", stage, STAGES)
        if isinstance(self.group_by, str):
            try:
                re.compile(self.group_by)
            except re.error as error:
                raise ConfigError(f"group_by={brief(self.group_by)} is no regular expression: {error}") from error
        if self.sampler not in (None, "balanced", "by_length"):
            raise ConfigError(f"sampler={self.sampler!r} is neither 'balanced' nor 'by_length', nor None")
        if self.on_error not in ("raise", "skip"):
            raise ConfigError(f"on_error={brief(self.on_error)} is neither 'raise' nor 'skip'")

    @property
    def transforms(self) -> dict[str, Any]:
        """What is applied to the examples of each stage, by its name."""
        by_stage = self.transform if isinstance(self.transform, Mapping) else {"train": self.transform}
        return {stage: TRANSFORMS[each] if isinstance(each, str) else each for stage, each in by_stage.items()}

    @property
    def drawn_by(self) -> Any:
        """What draws an example anew that is tested or predicted; None: nothing does."""
        asked = self.test_time_augmentation
        return TRANSFORMS[asked] if isinstance(asked, str) else asked

    @property
    def groups(self) -> dict[str, Any]:
        """What each example of a stage comes from, where ``group_by`` has the groups themselves."""
        if self.group_by is None or isinstance(self.group_by, str):
            return {}
        return dict(self.group_by if isinstance(self.group_by, Mapping) else {"train": self.group_by})

    @property
    def splits(self) -> dict[StageName, float]:
        """The shares of the training data that are set apart."""
        return given(val=self.val_split, test=self.test_split)  # type: ignore[return-value]
