"""An answer is a passage of a text: where it begins and ends, by two answers of each token.

Shapes: N questions, W windows of L tokens, A true answers, M characters, K of an answer at most.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch, fold, stack, take
from quickstudy.data.annotations import Annotations, annotated
from quickstudy.data.samples import Loaded
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, DataError, DataWarning, brief, check_counts, few
from quickstudy.functional.characters import characters_of, text_of, whole
from quickstudy.functional.quotations import agreement
from quickstudy.kinds.base import KINDS, Judged, Kind, Score
from quickstudy.kinds.losses import Loss
from quickstudy.kinds.predictions import check_finite
from quickstudy.nets import Encoder

_NOWHERE = -1e30
"""The logit of a token that cannot be an end of an answer."""
_HELD = 64
"""So many of the longest answers in a row that a window holds are a sign that one holds all shorter ones."""
_NOT_LEARNED = -1
"""In place of the ends of an answer that no window holds whole."""


@KINDS.register("question_answering")
@dataclass(frozen=True)
class QuestionAnswering(Kind):
    """The passage of a context that answers a question; none, where the training data says that it may lack.

    A context is read in windows. Of each token it is told whether an answer begins and ends there; what begins and ends
    at the first token of a window is none (Devlin et al. 2019, https://arxiv.org/abs/1810.04805). The loss is the mean
    over windows, the score the F1 of the words of answers (``functional.quotations``).

    Args:
        longest: tokens of an answer at most.
        n_best: of ``form="n_best"``.
        lacking: whether a question may have no answer, as SQuAD 2's; None: whether one in the training data has none.
        lacks: the same, once it is known.
    """

    score: ClassVar[Score] = Score("f1", share=True)
    forms: ClassVar[tuple[str, ...]] = ("answers", "n_best", "logits")
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "start": {"type": ["integer", "null"]},
            "end": {"type": ["integer", "null"]},
            "score": {"type": "number"},
        },
    }
    learned: ClassVar[tuple[str, ...]] = ("lacks",)
    annotates: ClassVar[bool] = True

    longest: int = 30
    n_best: int = 5
    lacking: bool | None = None
    lacks: bool = False

    def __post_init__(self) -> None:
        check_counts(longest=self.longest, n_best=self.n_best)

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Annotations:
        """Take the answers of each question; see ``answers_of`` and ``Kind.encode``."""
        return annotated(targets, answers_of)

    def meet(self, data: Any, stage: str) -> Self:
        """Take whether answers may lack; see ``Kind.meet``."""
        tables = [] if data is None else [data.table(name) for name in ("train", "val", "test")]
        table = next((table for table in tables if table is not None), None)
        if table is not None and table.annotations is None:
            raise ConfigError(
                "the data has no answers: give them by QuestionAnsweringData, as answers= beside questions and contexts"
            )
        if stage != "fit" or table is None or table.annotations is None:
            return self if self.lacking is None else replace(self, lacks=self.lacking)
        annotations = replace(table.annotations, code=None)
        answers: Any = [annotations.target(row) for row in range(len(annotations))]
        texts = [own["texts"][0] if own["texts"] else "" for own in answers]
        _tell_of_torn(self.fitting(table), texts, data.modality)
        return replace(self, lacks=not all(texts) if self.lacking is None else self.lacking)

    def fitting(self, table: Table) -> Table:
        """Return the same examples with targets of windows; see ``Kind.fitting``."""
        if table.annotations is None:
            return table
        return replace(table, annotations=table.annotations.coded(_to_ends))

    # ---- the network

    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        """Make a linear head from the features of a token to whether an answer begins, and ends, there."""
        return nn.Linear(encoder.element_width(fold(example["windows"])), 2)

    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> dict[str, Tensor]:
        """Return ``{"logits": [N, W, L, 2], "mask": [N, W]}``, and what quotes an answer of the inputs."""
        if torch.compiler.is_exporting():
            raise ConfigError("a model that answers questions is not exported: save it, and serve it")
        windows = fold(inputs["windows"])
        there = inputs["windows"]["mask"].any(-1)
        own = there.flatten().nonzero().flatten()  # the others fill up
        features, asked = encoder.elements(take(windows, own))
        told = head(features).masked_fill(~asked[..., None], _NOWHERE)
        logits = told.new_full((len(windows["mask"]), *told.shape[1:]), _NOWHERE).index_copy(0, own, told)
        return {
            "logits": logits.unflatten(0, there.shape),
            "mask": there,
            "offsets": inputs["offsets"],
            "characters": inputs["characters"],
        }

    # ---- how well it does

    def loss(self, asked: str | Loss | None, otherwise: Loss | None = None) -> Loss:
        """Return the cross-entropy of logits ``[n, L]`` and places ``[n]``.

        Raises:
            ConfigError: another is asked for by a name.
        """
        if isinstance(asked, str) and asked != "cross_entropy":
            raise ConfigError(f"loss_fn={brief(asked)}: here it is 'cross_entropy', or a function of (logits, targets)")
        return F.cross_entropy if asked is None or isinstance(asked, str) else asked

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Batch, loss: Loss) -> Judged:
        """Answer a batch, and judge the answers; see ``Kind.judge``."""
        outputs = self.outputs(encoder, head, inputs)
        asked = outputs["mask"]
        asked = asked & (targets["ends"][:, : asked.shape[1], 0] != _NOT_LEARNED)
        ends = targets["ends"][:, : asked.shape[1]][asked]
        logits = outputs["logits"][asked]
        lost = logits.sum()  # of none
        if len(ends):
            lost = (loss(logits[..., 0], ends[:, 0]) + loss(logits[..., 1], ends[:, 1])) / 2
        return Judged(lost, len(ends), outputs, targets, self.figures(outputs, targets))

    def figures(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Return ``[N, 2]``: the F1 of each answer's words, and whether it is a true one."""
        found = []
        with torch.no_grad():
            for row in range(len(outputs["mask"])):
                true = [text_of(one) for one in targets["texts"][row]]
                exact, f1 = agreement(self._best(outputs, row, 1)[0]["text"], [one for one in true if one])
                found.append([f1, exact])
        return torch.tensor(found, device=outputs["logits"].device)

    def settled(self, figures: Tensor) -> Tensor:
        """Return the F1 of each answer."""
        return figures[:, 0] if figures.ndim == 2 else figures

    def measure(self, per_example: bool, choices: int = 0) -> Any:
        """Return F1 and exact match, both as means over questions; see ``Kind.measure``."""
        from quickstudy.kinds.metrics import Means  # torchmetrics takes long to import, and answering needs none

        return Means(("f1", "exact_match"), per_example)

    # ---- answers

    def answers(self, outputs: Mapping[str, Tensor], form: str) -> Any:
        """Return for each question its answer.

        Args:
            outputs: of the network.
            form: ``"answers"``: N of ``{"text", "start", "end", "score"}``, the likeliest, with places in characters of
                the context and the chance among the ``n_best``; with an empty text and no places where there is none;
                ``"n_best"``: N lists of several such, the likeliest first; ``"logits"``: N tensors ``[W, L, 2]``.

        Raises:
            DataError: an answer is not a number.
        """
        logits = outputs["logits"]
        check_finite(~logits.isnan().flatten(1).any(1))
        if form == "logits":
            return [own[there.bool()] for own, there in zip(logits, outputs["mask"], strict=True)]
        found = [self._best(outputs, row, self.n_best) for row in range(len(logits))]
        return found if form == "n_best" else [own[0] for own in found]

    def _best(self, outputs: Mapping[str, Tensor], row: int, count: int) -> list[dict[str, Any]]:
        """Return the likeliest answers to one question; several windows may tell of the same."""
        there = outputs["mask"][row].bool()
        logits, offsets = outputs["logits"][row][there].float().nan_to_num(_NOWHERE), outputs["offsets"][row][there]
        starts, ends = logits[:, 1:, 0], logits[:, 1:, 1]  # the first token stands for no answer
        length = starts.shape[1]
        within = torch.ones(length, length, device=logits.device).triu().tril(self.longest - 1).bool()
        scores = (starts[:, :, None] + ends[:, None, :]).masked_fill(~within, 2 * _NOWHERE)
        values, places = scores.flatten().topk(min(4 * count, scores.numel()))
        text = text_of(outputs["characters"][row])
        kept: dict[tuple[int, int], float] = {}
        for value, place in zip(values.tolist(), places.tolist(), strict=True):
            window, rest = divmod(place, length * length)
            first, last = divmod(rest, length)
            span = int(offsets[window, first + 1, 0]), int(offsets[window, last + 1, 1])
            if value > _NOWHERE / 2 and span[0] < span[1]:
                kept.setdefault(whole(text, *span), value)
        answers = [
            (value, {"text": text[start:end], "start": start, "end": end}) for (start, end), value in kept.items()
        ]
        answers = answers[:count]
        if self.lacks or not answers:
            answers.append((float(logits[:, 0].sum(-1).min()), {"text": "", "start": None, "end": None}))
            answers = sorted(answers, key=lambda one: -one[0])[:count]
        chances = torch.tensor([value for value, _ in answers]).softmax(0).tolist()
        return [{**answer, "score": chance} for (_, answer), chance in zip(answers, chances, strict=True)]

    def in_json(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Return the answer; see ``Kind.in_json``."""
        return answer


def _tell_of_torn(table: Table, answers: Sequence[str], read: Callable[[Any], Batch]) -> None:
    """Warn of questions whose answer no window holds whole, or has no token; the longest are tried, and all signs."""
    assert table.annotations is not None
    rows = sorted((row for row, text in enumerate(answers) if text), key=lambda row: -len(answers[row]))
    held, torn = 0, list[int]()
    for row in rows if isinstance(table.inputs, list) else ():
        if held >= _HELD and any(map(str.isalnum, answers[row])):
            continue
        with suppress(DataError):  # which is told when it is read
            item: Any = table.inputs[row]
            example = item.example if isinstance(item, Loaded) else read(item)
            target: Any = table.annotations.target(row, example)
            lost = bool((target["ends"] == _NOT_LEARNED).any())
            held = 0 if lost else held + 1
            torn += [row] * lost
    if torn:
        warnings.warn(
            f"{len(torn)} of {len(answers)} questions are not learned from, as their answers have no token, or no "
            f"window holds them whole: those of the rows {few(map(str, sorted(torn)))}, such as "
            f"{brief(answers[torn[0]])}. Raise max_length=, as far as the backbone goes, or give shorter answers",
            DataWarning,
            3,
        )


def answers_of(item: Any, example: Batch | None = None) -> dict[str, Any]:
    """Return the answers to one question: their texts, and where the first begins and ends in the context.

    Args:
        item: a string; a list of them, or of ``{"text", "answer_start"}``, as SQuAD has them; ``{"text": [...],
            "answer_start": [...]}``; any of these as JSON; None or nothing: the question has no answer.
        example: see ``annotations.Read``.

    Raises:
        DataError: it is none of these, or an answer is not in the context.
    """
    texts, starts = _listed(item)
    context = None if example is None else text_of(example["characters"])
    where: dict[str, Any] = {} if example is None else {"windows": example["windows"], "offsets": example["offsets"]}
    if context is None or not texts:
        return {"texts": texts, **where}
    start = starts[0] if starts else context.find(texts[0])
    if start < 0:
        raise DataError(f"the answer {brief(texts[0])} is not in its context, {brief(context)}: correct one")
    if context[start : start + len(texts[0])] != texts[0]:
        raise DataError(
            f"the answer {brief(texts[0])} is not in its context at character {start}, where "
            f"{brief(context[start : start + len(texts[0])])} stands: correct answer_start, or leave it out"
        )
    bare = texts[0].strip()
    start += len(texts[0]) - len(texts[0].lstrip())
    return {"texts": texts, "span": (start, start + len(bare)), **where}


def _listed(item: Any) -> tuple[list[str], list[int]]:
    """Return the texts of answers, and where they begin, where that is told."""
    if isinstance(item, str) and item.lstrip().startswith(("[", "{")):
        with suppress(ValueError):  # a text that begins so
            item = json.loads(item)
    if hasattr(item, "tolist"):
        item = item.tolist()
    if item is None or (isinstance(item, float) and item != item):  # None, or the NaN of an empty cell
        return [], []
    if isinstance(item, str):
        return ([item] if item.strip() else []), []
    if isinstance(item, Mapping):
        if "text" not in item:
            raise DataError(f"answers are {{'text': [...], 'answer_start': [...]}}, and not {brief(item)}")
        texts, starts = item["text"], item.get("answer_start", [])
        if isinstance(texts, str):
            texts, starts = [texts], [starts] if "answer_start" in item else []
        texts, starts = list(texts), [int(one) for one in starts]
    elif isinstance(item, (list, tuple)) and all(isinstance(one, str) for one in item):
        texts, starts = list(item), []
    elif isinstance(item, (list, tuple)) and all(isinstance(one, Mapping) and "text" in one for one in item):
        texts = [one["text"] for one in item]
        starts = [int(one["answer_start"]) for one in item if "answer_start" in one]
    else:
        raise DataError(f"an answer is a text, or {{'text', 'answer_start'}}, and not {brief(item)}")
    if starts and len(starts) != len(texts):
        raise DataError(f"there are {len(texts)} answers and {len(starts)} places where they begin: each needs one")
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"an answer is a text, or {{'text', 'answer_start'}}, and not {brief(item)}")
    said = [place for place, text in enumerate(texts) if text.strip()]
    return [texts[place] for place in said], [starts[place] for place in said] if starts else []


def _to_ends(found: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return ``{"ends": [W, 2], "texts": [A, K]}``: the tokens of each window where the answer begins and ends.

    Those of a window that does not hold all of it are 0, the token that stands for none; where none holds it -1, as
    there is nothing to learn then. An answer is whole without what has no token, such as accents of some tokenizers.
    """
    texts: Any = stack([{"own": characters_of(text)} for text in found["texts"] or [""]])
    windows, offsets = found["windows"], found["offsets"]
    ends = torch.zeros(len(windows["ids"]), 2, dtype=torch.int64)
    if "span" in found:
        start, end = found["span"]
        own = windows["asked"] & (offsets[..., 0] < end) & (offsets[..., 1] > start)
        own[:, 0] = False  # which stands for none
        seen = offsets[own]
        for row, places in enumerate(offsets):
            tokens = own[row].nonzero().flatten()
            if len(tokens) and places[tokens[0], 0] == seen[:, 0].min() and places[tokens[-1], 1] == seen[:, 1].max():
                ends[row] = tokens[[0, -1]]
        if not ends.any():
            ends.fill_(_NOT_LEARNED)
    return {"ends": ends, "texts": texts["own"]}
