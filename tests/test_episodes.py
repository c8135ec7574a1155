"""Which examples make up an episode: purity, uniformity, and the same list for any number of processes."""

from __future__ import annotations

import itertools
import pickle
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback
from numpy.typing import NDArray
from torch import Tensor

from quickstudy import DataModule, Task, Trainer
from quickstudy.algorithms import STRATEGIES
from quickstudy.data import table as table_module
from quickstudy.data.episodes import EpisodeDraw, EpisodePlan, EpisodeSampler
from quickstudy.data.loading import BatchSteps, EpisodeDataset, EpisodeSteps, Share
from quickstudy.data.samples import Samples
from quickstudy.data.stages import STAGES
from quickstudy.data.table import ClassIndex, Table
from quickstudy.errors import ConfigError, DataError, DataWarning
from quickstudy.training import processes
from quickstudy.training.procedure import Episodic

few = settings(max_examples=40, deadline=None, derandomize=True)
COUNTS = [7, 9, 30, 6, 12, 8]


def targets_of(counts: list[int], seed: int = 0) -> NDArray[np.int32]:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)


def sampler(counts: list[int] | None = None, **options: Any) -> EpisodeSampler:
    counts = COUNTS if counts is None else counts
    return EpisodeSampler(
        ClassIndex(targets_of(counts), len(counts)), **{"ways": 3, "shots": 2, "queries": 4, **options}
    )


# ---- the index


@few
@given(st.lists(st.integers(0, 9), max_size=60), st.integers(10, 12), st.integers(1, 80))
def test_class_index_equals_a_naive_one_at_any_chunk_size(codes: list[int], classes: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_module, "_CHUNK", chunk)
        index = ClassIndex(np.array(codes, np.int32), classes)
    for code in range(classes):
        assert index.rows(code).tolist() == [row for row, other in enumerate(codes) if other == code]
    assert index.counts.tolist() == [codes.count(code) for code in range(classes)]
    assert index.order.dtype == np.uint32


# ---- one episode


def test_an_episode_has_distinct_rows_of_distinct_classes() -> None:
    rows = sampler().draw(np.arange(500))
    classes = targets_of(COUNTS)[rows]
    assert rows.shape == (500, 3, 6)
    assert (classes == classes[:, :, :1]).all()
    assert all(len(set(task[:, 0])) == 3 for task in classes)
    assert all(len(set(task.ravel())) == 18 for task in rows)


def test_the_whole_of_the_smallest_class_and_all_classes_can_be_used() -> None:
    rows = sampler(ways=6, queries=4).draw(np.arange(200))
    assert all(len(set(task.ravel())) == 36 for task in rows)
    (small,) = [set(np.flatnonzero(targets_of(COUNTS) == 3))]
    assert all(any(set(way) == small for way in task) for task in rows)


# ---- purity


@few
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=30))
def test_an_episode_depends_on_its_number_alone(numbers: list[int]) -> None:
    one = sampler()
    together = one.draw(np.array(numbers))
    alone = [sampler().draw(np.array([number]))[0] for number in numbers]
    assert np.array_equal(together, alone)
    assert np.array_equal(one.draw(np.array(numbers[::-1])), together[::-1])


def test_a_batch_larger_than_a_block_is_the_same_as_its_parts() -> None:
    whole = sampler().draw(np.arange(2500))
    assert np.array_equal(whole, np.concatenate([sampler().draw(np.arange(at, at + 50)) for at in range(0, 2500, 50)]))
    assert sampler().draw(np.arange(0)).shape == (0, 3, 6)


def test_the_list_is_this_one_on_every_machine() -> None:
    index = ClassIndex(np.arange(60) % 6, 6)
    rows = EpisodeSampler(index, ways=2, shots=1, queries=2, seed=5, fingerprint="x").draw(np.arange(3))
    # Whoever changes the episodes of every experiment so far should mean to.
    assert rows.tolist() == [[[38, 50, 44], [28, 52, 10]], [[50, 32, 38], [37, 19, 55]], [[46, 40, 28], [7, 55, 37]]]


@pytest.mark.parametrize("change", [{"seed": 1}, {"stage": "val"}, {"fingerprint": "other"}])
def test_another_seed_stage_or_data_set_has_other_episodes(change: dict[str, Any]) -> None:
    assert (sampler().draw(np.arange(20)) != sampler(**change).draw(np.arange(20))).any(axis=(1, 2)).all()


def test_num_tasks_bounds_how_many_episodes_exist() -> None:
    rows = sampler(num_tasks=4).draw(np.arange(12))
    assert np.array_equal(rows[:4], rows[4:8])
    assert np.array_equal(rows[:4], rows[8:])
    assert np.array_equal(rows[:4], sampler().draw(np.arange(4)))
    assert len({task.tobytes() for task in rows}) == 4


# ---- uniformity: with fixed seeds, so that the outcome is known


def even(counts: NDArray[np.integer[Any]]) -> bool:
    """Whether a chi-square test at level 0.001 finds nothing (Wilson & Hilferty's approximation)."""
    counts = np.ravel(counts)
    expected, freedom = counts.mean(), len(counts) - 1
    ratio = ((counts - expected) ** 2 / expected).sum() / freedom
    return bool((ratio ** (1 / 3) - 1 + 2 / (9 * freedom)) / (2 / (9 * freedom)) ** 0.5 < 3.09)


def test_the_test_of_evenness_bites() -> None:
    coins = np.random.default_rng(0).random((2, 20_000)) < np.array([[0.5], [0.53]])
    assert [even(np.bincount(coin, minlength=2)) for coin in coins] == [True, False]


def test_classes_and_their_positions_are_drawn_evenly() -> None:
    classes = targets_of(COUNTS)[sampler().draw(np.arange(30_000))[:, :, 0]]
    for position in range(3):
        assert even(np.bincount(classes[:, position], minlength=6))
    ordered_pairs = np.bincount(classes[:, 0] * 6 + classes[:, 1], minlength=36).reshape(6, 6)
    assert (ordered_pairs.diagonal() == 0).all()
    assert even(ordered_pairs[~np.eye(6, dtype=bool)])


@pytest.mark.parametrize("size", [6, 7, 64])
def test_members_are_drawn_evenly_into_every_position(size: int) -> None:
    rows = sampler([size, size], ways=2).draw(np.arange(20_000))
    index = ClassIndex(targets_of([size, size]), 2)
    for code in range(2):
        mine = rows[targets_of([size, size])[rows[:, :, 0]] == code]
        members = np.searchsorted(index.rows(code), mine)
        for position in range(6):
            assert even(np.bincount(members[:, position], minlength=size))


def test_support_and_query_are_exchangeable() -> None:
    # Of 3 members in order, each of the 6 orders is equally likely.
    rows = sampler([3, 3], ways=2, shots=1, queries=2).draw(np.arange(30_000)).reshape(-1, 3)
    orders = Counter(tuple(np.argsort(way)) for way in rows.tolist())
    assert len(orders) == 6
    assert even(np.array(list(orders.values())))


def test_what_one_class_shows_says_nothing_of_the_next() -> None:
    rows = sampler([8, 8], ways=2, shots=1, queries=1).draw(np.arange(40_000))
    index = ClassIndex(targets_of([8, 8]), 2)
    place = np.zeros(16, np.int64)
    place[index.order] = np.arange(16) % 8
    first, second = place[rows[:, 0, 0]], place[rows[:, 1, 0]]
    assert even(np.bincount(first * 8 + second, minlength=64))
    later = np.roll(first, 1)
    assert even(np.bincount(first * 8 + later, minlength=64))


# ---- what cannot be drawn


def test_fewer_classes_than_ways() -> None:
    with pytest.raises(
        DataError, match=r"7-way episodes need at least 7 classes; the train data has 6. Set ways to 6,"
    ):
        sampler(ways=7)
    typed = r"\(on the command line: --model.training_strategy_kwargs.test_ways 6\)$"
    with pytest.raises(DataError, match=rf"the val data has 6. Set ways, or test_ways alone, to 6.*{typed}"):
        sampler(ways=7, stage="val")
    with pytest.raises(DataError, match=r"\(on the command line: --test_ways 6\)$"):
        sampler(ways=7, stage="test")


def test_a_class_with_too_few_examples_is_named() -> None:
    names = ("ant", "bee", "cat", "lynx", "dog", "eel")
    with pytest.raises(DataError, match=r"3-way 2-shot with 9 queries needs 11 .* 'lynx' .* has 6. Set queries to 4"):
        sampler(queries=9, classes=names)
    with pytest.raises(
        DataError,
        match=r"'3' of the test data has 6. Set shots, or test_shots alone, to 5 and queries likewise to 1, or add",
    ):
        sampler(shots=8, stage="test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ways": 1}, "ways=1: it must be at least 2"),
        ({"shots": 0}, "shots=0: it must be at least 1"),
        ({"test_queries": 0}, "test_queries=0: it must be at least 1"),
        ({"num_tasks": 0}, "num_tasks=0: it must be at least 1"),
        ({"seed": -1}, "seed=-1: it must be at least 0"),
        ({"shots": 1.5}, "shots must be a whole number, not 1.5"),
        ({"queries": True}, "queries must be a whole number, not True"),
        ({"ways": None}, "ways must be a whole number, not None"),
        ({"meta_batch_size": 7, "epoch_length": 400}, r"epoch_length=400 is no multiple of meta_batch_size=7: .*=406"),
    ],
)
def test_plans_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EpisodePlan(**options)


def test_test_sizes_default_to_those_of_training() -> None:
    plan = EpisodePlan(ways=20, shots=5, queries=15, test_ways=5)
    assert plan.shape("train") == (20, 5, 15)
    assert plan.shape("val") == plan.shape("test") == (5, 5, 15)


# ---- steps of many ranks


def steps_of(world: int, rank: int = 0, epoch: int = 0, length: int = 24, meta: int = 8, **options: Any) -> list[Any]:
    steps = EpisodeSteps(options.pop("of", sampler()), length, meta, Share(rank, world), **options)
    steps.set_epoch(epoch)
    listed = list(steps)
    assert len(listed) == len(steps)
    return listed


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("epoch", [0, 3])
def test_ranks_share_the_same_global_steps(world: int, epoch: int) -> None:
    alone = steps_of(1, epoch=epoch)
    ranks = [steps_of(world, rank, epoch) for rank in range(world)]
    for step, (numbers, rows) in enumerate(alone):
        assert numbers.tolist() == list(range(epoch * 24 + step * 8, epoch * 24 + (step + 1) * 8))
        assert np.array_equal(np.concatenate([rank[step][0] for rank in ranks]), numbers)
        assert np.array_equal(np.concatenate([rank[step][1] for rank in ranks]), rows)
        assert np.array_equal(rows, sampler().draw(numbers))


def test_a_thousand_ranks_neither_repeat_nor_skip() -> None:
    one = sampler()
    shares = [steps_of(1024, rank, epoch=2, length=4096, meta=2048, of=one) for rank in range(1024)]
    for step in range(2):
        numbers = np.concatenate([share[step][0] for share in shares])
        assert numbers.tolist() == list(range(8192 + step * 2048, 8192 + (step + 1) * 2048))
    assert np.array_equal(shares[700][1][1], one.draw(shares[700][1][0]))


def test_validation_repeats_its_list_and_its_last_step_may_be_smaller() -> None:
    for world in (1, 2):
        first, later = (steps_of(world, world - 1, epoch, length=20, repeat=True) for epoch in (0, 5))
        assert [len(numbers) for numbers, _ in first] == [8 // world, 8 // world, 4 // world]
        assert all(np.array_equal(a, b) for a, b in zip(first[1], later[1], strict=True))
        assert first[0][0][0] == (world - 1) * 4


def test_remainders_are_refused_and_both_numbers_named() -> None:
    with pytest.raises(ConfigError, match=r"meta_batch_size=8 cannot be shared by 3 processes .* meta_batch_size=9"):
        steps_of(3)
    with pytest.raises(ConfigError, match=r"meta_batch_size=8 cannot be shared by 3 processes"):
        steps_of(3, repeat=True)
    with pytest.raises(ConfigError, match=r"test_epoch_length=21 cannot be shared by 2 .* test_epoch_length=22"):
        steps_of(2, length=21, repeat=True)


@few
@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 6), st.booleans())
def test_ordinary_batches_are_shared_too(length: int, batch_size: int, world: int, shuffle: bool) -> None:
    if length < world:
        with pytest.raises(ConfigError, match=f"{length} examples are fewer than {world} processes"):
            BatchSteps(length, batch_size, Share(0, world))
        return
    left = length % (batch_size * world)
    if shuffle and 1 < left < world:
        with pytest.raises(ConfigError, match=f"{length} examples .* leave {left} .* set batch_size=") as told:
            BatchSteps(length, batch_size, Share(0, world), shuffle)
        better = int(str(told.value).rsplit("=", 1)[1])
        assert batch_size < better
        BatchSteps(length, better, Share(0, world), shuffle)
        return
    shares = [BatchSteps(length, batch_size, Share(rank, world), shuffle) for rank in range(world)]
    ranks = [list(share) for share in shares]
    assert {len(rank) for rank in ranks} == {len(shares[0])}  # or one rank would wait for the others for ever
    numbers = [number for rank in ranks for number, _ in rank]
    assert len(set(numbers)) == len(numbers)
    rows = [row for rank in ranks for _, batch in rank for row in batch.tolist()]
    assert len(set(rows)) == len(rows) == length
    sizes = [len(batch) for rank in ranks for _, batch in rank]
    assert min(sizes) >= 1
    assert max(sizes) <= batch_size + (left == 1 if shuffle else length % world > 0)
    together = [sum(len(rank[step][1]) for rank in ranks) for step in range(len(ranks[0]))]
    assert not shuffle or 1 not in together or batch_size * world == 1 or length == 1  # BatchNorm cannot train on one
    alone = BatchSteps(length, batch_size * world, Share(), shuffle)
    assert not shuffle or together == [len(batch) for _, batch in alone]


def test_shuffling_changes_with_the_epoch_and_not_with_the_ranks() -> None:
    def rows(epoch: int, world: int) -> list[int]:
        shares = [BatchSteps(12, 2, Share(rank, world), shuffle=True, seed=3) for rank in range(world)]
        for share in shares:
            share.set_epoch(epoch)
        return [int(row) for step in zip(*shares, strict=True) for _, batch in step for row in batch]

    assert rows(0, 1) != rows(1, 1)
    assert sorted(rows(0, 1)) == list(range(12))
    assert sorted(rows(0, 1)[:4]) == sorted(rows(0, 2)[:4])


# ---- the tensors of an episode


def test_episodes_hold_the_named_rows_ordered_by_class() -> None:
    values = torch.arange(72).view(72, 1, 1, 1).expand(72, 2, 3, 3).contiguous()
    one = sampler()
    dataset = EpisodeDataset(Samples(values, torch.as_tensor), shots=2)
    rows = one.draw(np.arange(5))
    episode = dataset[np.arange(5), rows]
    assert episode.support.shape == (5, 6, 2, 3, 3)
    assert episode.query.shape == (5, 12, 2, 3, 3)
    assert np.array_equal(episode.support[..., 0, 0, 0], rows[:, :, :2].reshape(5, 6))
    assert np.array_equal(episode.query[..., 0, 0, 0], rows[:, :, 2:].reshape(5, 12))
    assert episode.support_targets.tolist() == [[0, 0, 1, 1, 2, 2]] * 5
    assert episode.query_targets.tolist() == [[0] * 4 + [1] * 4 + [2] * 4] * 5
    assert episode.query_targets.dtype == torch.int64
    codes = targets_of(COUNTS)[episode.support[..., 0, 0, 0].numpy()]
    assert np.array_equal(codes[:, ::2], codes[:, 1::2])


def test_random_transforms_follow_from_seed_episode_and_position() -> None:
    def noisy(seed: int) -> EpisodeDataset:
        values = torch.zeros(72, 1, 2, 2)
        return EpisodeDataset(Samples(values, torch.as_tensor, transform=lambda x: x + torch.rand(())), 2, seed)

    rows = sampler().draw(np.arange(3))
    whole, again, other = noisy(0)[np.arange(3), rows], noisy(0)[np.array([2]), rows[2:]], noisy(1)[np.arange(3), rows]
    assert torch.equal(whole.query[2:], again.query)
    assert torch.equal(whole.support[2:], again.support)
    assert not torch.equal(whole.query, other.query)
    drawn = torch.cat([whole.support, whole.query], 1)[..., 0, 0, 0]
    assert len(drawn.unique()) == drawn.numel()


def test_stages_of_one_table_have_other_episodes() -> None:
    table = Table.build(torch.zeros(72, 1), targets_of(COUNTS))
    drawn = [EpisodeSampler.for_stage(table, EpisodePlan(ways=3, queries=2), s).draw(np.arange(9)) for s in STAGES[:3]]
    assert all(not np.array_equal(some, other) for some, other in itertools.combinations(drawn, 2))


def test_tables_and_samplers_travel_to_workers() -> None:
    table = Table.build(torch.zeros(72, 1), targets_of(COUNTS))
    made = EpisodeSampler.for_stage(table, EpisodePlan(ways=3, queries=2), "train")
    assert np.array_equal(pickle.loads(pickle.dumps(made)).draw(np.arange(9)), made.draw(np.arange(9)))


# ---- ways that differ


def of_differing_ways(**options: Any) -> EpisodeSampler:
    return sampler(ways=(2, 5), together=8, **options)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_step_has_one_number_of_ways_on_every_process(world: int) -> None:
    seen = Counter[int]()
    for epoch in range(20):
        alone = steps_of(1, epoch=epoch, of=of_differing_ways())
        ranks = [steps_of(world, rank, epoch, of=of_differing_ways()) for rank in range(world)]
        for step, (numbers, rows) in enumerate(alone):
            seen[rows.shape[1]] += 1
            assert np.array_equal(np.concatenate([rank[step][0] for rank in ranks]), numbers)
            assert np.array_equal(np.concatenate([rank[step][1] for rank in ranks]), rows)
            classes = targets_of(COUNTS)[rows]
            assert (classes == classes[:, :, :1]).all()
            assert all(len(set(task[:, 0])) == rows.shape[1] for task in classes)
    assert sorted(seen) == [2, 3, 4, 5]
    assert min(seen.values()) > 5  # of 60 steps, 15 each
    again = EpisodeSteps(of_differing_ways(), 24, 8, Share())
    again.set_epoch(19)
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(again.starting(1), alone[1:], strict=True))


def test_ways_that_differ_follow_from_seed_and_stage_and_repeat_with_the_episodes() -> None:
    def ways(**options: Any) -> list[int]:
        drawn = of_differing_ways(**options)
        return [drawn.draw(np.arange(at, at + 8)).shape[1] for at in range(0, 400, 8)]

    assert ways() == ways() != ways(seed=1)
    assert ways() != ways(stage="val")
    assert ways(num_tasks=80)[:10] == ways()[:10]
    assert ways(num_tasks=80)[10:20] == ways()[:10]
    codes = of_differing_ways().draw_classes(np.arange(8))
    assert np.array_equal(codes, targets_of(COUNTS)[of_differing_ways().draw(np.arange(8))[:, :, 0]])
    assert of_differing_ways().drawn.startswith("2 to 5 of 8-way 2-shot")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ways": (5, 3)}, r"ways=\(5, 3\): two numbers are the least and the most, such as \(5, 20\), from 2 on"),
        ({"test_ways": [1, 3]}, r"test_ways=\(1, 3\): two numbers"),
        ({"ways": (2, 3, 4)}, "two numbers"),
        ({"ways": (2, 3.5)}, "two numbers"),
        ({"ways": (2, 3), "num_tasks": 6}, "num_tasks=6 is no multiple of meta_batch_size=4, .*: set num_tasks=8"),
        ({"test_ways": (2, 3), "test_num_tasks": 601}, "test_num_tasks=601 is no multiple of meta_batch_size=4"),
    ],
)
def test_ways_that_cannot_differ(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EpisodePlan(**options)


def test_a_plan_of_differing_ways() -> None:
    plan = EpisodePlan(ways=[5, 20], test_ways=5)  # type: ignore[arg-type]  # as YAML has it
    assert (plan.span("train"), plan.span("val"), plan.shape("train")[0]) == ((5, 20), (5, 5), 20)
    assert EpisodePlan(ways=(5, 20)).span("test") == (5, 20)


def test_training_and_testing_by_ways_that_differ() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (48, 1, 6, 6), dtype=torch.uint8, generator=generator)
    labels = np.repeat(np.arange(6), 8)
    data = DataModule.from_tensors(images, labels, test_data=255 - images, test_targets=labels + 6)
    options = {"ways": (2, 6), "queries": 2, "meta_batch_size": 2, "epoch_length": 24, "test_epoch_length": 24}
    backbone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 4))
    model = Task(
        backbone=backbone,
        metrics="F1Score",
        training_strategy="maml",
        training_strategy_kwargs={**options, "head": "shared", "adaptation_steps": 1},
    )
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", max_epochs=1, **quiet)
    trainer.fit(model, datamodule=data)
    (found,) = trainer.test(model, datamodule=data, verbose=False)
    assert 0 < found["test_accuracy"] <= 1
    with pytest.raises(
        ConfigError, match=r"'maml' is made for one number of ways, and ways=\(2, 6\) .* 'head': 'shared'"
    ):
        Task(backbone=backbone, training_strategy="maml", training_strategy_kwargs=options)
    with pytest.raises(DataError, match="6-way episodes need at least 6 classes; the train data has 5"):
        few = DataModule.from_tensors(images[:40], labels[:40])
        few.episode_loader("train", EpisodePlan(**options))  # type: ignore[arg-type]


# ---- samplers of one's own


def neighbours(draw: EpisodeDraw) -> Any:
    """Draw classes that follow each other; validation as usual."""
    if draw.stage != "train":
        return None
    first = int(draw.generator.integers(len(draw.rows) - draw.ways + 1))
    each = draw.shots + draw.queries
    return [draw.generator.choice(draw.rows[first + way], each, replace=False) for way in range(draw.ways)]


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("ways", [3, (2, 5)])
def test_a_sampler_of_ones_own_draws_for_every_process(world: int, ways: Any) -> None:
    own = sampler(ways=ways, together=8, own=neighbours)
    for epoch in range(2):
        alone = steps_of(1, epoch=epoch, of=own)
        ranks = [steps_of(world, rank, epoch, of=own) for rank in range(world)]
        for step, (_, rows) in enumerate(alone):
            assert np.array_equal(np.concatenate([rank[step][1] for rank in ranks]), rows)
            codes = targets_of(COUNTS)[rows][:, :, 0]
            assert (np.diff(codes) == 1).all()
    assert np.array_equal(own.draw_classes(alone[0][0]), targets_of(COUNTS)[alone[0][1]][:, :, 0])
    usual = sampler(stage="val", ways=ways, together=8)
    assert np.array_equal(
        sampler(stage="val", ways=ways, together=8, own=neighbours).draw(np.arange(8)), usual.draw(np.arange(8))
    )
    assert "neighbours" in own.drawn
    assert np.array_equal(
        sampler(own=neighbours, num_tasks=4).draw(np.arange(8))[4:], sampler(own=neighbours).draw(np.arange(4))
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (lambda draw: [[0, 1]], r"episode 0 of the train data is an array \(1, 2\) of int64: .* \(3, 6\)"),
        (lambda draw: np.zeros((3, 6)), "of float64: it must have rows"),
        (lambda draw: np.arange(18).reshape(3, 6) + 60, "has the row 77: the data has 72, from 0 on"),
        (lambda draw: np.stack([draw.rows[0][[0, 1, 2, 3, 4, 4]]] * 3), "has the row .* twice"),
        (lambda draw: np.arange(18).reshape(3, 6), "examples of several classes in one of its ways"),
        (lambda draw: draw.rows[2][:18].reshape(3, 6), "or one class in two"),
    ],
)
def test_what_is_no_episode_is_told(rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        sampler(own=rows)


def test_a_sampler_that_draws_otherwise_each_time_is_refused() -> None:
    chance = np.random.default_rng(0)
    with pytest.raises(DataError, match=r"other rows for the same episode each time: draw from the generator"):
        sampler(own=lambda draw: neighbours(draw._replace(generator=chance)))


@pytest.mark.parametrize("workers", [0, 1])
def test_data_takes_a_sampler_of_ones_own(workers: int) -> None:
    values = torch.arange(30).view(30, 1, 1, 1).expand(30, 1, 2, 2).to(torch.uint8)
    targets = np.arange(30) % 6
    data = DataModule.from_tensors(values, targets, num_workers=workers, episode_sampler=neighbours)
    plan = EpisodePlan(ways=2, queries=2, meta_batch_size=2, epoch_length=4)
    for episode in data.episode_loader("train", plan):
        shown = episode.support[:, :, 0, 0, 0].long() % 6
        assert (shown.diff(dim=1) == 1).all()
    procedure = Episodic(plan, STRATEGIES["prototypicalnetworks"](), "prototypicalnetworks")
    assert "neighbours" in processes.steps_of(None, procedure, data)["episode_sampler"]
    with pytest.raises(ConfigError, match="episode_sampler='neighbours' is no function of an EpisodeDraw"):
        DataModule.from_tensors(values, targets, episode_sampler="neighbours")  # type: ignore[arg-type]


def test_the_page_on_episodes_is_true() -> None:
    page = (Path(__file__).parents[1] / "docs" / "episodes.md").read_text(encoding="utf-8")
    of_the_model, of_the_data = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    found: dict[str, Any] = {}
    exec(of_the_model, found)
    assert found["model"].plan.span("train") == (5, 20)
    code = of_the_data.replace('from_benchmark("glyphs"', "from_tensors(values, targets")
    values = torch.arange(36).view(36, 1, 1, 1).expand(36, 3, 2, 2).to(torch.uint8)
    found |= {"values": values, "targets": np.arange(36) % 6}
    exec(code, found)
    plan = EpisodePlan(ways=2, queries=2, meta_batch_size=2, epoch_length=4)
    for episode in found["data"].episode_loader("train", plan):
        assert ((episode.support[:, :, 0, 0, 0].long() % 6).diff(dim=1) == 1).all()


# ---- a run that is killed goes on where it was


def test_a_run_that_goes_on_with_another_sampler_says_so(tmp_path: Path) -> None:
    images = torch.arange(30).view(30, 1, 1, 1).expand(30, 1, 4, 4).to(torch.uint8)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)

    def fit(epochs: int, **options: Any) -> None:
        data = DataModule.from_tensors(images, np.arange(30) % 3, **({"episode_sampler": neighbours} | options))
        model = Task(
            backbone=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 4)),
            training_strategy="prototypicalnetworks",
            training_strategy_kwargs={"ways": 2, "queries": 2, "meta_batch_size": 2, "epoch_length": 2},
        )
        trainer = Trainer(accelerator="cpu", max_epochs=epochs, **quiet)
        trainer.fit(model, datamodule=data, ckpt_path=tmp_path / "a.ckpt" if epochs > 1 else None)
        trainer.save_checkpoint(tmp_path / "a.ckpt")

    fit(1)
    fit(2)  # without a word
    with pytest.warns(
        DataWarning, match="began with episode_sampler=.*neighbours.* and goes on with episode_sampler=None"
    ):
        fit(3, episode_sampler=None)


@pytest.mark.parametrize("strategy", ["prototypicalnetworks", "default"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_resumes_on_the_very_next_step(strategy: str, workers: int, tmp_path: Path) -> None:
    steps: list[Tensor] = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            steps.append(batch[0].clone())

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == kill_at:
                trainer.save_checkpoint(tmp_path / "killed.ckpt")

    def fit(**options: Any) -> list[Tensor]:
        steps.clear()
        values = torch.arange(30).view(30, 1, 1, 1).expand(30, 1, 16, 16).to(torch.uint8)
        data = DataModule.from_tensors(
            values, np.arange(30) % 3, batch_size=6, num_workers=workers, episode_sampler=neighbours
        )
        kwargs = {"ways": (2, 3), "queries": 2, "meta_batch_size": 2, "epoch_length": 10}
        model = Task(
            backbone=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 4)),
            training_strategy=strategy,
            training_strategy_kwargs=kwargs if strategy != "default" else None,
        )
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        Trainer(accelerator="cpu", max_epochs=3, callbacks=[Watch()], **quiet).fit(model, datamodule=data, **options)
        return list(steps)

    kill_at = 7
    whole = fit()
    assert len(whole) == 15
    for kill_at in (8, 9):  # killed again in the same epoch
        rest = fit(ckpt_path=tmp_path / "killed.ckpt")
        assert len(rest) == 15 - (kill_at - 1)
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[kill_at - 1 :], strict=True))


@pytest.mark.parametrize("world", [1, 2])
def test_batches_by_length_hold_every_example_once(world: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 1003)

    def epoch(number: int, world: int) -> list[list[int]]:
        shares = [BatchSteps(1003, 8 // world, Share(r, world), True, 5, None, lengths) for r in range(world)]
        for share in shares:
            share.set_epoch(number)
        ranks = [[batch for _, batch in share] for share in shares]
        return [sorted(np.concatenate(step).tolist()) for step in zip(*ranks, strict=True)]

    steps = epoch(0, world)
    assert sorted(row for step in steps for row in step) == [*range(1003)]
    assert [len(step) for step in steps] == [8] * 125 + [3]
    assert steps == epoch(0, 1) != epoch(1, world)
    reach = [np.ptp(lengths[step]) for step in steps[:-1]]
    assert np.mean(reach) < 25  # of 500, of which steps by chance span 390
    assert abs(np.corrcoef(np.arange(125), [lengths[step].mean() for step in steps[:-1]])[0, 1]) < 0.3


def test_balanced_batches_have_as_many_of_every_class() -> None:
    targets = np.array([0] * 30 + [1] * 7 + [3] * 3)
    index = ClassIndex(targets, 4)  # class 2 is empty

    def epoch(number: int, world: int) -> list[list[int]]:
        shares = [BatchSteps(40, 8 // world, Share(rank, world), True, 5, index) for rank in range(world)]
        for share in shares:
            share.set_epoch(number)
        ranks = [[batch for _, batch in share] for share in shares]
        return [sorted(np.concatenate(step).tolist()) for step in zip(*ranks, strict=True)]

    rows = np.concatenate(epoch(0, 1))
    assert sorted(np.bincount(targets[rows], minlength=4).tolist()) == [0, 13, 13, 14]
    seen = np.bincount(rows, minlength=40)
    for code in (0, 1, 3):
        assert np.ptp(seen[targets == code]) <= 1  # each example of a class as often as the others
    assert epoch(0, 1) == epoch(0, 1) != epoch(1, 1)
    for world in (2, 4):
        assert epoch(0, world) == epoch(0, 1)
