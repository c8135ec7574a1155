"""Networks of members: their probabilities and their losses are averaged, whatever the answer is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import take
from quickstudy.kinds.classification import Classification
from quickstudy.kinds.regression import Regression
from quickstudy.nets import Encoder
from quickstudy.nets.members import MemberHead, for_loss, of_mean_probabilities


class Ensemble(nn.Module):
    """Three members of five features each."""

    members = 3

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 15)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs).view(-1, 3, 5)


def test_each_member_has_a_linear_layer_of_its_own() -> None:
    head, features = MemberHead(3, 5, 4), torch.randn(2, 15)
    each = [features[:, 5 * m : 5 * m + 5] @ head.weight[m] + head.bias[m] for m in range(3)]
    torch.testing.assert_close(head(features), torch.stack(each, 1))


def test_answers_of_members_are_means_of_probabilities_and_losses_means_of_losses() -> None:
    torch.manual_seed(0)
    encoder, some = Encoder(Ensemble().double()), torch.randn(4, 2, dtype=torch.float64)
    targets = torch.tensor([0, 2, 1, 1])
    kind = Classification(classes=("a", "b", "c"), weights=(1.0, 2.0, 0.5))
    for asked in (kind, replace(kind, weights=()), replace(kind, weights=(), multi_label=True)):
        head = asked.head(encoder, take(some, slice(1))).double()
        each = head(encoder(some))
        assert each.shape == (4, 3, 3)
        wanted = F.one_hot(targets) if asked.multi_label else targets
        judged = asked.judge(encoder, head, some, wanted, asked.loss(None))
        chances = each.sigmoid() if asked.multi_label else each.softmax(-1)
        told = asked.answers(judged.outputs, "probabilities")
        torch.testing.assert_close(told.double(), chances.mean(1), rtol=1e-5, atol=1e-6)
        if asked.multi_label:
            losses = [F.binary_cross_entropy_with_logits(each[:, m], wanted.double()) for m in range(3)]
        else:
            weight = torch.tensor(asked.weights).double() if asked.weights else None
            losses = [F.cross_entropy(each[:, m], targets, weight) for m in range(3)]
        torch.testing.assert_close(judged.loss, torch.stack(losses).mean(), rtol=1e-10, atol=1e-12)

    numbers = Regression(mean=10.0, deviation=2.0)
    head = numbers.head(encoder, take(some, slice(1))).double()
    each, wanted = head(encoder(some))[..., 0], torch.tensor([9.0, 10.0, 11.0, 14.0], dtype=torch.float64)
    judged = numbers.judge(encoder, head, some, wanted, numbers.loss(None))
    torch.testing.assert_close(judged.loss, ((each - (wanted[:, None] - 10) / 2) ** 2).mean(), rtol=1e-12, atol=1e-12)
    assert numbers.answers(judged.outputs, "numbers") == pytest.approx((2 * each.mean(1) + 10).tolist())

    made_again = numbers.head_of(head.state_dict(), encoder, None).double()  # as it is of a file
    made_again.load_state_dict(head.state_dict())
    assert made_again(encoder(some)).equal(head(encoder(some)))


def test_answers_of_one_network_stay_as_they_are() -> None:
    logits, targets = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    assert of_mean_probabilities(logits) is logits
    assert for_loss(logits, targets) == (logits, targets)
