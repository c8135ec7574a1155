from __future__ import annotations

import pytest
import torch
from torch import Tensor

from quickstudy.batches import Batch, each, fold, join, size, stack, take, unfold
from quickstudy.errors import DataError


def tokens(*lengths: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    ids = torch.randint(1, 9, (len(lengths), longest), generator=generator) * mask
    return {"ids": ids, "more": {"mask": mask}}


def test_a_bare_tensor_is_what_torch_makes_of_it() -> None:
    values = torch.randn(4, 3, 2)
    assert size(values) == 4
    assert torch.equal(take(values, [2, 0]), values[[2, 0]])
    assert torch.equal(join([values, values], 1), torch.cat([values, values], 1))
    assert torch.equal(stack(list(values)), values)
    assert torch.equal(unfold(fold(values), 4, 3), values)
    with pytest.raises(RuntimeError, match="equal size"):
        stack([values[0], values[0, :1]])  # bare tensors have one shape


def test_single_examples_and_batches_of_other_lengths_are_filled_up_with_zeros() -> None:
    few, many = tokens(2, 3), tokens(5, seed=1)
    both = join([few, many])
    assert size(both) == 3
    assert both["ids"].shape == both["more"]["mask"].shape == (3, 5)
    assert both["more"]["mask"].sum(1).tolist() == [2, 3, 5]
    assert torch.equal(both["ids"] != 0, both["more"]["mask"])
    again = stack([take(both, row) for row in range(3)])
    assert all(torch.equal(one, other) for one, other in zip(leaves(again), leaves(both), strict=True))


def test_along_the_second_axis_others_are_filled_up() -> None:
    episodes = unfold(tokens(2, 4, 4, 1), 2, 2)
    longer = unfold(tokens(7, 6, 5, 7, 7, 7, seed=1), 2, 3)
    both = join([episodes, longer], 1)
    assert both["ids"].shape == (2, 5, 7)
    assert fold(both)["more"]["mask"].sum(1).tolist() == [2, 4, 7, 6, 5, 4, 1, 7, 7, 7]


def test_every_leaf_is_reached() -> None:
    assert [leaf.dtype for leaf in leaves(each(Tensor.double, tokens(1, 2)))] == [torch.float64] * 2


def test_examples_of_other_parts_are_told() -> None:
    with pytest.raises(DataError, match="example 1 has the parts"):
        stack([{"ids": torch.zeros(2)}, {"ids": torch.zeros(2), "mask": torch.zeros(2)}])


def test_examples_of_other_types_or_axes_are_told() -> None:
    # torch.stack would make floats of all, and so answer an example by who shares its batch.
    for other, said in (torch.tensor(0.5), "float32"), (torch.zeros(2, dtype=torch.int64), "1 axes"):
        with pytest.raises(DataError, match=said):
            stack([{"x": torch.tensor(2**24 + 1)}, {"x": other}])


def leaves(batch: Batch) -> list[Tensor]:
    return [batch["ids"], batch["more"]["mask"]]
