"""What an adapted model may say of its own answers: how sure it is, and that it does not know.

All of it comes from examples that the classifier in question did not see: the support set's own, left out in
turn, or examples that are given for the purpose.

Shapes: N held-out examples, M strangers (examples of no known class), S support examples, W classes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from quickstudy.algorithms import EmbeddingAlgorithm
from quickstudy.data.targets import Label
from quickstudy.errors import DataError, brief, few, one_line
from quickstudy.functional.calibration import best_temperature, expected_calibration_error
from quickstudy.functional.distances import squared_euclidean
from quickstudy.functional.intervals import mean_interval, proportion_interval, student_quantile
from quickstudy.kinds.base import ACCURACY
from quickstudy.nets import Encoder

DEFAULT_REJECT_RATE = 0.05
NOT_CALIBRATED = "nothing: calibrate(images, labels) was not called"
"""The source where a strategy leaves out no examples by itself."""
_IN_TURN = "the support set"
_TOGETHER = ", with all of its origin"
_MOST = 200  # examples that are left out, evenly spread over the classes
_WORK = 10_000  # examples that are learned anew in all, for answers to those
_LEAST = 20  # of which there are as many, if there can be; for sets, of each class
_STEPS = 8  # units in the last place; over batches of 1 and 16, MobileNetV3 differs by 4.5, ResNet-18 by 1
_TENSOR_FLOAT = 2**-10
_WEAKEST = 5  # classes that are named
_RELIABLE = 0.5  # of strangers, below which "unknown" misses most
_ROUNDS = 10  # in which inputs are left out whole, each of which learns anew
_ROWS_IN_ALL = 100_000  # that are learned anew for that; of large supports an even part
_NO_OTHER = "nothing: no two inputs show the same class"
_AT_ONCE = 10_000_000  # numbers in the support sets that are learned side by side


class HeldOut(NamedTuple):
    """Answers to examples that their classifier did not see."""

    logits: Tensor
    """``[N, W]``"""
    targets: Tensor
    """``[N]``, their classes."""
    familiar: Tensor
    """``[K]``, how familiar examples of known classes are."""
    strangers: Tensor
    """``[M]``, how familiar examples are whose class it does not know."""
    source: str
    """Where they come from, in words."""
    weights: Tensor | None = None
    """``[K]``, what each of ``familiar`` counts; None: all the same."""


class Confidence(NamedTuple):
    """What follows from held-out answers."""

    temperature: float
    """Logits are divided by it before they become probabilities."""
    threshold: float
    """Of the familiarity; what is below it is unknown. Minus infinity: nothing is."""
    calibration_error: float
    """The expected calibration error of the held-out probabilities, from 0 to 1; NaN without any."""
    examples: int
    source: str


class Share(NamedTuple):
    """How many of some held-out examples were given their own class, whether or not they would be called unknown."""

    accuracy: float
    """From 0 to 1; NaN where nothing was held out, or where there is no other class to take them for."""
    ci95: float
    """How far the 95% Wilson interval of it reaches, on the wider side; NaN likewise."""
    examples: int


class HeldOutAccuracy(NamedTuple):
    """What accuracy to expect on inputs that come as the examples came, by those that the classifier did not see."""

    accuracy: float
    """Over all of them; see ``Share``."""
    ci95: float
    examples: int
    by_class: dict[Label, Share]
    """Of every class; one whose only example cannot be left out has 0 examples."""
    source: str
    """Where they come from, in words."""

    def told(self, most: int = 1000) -> dict[str, Any]:
        """Return it in values that JSON has, of classes the weakest first, and so many at most."""
        weakest = sorted(self.by_class.items(), key=lambda each: (math.isnan(each[1].accuracy), each[1].accuracy))
        by_class = [{"name": name, **_without_nan(each._asdict())} for name, each in weakest[:most]]
        return {**_without_nan(self._asdict()), "by_class": by_class}


def _without_nan(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in figures.items()}


def familiarity(embedded_ND: Tensor, means_WD: Tensor) -> Tensor:
    """Return how familiar examples are, ``[N]``: minus the squared distance to the nearest class mean.

    It does not depend on the classifier, whose logits may be large far from everything it knows.
    """
    return -squared_euclidean(embedded_ND, means_WD).amin(1)


def left_out(
    algorithm: EmbeddingAlgorithm,
    support: Sequence[Tensor],
    means_WD: Tensor,
    least: int = 1,
    origins: Sequence[Sequence[int]] = (),
) -> HeldOut:
    """Answer support examples as if they had been left out, and tell how familiar they would be without their class.

    Args:
        algorithm: in evaluation mode.
        support: by class, its embeddings ``[n, D]``.
        means_WD: of the classes.
        least: how many answers to examples of each class there must be, where it has as many; each round of them
            learns anew. More than 1: of every class, however many there are. 0: no logits at all, at no cost.
        origins: by class, what its examples come from (``changes.Kept``): all that is of one origin is left out
            together, and one example of it asked. None: all are by themselves.
    """
    kept_S = torch.cat(list(support))
    counts_W = torch.tensor([len(kept) for kept in support], device=kept_S.device)
    targets_S = torch.arange(len(counts_W), device=kept_S.device).repeat_interleave(counts_W)
    order_S = _shuffled(kept_S, targets_S, counts_W)
    origin_S = _shared(origins, kept_S.device)
    # Of each class as many, so that one of many examples does not decide alone what is unknown.
    own_K, codes_K = _evenly(counts_W, max(1, _MOST // len(counts_W)))
    several = counts_W[codes_K] > 1  # without its only example a class is gone
    chosen = _spread(len(codes_K), _MOST).to(kept_S.device)
    distances_KW = squared_euclidean(kept_S[order_S[own_K[chosen]]], means_WD)
    codes_K1, several = codes_K[chosen][:, None], several[chosen]
    strangers_M = -distances_KW.scatter(1, codes_K1, torch.inf).amin(1)
    # Without an example of n, the mean of the others is n / (n - 1) times as far from it.
    counts_K1 = counts_W[codes_K1]
    without_K1 = distances_KW.gather(1, codes_K1) * (counts_K1 / (counts_K1 - 1).clamp(min=1)) ** 2
    if origin_S is not None:
        without_K1, several = _without_own(kept_S, order_S[own_K[chosen]], targets_S, counts_W, means_WD, origin_S)
    familiar_K = -distances_KW.scatter(1, codes_K1, without_K1).amin(1)
    each_W = torch.bincount(codes_K[chosen], minlength=len(counts_W))
    if least:  # what is chosen by all examples, such as a strength, is not chosen anew in each round
        algorithm = algorithm.settled(kept_S, targets_S, len(counts_W))
    if origin_S is None:
        logits_NW, targets_N = _without_one_of_each(algorithm, kept_S, order_S, counts_W, least)
    else:
        logits_NW, targets_N = _without_one_origin_of_each(algorithm, kept_S, order_S, counts_W, least, origin_S)
    source = "nothing: no class has two examples"
    if several.any():
        source = f"{_IN_TURN}, one of each class left out" + _TOGETHER * (origin_S is not None)
    elif origin_S is not None:
        source = "nothing: no class has examples of two origins"
    return HeldOut(
        logits_NW,
        targets_N,
        familiar_K[several],
        strangers_M if len(counts_W) > 1 else strangers_M[:0],
        source,
        1 / each_W[codes_K1[several, 0]],
    )


def _shuffled(kept_S: Tensor, targets_S: Tensor, counts_W: Tensor) -> Tensor:
    """Return an order of examples ``[S]``, class by class, whose first ones are usual ones of their class.

    It follows from what the examples are, not from the order that they or the classes came in. By size alone the
    first would be the most unusual: steps of the golden ratio through the sizes, from another start for each class,
    spread any number of first ones over small and large ones.
    """
    sums_S, targets_S, counts_W = kept_S.sum(1).cpu().double(), targets_S.cpu(), counts_W.cpu()
    by_size_S = sums_S.argsort()
    by_size_S = by_size_S[targets_S[by_size_S].argsort(stable=True)]
    sums_W = torch.zeros_like(counts_W, dtype=torch.float64).index_add(0, targets_S, sums_S)
    starts_W = 0.7549 * (sums_W / counts_W).argsort().argsort()
    places_S = torch.arange(len(kept_S)) - (counts_W.cumsum(0) - counts_W)[targets_S]
    steps_S = (0.618034 * places_S.double() + starts_W[targets_S]) % 1
    return by_size_S[(targets_S + steps_S).argsort()].to(kept_S.device)


def _spread(count: int, most: int) -> Tensor:
    """Return at most so many of ``count`` places, evenly spread."""
    return torch.linspace(0, max(count - 1, 0), min(most, count), dtype=torch.float64).round().long()


def _evenly(counts_W: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return rows of the first so many examples of each class, where it has as many, and their classes."""
    places = torch.arange(min(most, int(counts_W.max())), device=counts_W.device)
    inside_WP = places < counts_W[:, None]
    rows_WP = (counts_W.cumsum(0) - counts_W)[:, None] + places
    return rows_WP[inside_WP], inside_WP.nonzero()[:, 0]


def _without_one_of_each(
    algorithm: EmbeddingAlgorithm, kept_S: Tensor, order_S: Tensor, counts_W: Tensor, least: int
) -> tuple[Tensor, Tensor]:
    """Return ``[N, W]`` logits and ``[N]`` classes of examples that are left out, one of each class at a time.

    Were one alone left out, its class would have fewer examples than the others, and its answer tell of that.
    """
    ways = len(counts_W)
    (more_C,) = (counts_W > 1).nonzero(as_tuple=True)  # without its only example a class is gone
    if not len(more_C) or not least:
        return kept_S.new_empty(0, ways), more_C[:0]
    targets_S = torch.arange(ways, device=kept_S.device).repeat_interleave(counts_W)
    rounds = _rounds(int(counts_W.max()), ways, len(kept_S), least)
    round_R1 = torch.arange(rounds, device=kept_S.device)[:, None]
    again_RC = round_R1 >= counts_W[more_C]  # every round leaves one of each class out, some for a second time
    rows_RC = (counts_W.cumsum(0) - counts_W)[more_C] + round_R1 % counts_W[more_C]
    inside_RS = torch.ones(rounds, len(kept_S), dtype=torch.bool, device=kept_S.device).scatter(1, rows_RC, False)
    others_RS = inside_RS.nonzero()[:, 1].view(rounds, -1)
    asked = _spread(len(more_C), _MOST if least == 1 else len(more_C)).to(kept_S.device)
    rows_RC, again_RC, more_C = rows_RC[:, asked], again_RC[:, asked], more_C[asked]
    together = max(1, _AT_ONCE // kept_S.numel())
    with torch.autocast(kept_S.device.type, enabled=False):
        logits = [
            algorithm.classify(kept_S[order_S[others]], targets_S[others], kept_S[order_S[rows]], ways)
            for others, rows in zip(torch.split(others_RS, together), torch.split(rows_RC, together), strict=True)
        ]
    logits_CRW = torch.cat(logits).transpose(0, 1)
    return logits_CRW[~again_RC.T], more_C[:, None].expand(-1, rounds)[~again_RC.T]


def _shared(origins: Sequence[Sequence[int]], device: torch.device) -> Tensor | None:
    """Return a number ``[S]`` for what each example comes from; None where all are by themselves."""
    numbers = [number for own in origins for number in own]
    known: dict[int, int] = {}
    found = [known.setdefault(number, row) if number else row for row, number in enumerate(numbers)]
    return torch.tensor(found, device=device) if found != list(range(len(found))) else None


def _without_own(
    kept_S: Tensor, rows_K: Tensor, targets_S: Tensor, counts_W: Tensor, means_WD: Tensor, origin_S: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the squared distance of examples from what their class's mean is without their origin, ``[K, 1]``.

    And whether the class has examples of another origin, ``[K]``.
    """
    distances, several = [], []
    for row in rows_K.tolist():
        code = targets_S[row]
        own_S = (targets_S == code) & (origin_S == origin_S[row])
        others = int(counts_W[code]) - int(own_S.sum())
        mean_D = (counts_W[code] * means_WD[code] - kept_S[own_S].sum(0)) / max(others, 1)
        distances.append((kept_S[row] - mean_D).square().sum())
        several.append(others > 0)
    return torch.stack(distances)[:, None], torch.tensor(several, device=kept_S.device)


def _without_one_origin_of_each(
    algorithm: EmbeddingAlgorithm, kept_S: Tensor, order_S: Tensor, counts_W: Tensor, least: int, origin_S: Tensor
) -> tuple[Tensor, Tensor]:
    """Return logits and classes as ``_without_one_of_each`` does; what is left out goes with all of its origin."""
    ways, counts = len(counts_W), counts_W.tolist()
    targets_S = torch.arange(ways, device=kept_S.device).repeat_interleave(counts_W)
    origins, codes = origin_S.tolist(), targets_S.tolist()
    rows_of: dict[int, list[int]] = {}
    for row, origin in enumerate(origins):
        rows_of.setdefault(origin, []).append(row)
    asked_of: list[dict[int, int]] = [{} for _ in range(ways)]  # of each class one example of each origin
    for row in order_S.tolist():
        asked_of[codes[row]].setdefault(origins[row], row)
    rounds = _rounds(max(map(len, asked_of)), ways, len(kept_S), least) if least else 0
    told = set(_spread(ways, _MOST if least == 1 else ways).tolist())
    logits, targets = [kept_S.new_empty(0, ways)], [targets_S[:0]]
    for _ in range(rounds):
        remaining, gone, asked = list(counts), set[int](), list[int]()
        for way, waiting in enumerate(asked_of):
            fewer = remaining[way] < counts[way]  # by an origin of another class's
            for origin, row in waiting.items():
                taken = Counter(codes[other] for other in rows_of[origin] if other not in gone)
                if (row not in gone) if fewer else (taken[way] == remaining[way]):
                    continue  # one of each class at a time, and none is emptied
                left = {code: remaining[code] - count for code, count in taken.items() if count < remaining[code]}
                gone.update(other for other in rows_of[origin] if codes[other] in left)
                for code, count in left.items():
                    remaining[code] = count
                asked += [waiting.pop(origin)] * (way in told)
                break
        if not asked:
            break
        taught_S = torch.ones(len(kept_S), dtype=torch.bool, device=kept_S.device)
        taught_S[list(gone)] = False
        with torch.autocast(kept_S.device.type, enabled=False):
            task = kept_S[taught_S][None], targets_S[taught_S][None], kept_S[asked][None]
            logits.append(algorithm.classify(*task, ways)[0])
        targets.append(targets_S[asked])
    return torch.cat(logits), torch.cat(targets)


def _rounds(most: int, ways: int, count: int, least: int) -> int:
    """Return how many times to leave out one example of each class, of which there are at most so many."""
    affordable = min(math.ceil(_MOST / ways), _WORK // count)
    return min(most, max(_LEAST // ways + 1, affordable, least))


def confidence_of(held: HeldOut, threshold: float) -> Confidence:
    """Return what follows from held-out answers.

    Args:
        held: the answers.
        threshold: of the familiarity.
    """
    if not len(held.targets):
        return Confidence(1.0, threshold, math.nan, 0, held.source)
    temperature = best_temperature(held.logits, held.targets)
    error = expected_calibration_error((held.logits / temperature).softmax(1), held.targets)
    return Confidence(temperature, threshold, error, len(held.targets), held.source)


def accuracy_of(held: HeldOut, names: Sequence[Label]) -> HeldOutAccuracy:
    """Return how many held-out answers were right, with the interval of a proportion.

    Args:
        held: the answers.
        names: of the W classes.
    """
    right_N = held.logits.argmax(1) == held.targets if len(held.targets) else held.targets.bool()
    counts_W = torch.bincount(held.targets, minlength=len(names)).tolist()
    rights_W = torch.bincount(held.targets[right_N], minlength=len(names)).tolist()
    told = len(names) > 1  # of one class alone every answer is right

    def share(right: int, count: int) -> Share:
        return Share(*(proportion_interval(right, count) if told else (math.nan, math.nan)), count)

    by_class = {name: share(*each) for name, *each in zip(names, rights_W, counts_W, strict=True)}
    return HeldOutAccuracy(*share(sum(rights_W), sum(counts_W)), by_class, held.source)


class HeldOutParts(NamedTuple):
    """Answers to parts of inputs that were left out whole."""

    logits: Tensor
    """``[N, W]``, minus infinity of classes that no other input shows."""
    targets: Tensor
    """``[N]``, their classes."""
    owners: Tensor
    """``[N]``, the number of the input of each."""

    @property
    def temperature(self) -> float:
        """What logits are divided by before they become probabilities, with the doubt that few inputs leave.

        Parts of one input are much alike: of n inputs with W classes each at least one in n W + 2 answers is taken for
        wrong, whether or not one was.
        """
        if not len(self.targets):
            return 1.0
        pairs = len(torch.unique(self.owners * self.logits.shape[1] + self.targets))
        wrong = float((self.logits.argmax(1) != self.targets).double().mean())
        shown = self.logits.isfinite()  # of a class that no other input shows it is taken for as unlikely as any other
        least = self.logits.masked_fill(~shown, torch.inf).amin(1, keepdim=True)
        logits = torch.where(shown, self.logits, least)
        return best_temperature(logits, self.targets, max(1 / (pairs + 2) - wrong, 0.0))


@torch.inference_mode()
def parts_left_out(
    algorithm: EmbeddingAlgorithm, support: Sequence[Tensor], owners: Sequence[Sequence[int]]
) -> HeldOutParts:
    """Answer parts of inputs as if their inputs had been left out whole.

    An input is left out with at most a tenth of the others; of a class that no other input shows it is not asked.

    Args:
        algorithm: in evaluation mode, whose logits of a part do not depend on others.
        support: by class, rows of its parts ``[n, D]``.
        owners: by class, the inputs that they are of.
    """
    most = max(_ROWS_IN_ALL // (_ROUNDS * len(support)), 1)
    places = [slice(None, None, -(-len(rows) // most)) for rows in support]  # as many of each input, which lie together
    support = [rows[own] for rows, own in zip(support, places, strict=True)]
    owners = [numbers[own] for numbers, own in zip(owners, places, strict=True)]
    rows_SD = torch.cat(list(support))
    codes_S = torch.arange(len(support)).repeat_interleave(torch.tensor([len(rows) for rows in support]))
    _, owners_S = torch.unique(torch.tensor([one for own in owners for one in own]), return_inverse=True)
    count = int(owners_S.max()) + 1
    shown_NW = torch.zeros(count, len(support), dtype=torch.bool)
    shown_NW[owners_S, codes_S] = True
    # Those that show a class which few show are in different rounds.
    rarity_N = torch.where(shown_NW, shown_NW.sum(0), count + 1).amin(1)
    rounds_N = torch.empty(count, dtype=torch.long)
    rounds_N[rarity_N.argsort(stable=True)] = torch.arange(count) % min(count, _ROUNDS)
    algorithm = algorithm.settled(rows_SD, codes_S.to(rows_SD.device), len(support))
    answers = [HeldOutParts(rows_SD.new_empty(0, len(support)).cpu(), codes_S[:0], owners_S[:0])]
    for number in range(min(count, _ROUNDS)):
        out_S = rounds_N[owners_S] == number
        known, taught_s = torch.unique(codes_S[~out_S], return_inverse=True)
        asked = (out_S & torch.isin(codes_S, known)).nonzero().flatten()
        if len(known) < 2 or not len(asked):
            continue
        device = rows_SD.device
        taught_sD, asked_QD = rows_SD[~out_S.to(device)], rows_SD[asked.to(device)]
        with torch.autocast(device.type, enabled=False):
            (logits_QW,) = algorithm.classify(taught_sD[None], taught_s.to(device)[None], asked_QD[None], len(known))
        of_all = logits_QW.new_full((len(asked), len(support)), -torch.inf).cpu()
        of_all[:, known] = logits_QW.cpu()
        answers.append(HeldOutParts(of_all, codes_S[asked], owners_S[asked]))
    return HeldOutParts(*(torch.cat(each) for each in zip(*answers, strict=True)))


def accuracy_of_parts(held: HeldOutParts, names: Sequence[Label]) -> HeldOutAccuracy:
    """Return how many parts of inputs were given their own class.

    Of each input it is the mean over its classes of the share that is right, and of all inputs the mean of these, with
    Student's interval over them: parts of one input are much alike, and tell no more than one.

    Args:
        held: the answers.
        names: of the W classes.
    """
    right_N = (held.logits.argmax(1) == held.targets).double() if len(held.targets) else held.targets.double()
    pairs, pairs_N = torch.unique(held.owners * len(names) + held.targets, return_inverse=True)
    count = int(held.owners.max()) + 1 if len(held.owners) else 0
    shares_NW = torch.full((count, len(names)), torch.nan, dtype=torch.float64)
    rates = torch.zeros(len(pairs), dtype=torch.float64).index_add(0, pairs_N, right_N) / torch.bincount(pairs_N)
    shares_NW.view(-1)[pairs] = rates
    told_N = ~shares_NW.isnan().all(1)

    def share(values: Tensor) -> Share:
        own = values[~values.isnan()]
        return Share(*(mean_interval(own, len(own)) if len(own) else (math.nan, math.nan)), len(own))

    by_class = {name: share(shares_NW[:, code]) for code, name in enumerate(names)}
    source = f"{_IN_TURN}, inputs left out whole" if told_N.any() else _NO_OTHER
    return HeldOutAccuracy(*share(shares_NW[told_N].nanmean(1)), by_class, source)


def parts_in_words(found: HeldOutAccuracy, noun: str) -> list[str]:
    """Return what ``accuracy_of_parts`` found as ``accuracy_in_words`` tells of whole inputs.

    Args:
        found: it.
        noun: what the inputs are.
    """
    if math.isnan(found.accuracy):
        return [f"Held-out accuracy: not told, as it takes two {noun} that show the same classes, of two or more"]
    told = ACCURACY.estimate(found.accuracy, found.ci95, "{:.0%}".format)
    weak = sorted((share.accuracy, str(name)) for name, share in found.by_class.items() if share.examples)[:_WEAKEST]
    alone = [one_line(name) for name, share in found.by_class.items() if not share.examples]
    return [
        f"Held-out accuracy of parts, each class alike: {told} (95% interval; {found.examples} {noun}, each answered "
        f"by what others teach; for {noun} that come as these did)",
        f"Weakest classes: {', '.join(f'{one_line(name)} {share:.0%}' for share, name in weak)}",
        *[f"Of {few(alone)} it says nothing, as no two {noun} show it"] * bool(alone),
    ]


def threshold_of(held: HeldOut, reject_rate: float | None = None, false_accept: float | None = None) -> float:
    """Return the familiarity below which an input is unknown.

    Args:
        held: the answers.
        reject_rate: the share of examples of known classes that may be called unknown; default: 0.05.
        false_accept: instead, the share of strangers that may be taken for known.
    """
    if false_accept is None:
        rate = DEFAULT_REJECT_RATE if reject_rate is None else reject_rate
        weights = torch.ones_like(held.familiar) if held.weights is None else held.weights
        return _lower_limit(held.familiar, weights, rate)
    ordered = held.strangers.cpu().sort(descending=True).values
    place = math.floor(false_accept * (len(ordered) + 1))  # the first of those that may not be taken for known
    if place >= len(ordered):
        return -math.inf
    return float(torch.nextafter(ordered[place], ordered.new_tensor(torch.inf)))


def lowered(threshold: float, rounding: float, length: float, spread: float) -> float:
    """Return a threshold that what lies at it does not fall below by rounding alone.

    The embedding of one input differs between batches and precisions by a share of its length, and so does its distance
    to a mean, whose square is then rounded in float32.

    Args:
        threshold: of the familiarity, minus a squared distance.
        rounding: that share.
        length: of the longest embedding.
        spread: the longest distance from the centre that distances are measured from.
    """
    distance = math.sqrt(max(-threshold, 0.0)) + rounding * length
    return -(distance**2) - _STEPS * torch.finfo(torch.float32).eps * spread**2


def rounding_of(encoder: Encoder) -> float:
    """Return by what share of its length an embedding may differ between batches, as the encoder computes now.

    Sums of float32 are taken in another order, and differ by a few units in the last place; a half type rounds what
    each layer returns; on CUDA, convolutions of float32 are those of TensorFloat-32.
    """
    first = next((each for each in encoder.state_dict().values() if each.is_floating_point()), torch.empty(0))
    device = first.device.type
    cast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if cast else first.dtype
    if dtype in (torch.float32, torch.float64) and device != "cuda":
        return _STEPS * torch.finfo(dtype).eps
    return 2 * max(torch.finfo(dtype).eps, _TENSOR_FLOAT * (dtype == torch.float32))


def _lower_limit(values_K: Tensor, weights_K: Tensor, rate: float) -> float:
    """Return what a further value lies below at the given rate.

    By rank, which holds for any distribution; where there are too few values for that, by Student's prediction limit,
    as if they were normally distributed; of fewer than three, none.
    """
    values_K, order_K = values_K.cpu().double().sort()
    shares_K = weights_K.cpu().double()[order_K] / weights_K.sum().cpu()
    count = float(1 / shares_K.square().sum()) if len(values_K) else 0.0  # as many of the same weight are worth that
    if rate == 0 or len(values_K) < 3:
        return -math.inf
    place = int((shares_K.cumsum(0) * count <= rate * (count + 1) + 1e-9).sum())
    if place >= 1:
        return float(values_K[place - 1])
    mean = float(shares_K @ values_K)
    variance = float(shares_K @ (values_K - mean).square()) / max(1 - 1 / count, 0.5)
    return mean + student_quantile(rate, max(1, round(count) - 1)) * math.sqrt(variance * (1 + 1 / count))


def least_examples(alpha: float) -> int:
    """Return how many held-out examples of each class to ask for at an error level."""
    return max(_needed(alpha), _LEAST)


def _needed(alpha: float) -> int:
    return math.ceil(1 / alpha) - 1


def conformal(held: HeldOut, logits_NW: Tensor, alpha: float, names: Sequence[Label]) -> Tensor:
    """Return which classes inputs may be of at an error level, ``[N, W]``.

    Raises:
        DataError: a class has too few held-out examples for that level.
    """
    possible = []
    for code, name in enumerate(names):
        own_n = _nonconformity(held.logits[held.targets == code], code)
        if len(own_n) < _needed(alpha):
            raise DataError(
                f"alpha={alpha} needs {_needed(alpha)} held-out examples of each class; {brief(name)} has "
                f"{len(own_n)}, and with so many the smallest reachable error level is {1 / (len(own_n) + 1):.0%}. "
                "Raise alpha, add_examples, or calibrate(images, labels)"
            )
        as_strange_Nn = own_n >= _nonconformity(logits_NW, code)[:, None]
        possible.append((as_strange_Nn.sum(1) + 1) / (len(own_n) + 1) > alpha)
    return torch.stack(possible, 1)


def _nonconformity(logits_NW: Tensor, code: int) -> Tensor:
    """Return by how much the best other class exceeds a class, ``[N]``: small where an example conforms to it."""
    others_NW = logits_NW.clone()
    others_NW[:, code] = -torch.inf
    best_N = others_NW.amax(1) if logits_NW.shape[1] > 1 else torch.zeros_like(logits_NW[:, 0])
    return best_N - logits_NW[:, code]


def strangers_caught(held: HeldOut, threshold: float) -> Share:
    """Return what share of inputs of other classes would be called unknown, by held-out strangers.

    Those of the support set are its own examples, each seen by the classes but its own.

    Args:
        held: the answers.
        threshold: of the familiarity.

    >>> held = HeldOut(torch.empty(0, 2), torch.empty(0), torch.empty(0), torch.tensor([-9.0, -8.0, -1.0, -5.0]), "")
    >>> strangers_caught(held, -4.0).accuracy
    0.75
    """
    count = len(held.strangers)
    return Share(*proportion_interval(int((held.strangers < threshold).sum()), count), count)


def accuracy_in_words(found: HeldOutAccuracy, noun: str = "examples", learned: int = 0) -> list[str]:
    """Return a line for the accuracy, one for the weakest classes, and one for those that it says nothing of.

    Args:
        found: it.
        noun: what the examples are.
        learned: how many were learned from, of which these are some; 0: that is not told.
    """
    if math.isnan(found.accuracy):
        why = f"there are no held-out {noun}: it takes two or more of a class"
        if found.source == NOT_CALIBRATED:
            why = "this strategy holds out none: in Python, predictor.calibrate(images, labels) with others tells it"
        elif len(found.by_class) < 2:
            why = "there are no two classes to confuse"
        return [f"Held-out accuracy: not told, as {why}"]
    weak = sorted((share.accuracy, name) for name, share in found.by_class.items() if share.accuracy < 1)[:_WEAKEST]
    alone = sum(not share.examples for share in found.by_class.values())
    named = [
        f"{one_line(name)} {round(accuracy * found.by_class[name].examples)} of {found.by_class[name].examples}"
        for accuracy, name in weak
    ]
    told = ACCURACY.estimate(found.accuracy, found.ci95, "{:.0%}".format)
    some = f" of the {learned}, enough to tell" if learned > found.examples else ""
    how = "each answered by what the others teach" if found.source.startswith(_IN_TURN) else "given to calibrate"
    if found.source.endswith(_TOGETHER):
        some = f" of the {learned}, one of each group or set of copies" if some else ""
        how = "each answered by what others than these teach"
    return [
        f"Held-out accuracy {told} (95% interval; {found.examples} {noun}{some}, {how}; for {noun} that come as these "
        "did)",
        *[f"Weakest classes: {', '.join(named)}"] * bool(named),
        *[f"Of {alone} class{'es' * (alone > 1)} it says nothing, as none of their {noun} was held out"] * bool(alone),
    ]


def _tempered(temperature: float) -> str:
    """Return in words what a temperature does to probabilities."""
    if temperature == 1:
        return "the classifier's own (temperature 1)"
    made = "less sure" if temperature > 1 else "surer"
    why = "so as to be right as often as they say"
    return f"made {made} than the classifier's own, {why} (temperature {temperature:.3g})"


def in_words(sure: Confidence) -> list[str]:
    """Return a line for each figure, one for where they come from, and one for what to do where they say little."""
    calibrate = "in Python, predictor.calibrate(images, labels) with images that it did not learn from"
    by_itself = sure.source != NOT_CALIBRATED
    rests_on = f"expected calibration error, {sure.examples} held-out examples"
    error = f"off by {sure.calibration_error:.1%} on average ({rests_on})"
    few = sure.examples < _LEAST
    if few:  # where all of a few are right it is near 0, which reads as perfect
        error = f"off by how much is not told: {sure.examples} held-out examples say too little"
    unknown = "what is less like every class than nearly all examples are like their own"
    unknown += f" (familiarity below {sure.threshold:.4g})"
    if sure.threshold == -math.inf:
        too_few = "too few examples were held out for its rate (5%, the default, takes three)"
        unknown = f"nothing: {too_few if by_itself else f'with this strategy that takes, {calibrate}'}"
    helps = f"{'more examples of each class; or, ' * by_itself}{calibrate}"
    return [
        f"Its probabilities are {_tempered(sure.temperature)}",
        f"Against how often its answers are right they are {error}",
        f"Called unknown, and given no class: {unknown}",
        f"Both follow from {sure.source}",
        *[f"Its probabilities may be far too sure. What helps: {helps}"] * few,
    ]


def in_plain_words(sure: Confidence, strangers: Share, noun: str) -> list[str]:
    """Return what a user can rely on: how far probabilities are off, and how often "unknown" is said; see ``in_words``.

    Args:
        sure: what follows from held-out answers.
        strangers: see ``strangers_caught``.
        noun: what the examples are.
    """
    off = f"off by {sure.calibration_error:.0%} on average"
    if sure.examples < _LEAST:
        off = f"perhaps far too high: {sure.examples} held-out {noun} say too little"
    if sure.threshold == -math.inf or not strangers.examples:
        none = sure.threshold == -math.inf
        unknown = "Nothing is called unknown" if none else "How often something is called unknown is not known"
        unknown = f"{unknown}: {noun} of other classes may get the name of one of these"
    else:
        caught = f"{round(strangers.accuracy * strangers.examples)} of {strangers.examples}, by leaving each class out"
        unknown = f"Called unknown: of {noun} of other classes about {strangers.accuracy:.0%} ({caught})"
        unknown += "; the rest get the name of one of these" * (strangers.accuracy < 1)
        unknown += ". Do not rely on it" * (strangers.accuracy < _RELIABLE)
    return [f"Its probabilities are {off}", unknown]
