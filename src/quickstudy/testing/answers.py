"""Checks of the conformance suite on answers: what they may depend on, and that use has those of an evaluation."""

from __future__ import annotations

import copy
import io
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from quickstudy.algorithms.base import Algorithm, EmbeddingAlgorithm
from quickstudy.batches import Batch, each, size, take
from quickstudy.episode import Episode
from quickstudy.nets import Encoder
from quickstudy.testing.demands import (
    NEAR,
    Make,
    answers,
    check_randomness,
    demand,
    demand_close,
    evaluating,
    trained,
)
from quickstudy.testing.made_up import QUERIES, WAYS, small_episodes
from quickstudy.torch_internals import tree_leaves


def _leaves_no_trace(make: Make) -> None:
    algorithm, encoder = make(False)
    before = copy.deepcopy({**algorithm.state_dict(), **{f"encoder.{k}": v for k, v in encoder.state_dict().items()}})
    evaluating((algorithm, encoder))
    first = answers(algorithm, encoder, small_episodes())
    second = answers(algorithm, encoder, small_episodes())
    after = {**algorithm.state_dict(), **{f"encoder.{k}": v for k, v in encoder.state_dict().items()}}
    changed = [name for name, value in before.items() if not torch.equal(value, after[name])]
    demand(not changed, "an evaluation changes no weight", changed)
    demand(torch.equal(first, second), "the same episode has the same answer", "it has another the second time")


def _answers_are_the_same_without_gradients(make: Make) -> None:
    algorithm, encoder = evaluating(make(False))
    episodes, found = small_episodes(), []
    for context in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with context():
            found.append(algorithm.judge(encoder, episodes, WAYS, algorithm.loss)[1].detach().clone())
    demand_close(found[0], found[1], "no_grad and inference_mode answer alike")
    demand_close(found[0], found[2], "no_grad and gradients answer alike")


def _bfloat16_is_near(make: Make) -> None:
    algorithm, encoder = evaluating(make(False))
    algorithm.float()
    encoder.float()
    episodes = Episode(*(part.float() if part.is_floating_point() else part for part in small_episodes()))
    found = []
    for enabled in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss, logits = algorithm.judge(encoder, episodes, WAYS, algorithm.loss)
            dtypes = {loss.dtype, logits.dtype}
            demand(dtypes == {torch.float32}, "logits and losses are float32 under autocast", dtypes)
            found.append(logits - logits.mean(-1, keepdim=True))  # what all classes share says nothing
    error = float((found[0] - found[1]).norm() / found[0].norm())
    demand(error < 0.1, "bfloat16 answers alike", f"logits differ by {error:.3f} of their size")


def _order_of_the_support_does_not_matter(make: Make) -> None:
    algorithm, encoder = evaluating(make(False))
    episodes = small_episodes(form=make.form)
    generator = torch.Generator().manual_seed(4)  # by which the first moves, too
    order = (slice(None), torch.randperm(episodes.support_targets.shape[1], generator=generator))
    shuffled = episodes._replace(support=take(episodes.support, order), support_targets=episodes.support_targets[order])
    straight, other = answers(algorithm, encoder, episodes), answers(algorithm, encoder, shuffled)
    demand_close(straight, other, "the order of the support does not matter", NEAR)


def _queries_are_answered_by_what_they_show(make: Make, norm: bool = False, training: bool = False) -> None:
    algorithm, encoder = make(norm) if training else evaluating(make(norm))
    when = "in training" if training else "in evaluation"
    episode = small_episodes(1, queries=25, form=make.form)
    support, targets, query, wanted = episode
    if training and not algorithm.exact_gradient:
        return  # whoever follows no gradient of the queries' loss may learn from the queries in turn, as Reptile does
    order = torch.randperm(wanted.shape[1], generator=torch.Generator().manual_seed(3))
    whole = answers(algorithm, encoder, episode)
    others = take(query, (slice(None), order))
    shuffled = answers(algorithm, encoder, Episode(support, targets, others, wanted[:, order]))
    demand_close(whole[:, order], shuffled, f"the order of the queries does not matter {when}", NEAR)
    misled = answers(algorithm, encoder, Episode(support, targets, query, wanted[:, order]))
    demand_close(whole, misled, f"the queries' targets do not change the answers {when}")
    few = order[:4]
    repeated = each(lambda leaf: leaf.expand(4, *leaf.shape[1:]), support)
    singly = Episode(repeated, targets.expand(4, -1), take(query, (0, few, None)), wanted[0, few, None])
    alone = float((whole[0, few] - answers(algorithm, encoder, singly)[:, 0]).abs().max()) < NEAR
    sees = algorithm.sees_queries(encoder)
    demand(alone != sees, f"transductive is what it says {when}", f"sees_queries is {sees}, and answers alone: {alone}")


def _classes_are_told_by_the_support_alone(make: Make, training: bool = False) -> None:
    algorithm, encoder = make(False) if training else evaluating(make(False))
    when = "in training" if training else "in evaluation"
    episodes = small_episodes()
    straight = answers(algorithm, encoder, episodes)
    # What is shifted by a class, or mixed with a neighbour's, is so too after all classes moved on by one.
    for names in (torch.arange(WAYS).roll(1), torch.tensor([1, 0, *range(2, WAYS)])):
        support, query = names[episodes.support_targets], names[episodes.query_targets]
        other = answers(algorithm, encoder, episodes._replace(support_targets=support, query_targets=query))
        demand(not torch.equal(straight, other), f"the support's targets matter {when}", "others have the same answers")
        if not algorithm.fixed_ways:
            demand_close(straight, other[:, :, names], f"classes by other numbers have the same answers {when}", NEAR)


def _answers_are_better_than_chance(make: Make) -> None:
    algorithm, encoder = make(False)
    if algorithm.fixed_ways:
        return  # whose head, untrained, may know nothing; but see the next
    found, own = _accuracies(algorithm, encoder), list(algorithm.parameters())
    optimizer = torch.optim.Adam([*encoder.parameters(), *own], lr=0.01)
    for step in range(300 if own else 0):  # a comparison that is learned may know nothing either, before
        if step % 50 == 0 and not _doubtful(found := _accuracies(algorithm, encoder)):
            break
        trained(algorithm, encoder, small_episodes(noise=0.2, seed=step))
        optimizer.step()
    demand(not _doubtful(found), "classes that differ clearly are told apart", f"{float(found.mean()):.2f} are right")


def _what_is_taught_is_answered(make: Make) -> None:
    algorithm, encoder = evaluating(make(False))
    if not algorithm.fixed_ways:
        return  # of which the check before asks more
    episodes = small_episodes(20, noise=0.2)

    def losses(taught_TS: Tensor) -> Tensor:
        logits_TQW = answers(algorithm, encoder, episodes._replace(support_targets=taught_TS))
        return F.cross_entropy(logits_TQW.mT, episodes.query_targets, reduction="none").mean(1)

    right_T = losses(episodes.support_targets)
    for by in range(1, WAYS):
        worse_T = losses((episodes.support_targets + by) % WAYS) - right_T
        doubt = 3 * float(worse_T.std()) / len(worse_T) ** 0.5
        worse = float(worse_T.mean())
        # Untrained, a good one may hardly notice; none may prefer it.
        demand(worse > -doubt, "who is taught other classes answers no better", f"{worse:.1e}, ± {doubt:.1e}")


def _accuracies(algorithm: Algorithm, encoder: Encoder) -> Tensor:
    episodes = small_episodes(40, noise=0.2)
    logits_TQW = answers(*evaluating((algorithm, encoder)), episodes)
    algorithm.train()
    encoder.train()
    return (logits_TQW.argmax(-1) == episodes.query_targets).double().mean(1)


def _doubtful(accuracies_T: Tensor) -> bool:
    return bool(accuracies_T.mean() <= 1 / WAYS + 3 * accuracies_T.std() / len(accuracies_T) ** 0.5)


def _randomness_is_the_callers(make: Make) -> None:
    check_randomness(lambda seed: make(False, seed), "when it is made", draws=True)
    one, other = (make(False)[0].state_dict() for _ in range(2))
    differing = [name for name, value in one.items() if not torch.equal(value, other[name])]
    demand(not differing, "its parameters follow from torch's seed", differing)
    episodes, (algorithm, encoder) = small_episodes(), make(False)
    check_randomness(lambda _: trained(algorithm, encoder, episodes), "in training", draws=True)
    evaluating((algorithm, encoder))
    check_randomness(lambda _: answers(algorithm, encoder, episodes), "in evaluation")

    def use(_: int) -> None:
        state = algorithm.adapt(
            encoder, algorithm.keep(encoder, [episodes.support[0]]), episodes.support_targets[0], WAYS
        )
        algorithm.predict(encoder, state, [episodes.query[0]])

    with torch.inference_mode():
        check_randomness(use, "in use")


def _use_is_as_evaluation(make: Make) -> None:
    for norm in (False, True):
        algorithm, encoder = evaluating(make(norm))
        episodes = small_episodes(form=make.form)
        judged = answers(algorithm, encoder, episodes)[0]
        support, targets, query, _ = (take(part, 0) for part in episodes)
        queries = _in_parts(query, 5)
        with torch.inference_mode():
            state = algorithm.adapt(encoder, algorithm.keep(encoder, _in_parts(support, 4)), targets, WAYS)
            answered = algorithm.predict(encoder, state, queries)
            directly = algorithm.answer(encoder, state, algorithm.keep(encoder, queries))
        demand_close(judged, answered, "adapt and predict answer as an evaluation", NEAR)
        demand_close(answered, directly, "answer gives what predict gives", NEAR)
        leaves = [leaf for leaf in tree_leaves(state) if not isinstance(leaf, Tensor)]
        demand(not leaves, "what adapt returns is made of tensors", leaves)
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        again = torch.load(file, weights_only=True)
        with torch.inference_mode():
            other, targets, _, _ = (take(part, 1) for part in episodes)
            algorithm.adapt(encoder, algorithm.keep(encoder, [other]), targets, WAYS)
            same = torch.equal(answered, algorithm.predict(encoder, again, queries))
        demand(same, "what was learned survives saving, and learning more, bit for bit", "the answers are others")


def _in_parts(examples: Batch, most: int) -> list[Batch]:
    return [take(examples, slice(at, at + most)) for at in range(0, size(examples), most)]


def _takes_any_shots_and_ways(make: Make) -> None:
    algorithm, encoder = evaluating(make(False))
    for ways in (WAYS,) if algorithm.fixed_ways else (2, WAYS, 5):
        support, targets, query, _ = small_episodes(1, ways, 5, form=make.form)
        kept = torch.cat([torch.arange(5 * code, 5 * code + 1 + code % 5) for code in range(ways)])  # 1, 2, 3 ... shots
        with torch.inference_mode():
            some = algorithm.keep(encoder, [take(support, (0, kept))])
            state = algorithm.adapt(encoder, some, targets[0, kept], ways)
            logits = algorithm.predict(encoder, state, [take(query, 0)])
        right = tuple(logits.shape) == (ways * QUERIES, ways) and bool(logits.isfinite().all())
        demand(right, "classes may have different numbers of examples", f"{ways} ways: {tuple(logits.shape)}")


def _what_is_held_follows_changes(make: Make) -> None:
    algorithm, encoder = evaluating(make(False))
    if not isinstance(algorithm, EmbeddingAlgorithm):
        return
    support, targets, query, _ = small_episodes(1, WAYS + 1, shots=5)  # more examples than features
    with torch.inference_mode():
        kept, asked = algorithm.keep(encoder, [support[0]]), algorithm.keep(encoder, [query[0]])
        first, second, *others, last = (kept[targets[0] == code] for code in range(WAYS + 1))
        known = [first, second[:1], *others]
        held = algorithm.hold(_learned(algorithm, encoder, known), known)
        if held is None:
            return
        follows = held.changed(None, None, last).changed(1, second[:1], second).changed(0, first, None)
        anew = algorithm.answer(encoder, _learned(algorithm, encoder, [second, *others, last]), asked)
        changed = algorithm.answer(encoder, follows.state, asked)
    demand_close(changed, anew, "a state that is held and changed answers as one that was learned anew", NEAR)


def _learned(algorithm: Algorithm, encoder: Encoder, support: list[Tensor]) -> Any:
    targets = torch.arange(len(support)).repeat_interleave(torch.tensor([len(each) for each in support]))
    return algorithm.adapt(encoder, torch.cat(support), targets, len(support))


ANSWERS = (
    _leaves_no_trace,
    _answers_are_the_same_without_gradients,
    _bfloat16_is_near,
    _order_of_the_support_does_not_matter,
    _queries_are_answered_by_what_they_show,
    partial(_queries_are_answered_by_what_they_show, norm=True),
    partial(_queries_are_answered_by_what_they_show, training=True),
    _classes_are_told_by_the_support_alone,
    partial(_classes_are_told_by_the_support_alone, training=True),
    _answers_are_better_than_chance,
    _what_is_taught_is_answered,
    _use_is_as_evaluation,
    _takes_any_shots_and_ways,
    _what_is_held_follows_changes,
    _randomness_is_the_callers,
)
FOLDED = (_order_of_the_support_does_not_matter, _queries_are_answered_by_what_they_show)
"""What rows of the wrong examples break, where a network has folded places into rows."""
CROSSED = (
    _order_of_the_support_does_not_matter,
    partial(_queries_are_answered_by_what_they_show, norm=True),
    _use_is_as_evaluation,
    _takes_any_shots_and_ways,
)
"""What an algorithm breaks that handles inputs as if all were tensors of one shape; see ``training.CROSSED``."""
