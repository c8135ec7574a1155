"""An answer is the entities of a text: which of its words belong together, and to which class.

Shapes: N texts, P words, E classes of entities, C = 1 + 2 E tags.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from quickstudy.batches import Batch
from quickstudy.data.annotations import Annotations, annotated
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, DataError, brief, check_counts, few
from quickstudy.functional.characters import text_of
from quickstudy.kinds.base import KINDS, Score
from quickstudy.kinds.class_ids import in_form
from quickstudy.kinds.losses import class_weights_of
from quickstudy.kinds.parts import OfParts, Parts, from_json
from quickstudy.kinds.segmentation import Segmentation, of_elements
from quickstudy.nets import Encoder

OUTSIDE = "O"
"""The tag of words of no entity."""
_TAG = ("B-", "I-")
_MARKED = re.compile("([BIESLU])-(.+)$")
_STRANGE = re.compile(r"[^\W\d_]-.|o$|[BIESLU]-?$")
"""What looks like a tag, and is of no scheme that is known."""


class Span(NamedTuple):
    """An entity: where it begins and ends, in characters or words, and its class."""

    start: int
    end: int
    label: str


@KINDS.register("entities")
@dataclass(frozen=True)
class Entities(OfParts, Segmentation):
    """Entities in texts: a tag of each word, by which words belong together.

    From a few texts they are learned without training: words are examples with a class each, an entity's or ``O``,
    which an algorithm on embeddings learns; neighbours of one class are one entity then.

    Tags are those of Ramshaw and Marcus 1995 (https://aclanthology.org/W95-0107), each entity beginning with one of its
    own (IOB2): ``O``, and of each class ``B-NAME`` and ``I-NAME``. The score is the F1 of whole entities of all texts,
    of which place and class must be right.

    Args:
        num_classes: E, where neither ``class_names`` nor the data say which there are; None: as these say.
        class_names: of entities; None: those in the training data.
        ignore: classes whose entities are left out, as if their words were of none.
        class_weights: ``"balanced"``, weights by tag, or in the tags' order.
        hidden: units of a layer between features and answers; 0: the head is linear.
        rows_per_class: how many words few-shot forms keep of each class at most, evenly from all texts.
        classes: the C tags.
        ids, codes: the same in numbers.
    """

    score: ClassVar[Score] = Score("f1", share=True)
    forms: ClassVar[tuple[str, ...]] = ("entities", "labels", "probabilities", "logits")
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"entities": {"type": "array", "items": {"type": "object"}}},
    }

    shown_by: ClassVar[str] = "linear_probe"
    task_of_parts: ClassVar[str] = "token_classification"
    marks: ClassVar[str] = "entities"
    sure: ClassVar[tuple[str, ...]] = ("entities", "probabilities", "logits")
    lacking: ClassVar[str] = "the data has no entities: give them, for instance by TokenClassificationData.from_conll"

    hidden: int = 0
    ignore: Sequence[str] = ()
    rows_per_class: int = 5000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(rows_per_class=self.rows_per_class)
        ignored = (self.ignore,) if isinstance(self.ignore, str) else tuple(map(str, self.ignore))
        object.__setattr__(self, "ignore", ignored)

    @classmethod
    def asked(cls) -> list[str]:
        """Return the names of the fields that a user gives."""
        return [name for name in super().asked() if name != "ignore_index"]

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Annotations:
        """Take entities, or tags of words, of each text; see ``spans_of`` and ``Kind.encode``."""
        if isinstance(targets, (list, tuple)) and any(isinstance(one, bytes) for one in targets):
            targets = [from_json(one, "entities, [[0, 6, 'person']]") for one in targets]
        tags = tuple(names or ()) if OUTSIDE in (names or ()) else ()  # others are those of columns
        return annotated(targets, partial(spans_of, names=tags), tags)

    @property
    def entities(self) -> tuple[str, ...]:
        """The classes of entities."""
        return tuple(dict.fromkeys(_parsed(tag)[1] for tag in self._tags if tag != OUTSIDE))

    @property
    def _marked(self) -> bool:
        """Whether classes are tags; those of few-shot forms are names, whatever these look like."""
        return any(tag.startswith(_TAG[0]) and f"{_TAG[1]}{tag[2:]}" in self.classes for tag in self.classes)

    @property
    def _tags(self) -> tuple[str, ...]:
        """The tag that each class stands for."""
        marked = self._marked
        return tuple(name if marked or name == OUTSIDE else f"{_TAG[1]}{name}" for name in self.classes)

    @property
    def most_rows(self) -> int:
        """How many words are kept of each class at most."""
        return self.rows_per_class

    def named_by(self, table: Table | None) -> Self:
        """Return it with the tags of the entities that are named, or in a table; see ``Segmentation.named_by``."""
        return self._of([OUTSIDE, *(f"{mark}{name}" for name in self._known(table) for mark in _TAG)])

    def _of(self, tags: Sequence[str]) -> Self:
        numbers = tuple(range(len(tags)))
        return replace(self, classes=tuple(tags), ids=numbers, codes=numbers, weights=())

    def _known(self, table: Table | None) -> tuple[str, ...]:
        """Return the classes of entities that are named, or in a table."""
        names = self.class_names if not isinstance(self.class_names, Mapping) else tuple(self.class_names.values())
        told = () if table is None or table.annotations is None else table.annotations.names
        if names is None and told:
            names = [_parsed(tag)[1] for tag in told if tag != OUTSIDE]
        if names is None and table is None:
            raise ConfigError("which entities there are is not known: set class_names=['person', 'place']")
        if names is None:
            names = sorted(_seen(table))
        known = tuple(name for name in dict.fromkeys(names) if name not in self.ignore)
        if OUTSIDE in known:
            raise ConfigError(f"{OUTSIDE!r} is the tag of words of no entity: call the class by another name")
        if not known:
            raise ConfigError("there is no entity to learn: no text has one that is not ignored")
        if self.num_classes not in (None, len(known)):
            raise ConfigError(f"there are {len(known)} classes and num_classes={self.num_classes}: leave it out")
        return known

    def meet(self, data: Any, stage: str) -> Self:
        """Take the classes, and weigh their tags; see ``Kind.meet``."""
        if self.class_weights != "balanced" or self.weights or data is None or data.table("train") is None:
            return super().meet(data, stage)
        met = replace(self, class_weights=None).meet(data, stage)
        table = met.fitting(data.table("train"))
        assert table.annotations is not None
        counts = torch.zeros(len(met.classes), dtype=torch.int64)
        for row in range(len(table)):
            target = table.annotations.target(row, data.modality(table.inputs[row]))
            counts += torch.bincount(target["labels"][target["mask"]], minlength=len(counts))
        weights = class_weights_of(
            self.class_weights, met.classes, counts.tolist(), int(counts.sum()), multi_label=False
        )
        return replace(met, class_weights=self.class_weights, weights=weights)

    def fitting(self, table: Table) -> Table:
        """Return the same examples with targets ``{"labels", "mask"}`` of tags; see ``Kind.fitting``."""
        if table.annotations is None or not self.classes:
            return table
        return replace(table, annotations=table.annotations.coded(_ToTags(self.classes, self.ignore, self._marked)))

    # ---- word by word

    def parts(self, encoder: Encoder, inputs: Batch) -> Parts:
        """Return the words of texts; see ``OfParts.parts``."""
        features, mask = encoder.elements(inputs)
        return Parts(features[mask], mask.nonzero()[:, 0], mask)

    def taught(self, encoder: Encoder, inputs: Batch, targets: Mapping[str, Tensor]) -> tuple[Parts, Tensor]:
        """Return the words that have a class; see ``OfParts.taught``."""
        features, mask = encoder.elements(inputs)
        labels, asked = of_elements(mask, targets)
        return Parts(features[asked], asked.nonzero()[:, 0]), labels[asked]

    def assembled(
        self, logits_nW: Tensor, parts: Parts, inputs: Batch, unknown_n: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the logits of all words, of which those like none that were shown are of no entity."""
        mask: Tensor = parts.places
        if unknown_n is not None and OUTSIDE in self.classes:
            sure = torch.full_like(logits_nW, -torch.inf)
            sure[:, self.classes.index(OUTSIDE)] = 0
            logits_nW = torch.where(unknown_n[:, None], sure, logits_nW)
        whole = logits_nW.new_zeros(*mask.shape, logits_nW.shape[1])
        whole[mask] = logits_nW
        return {"logits": whole, "mask": mask, "offsets": inputs["offsets"], "characters": inputs["characters"]}

    def of_table(self, table: Table, names: Any = None) -> tuple[Self, Annotations]:
        """Return it with ``O`` and the entities of a support set, and the classes of words."""
        asked = self if names is None else replace(self, num_classes=None, class_names=in_form(names))
        named = asked._of([OUTSIDE, *asked._known(table)])
        coded = named.fitting(table).annotations
        assert coded is not None
        return named, coded

    def of_one_class(self, annotations: Annotations) -> Annotations:
        """Return the words of all entities, whatever their class, as those of one; see ``OfParts.of_one_class``."""
        return annotations.coded(_of_one_class)

    def of_classes(self, names: Sequence[Any]) -> Self:
        """Return it with these classes; see ``OfParts.of_classes``."""
        return self._of(names)

    # ---- how well it does

    def outputs(self, encoder: Encoder, head: Any, inputs: Batch) -> dict[str, Tensor]:
        """Return ``{"logits": [N, P, C], "mask": [N, P]}``, and where words are in the characters of the texts."""
        if torch.compiler.is_exporting():
            raise ConfigError("a model that finds entities is not exported: save it, and serve it")
        told = {name: inputs[name] for name in ("offsets", "characters") if name in inputs}
        return {**super().outputs(encoder, head, inputs), **told}

    def figures(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Return ``[N, 3 E]``: entities of each class that are and were found, were found, and are."""
        outputs = self._of_all_words(outputs)
        labels, asked = of_elements(outputs["mask"], {**targets, "mask": torch.ones_like(targets["mask"])})
        answers = _without_nan(outputs["logits"].detach())
        count, names, tags = len(labels), self.entities, self._tags
        found = torch.zeros(count, 3, len(names))
        for row in range(count):
            own = asked[row]
            told, true = (
                set(entities_of([tags[code] for code in codes[row][own].tolist()])) for codes in (answers, labels)
            )
            for place, spans in enumerate((told & true, told, true)):
                for span in spans:
                    found[row, place, names.index(span.label)] += 1
        return found.flatten(1).to(labels.device)

    def _of_all_words(self, outputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return answers of all words; those that have no token, and so are not seen by a network, are of no entity."""
        there = outputs["offsets"][..., 1] > 0 if "offsets" in outputs else outputs["mask"]
        seen = outputs["mask"].bool()
        if OUTSIDE not in self.classes or bool((there == seen).all()):
            return outputs
        outside = torch.full_like(outputs["logits"][0, 0], -torch.inf)
        outside[self.classes.index(OUTSIDE)] = 0
        return {**outputs, "mask": there, "logits": torch.where(seen[..., None], outputs["logits"], outside)}

    def settled(self, figures: Tensor) -> Tensor:
        """Return what each of all texts adds to the F1."""
        from quickstudy.kinds.metrics import mean_f1  # torchmetrics takes long to import

        return mean_f1(figures) if figures.ndim == 2 and len(figures) else figures.new_empty(0)

    def measure(self, per_example: bool, choices: int = 0) -> Any:
        """Return F1, precision and recall of all entities, and the F1 of each class; see ``Kind.measure``."""
        from quickstudy.kinds.metrics import Found  # torchmetrics takes long to import, and answering needs none

        return Found(self.entities)

    # ---- answers

    def answers(self, outputs: Mapping[str, Tensor], form: str) -> Any:
        """Return for each text its entities, or an answer of each of its words.

        Args:
            outputs: of the network.
            form: ``"entities"``: N lists of ``{"label", "text", "start", "end", "score"}``, in the order of the text,
                with places in characters and the mean probability of its tags; ``"labels"``: N lists of the tags of
                all words, ``O`` of those that have no token; ``"probabilities"`` or ``"logits"``: N tensors ``[P, C]``.

        Raises:
            DataError: an answer is not a number.
        """
        outputs = self._of_all_words(outputs)
        if form != "entities":
            return super().answers(outputs, form)
        shares, mask = super().answers(outputs, "probabilities"), outputs["mask"].bool()
        return [
            self._entities(own, outputs["offsets"][row][mask[row]], text_of(outputs["characters"][row]))
            for row, own in enumerate(shares)
        ]

    def _entities(self, shares: Tensor, offsets: Tensor, text: str) -> list[dict[str, Any]]:
        best = shares.max(-1)
        scores, places, tags = best.values.tolist(), offsets.tolist(), self._tags
        return [
            {
                "label": span.label,
                "text": text[(start := places[span.start][0]) : (end := places[span.end - 1][1])],
                "start": start,
                "end": end,
                "score": sum(scores[span.start : span.end]) / (span.end - span.start),
            }
            for span in entities_of([tags[code] for code in best.indices.tolist()])
        ]

    def in_json(self, answer: Any) -> dict[str, Any]:
        """Return the entities; see ``Kind.in_json``."""
        return {"entities": answer}


def in_iob2(tags: Sequence[str]) -> list[str]:
    """Return tags of IOB, IOB2, BIOES or BILOU, or names of classes alone, as those of IOB2.

    >>> in_iob2(["I-a", "I-a", "B-a", "O", "S-b", "U-b"])
    ['B-a', 'I-a', 'B-a', 'O', 'B-b', 'B-b']
    """
    made: list[str] = []
    before = ("", "")
    for tag in tags:
        mark, label = _parsed(tag)
        if tag == OUTSIDE:
            made.append(tag)
        else:
            goes_on = mark in ("I", "E", "L") and before[1] == label and before[0] not in ("E", "L", "S", "U")
            made.append(f"{_TAG[goes_on]}{label}")
        before = ("", "") if tag == OUTSIDE else (mark, label)
    return made


def check_tag(tag: str) -> None:
    """Make sure that a tag is of a scheme that is known, or the name of a class.

    Raises:
        DataError: it is like a tag of another scheme.
    """
    if _STRANGE.match(tag) and not _MARKED.match(tag):
        raise DataError(
            f"{tag!r} is no tag of IOB, IOB2, BIOES or BILOU: these are 'O', and one of B, I, E, S, L and U before a "
            "dash and the class, 'B-person'. Write it so"
        )


def _parsed(tag: str) -> tuple[str, str]:
    """Return the mark of a tag and its class; of one without a mark that of what goes on."""
    found = _MARKED.match(tag)
    return (found[1], found[2]) if found else ("I", tag)


def entities_of(tags: Sequence[str]) -> list[Span]:
    """Return the entities that tags of words tell of, in words.

    One that begins with ``I-`` begins there all the same, as the script of CoNLL 2000 counts it; names of classes alone
    are like tags with it.

    >>> entities_of(["B-a", "I-a", "O", "I-b", "B-b"])
    [Span(start=0, end=2, label='a'), Span(start=3, end=4, label='b'), Span(start=4, end=5, label='b')]
    """
    spans: list[Span] = []
    for place, tag in enumerate(tags):
        if tag == OUTSIDE:
            continue
        mark, label = _parsed(tag)
        before = spans[-1] if spans else None
        if mark == "I" and before is not None and (before.end, before.label) == (place, label):
            spans[-1] = before._replace(end=place + 1)
        else:
            spans.append(Span(place, place + 1, label))
    return spans


def spans_of(item: Any, example: Batch | None = None, names: Sequence[str] = ()) -> dict[str, Any]:
    """Return the entities of one text: ``spans`` in characters, or ``tags`` of its words; and where its words are.

    Args:
        item: a list of ``{"start", "end", "label"}`` or ``(start, end, label)``, maybe as JSON; or a list of tags,
            ``["O", "B-person"]``, one of each word, whether of IOB, IOB2, BIOES or BILOU, or names of classes alone.
        example: see ``annotations.Read``.
        names: of tags that are whole numbers.

    Raises:
        DataError: it is neither, or an entity lies beside the text; the message has its number.
    """
    if isinstance(item, str):
        try:
            item = json.loads(item) if item.strip() else []
        except ValueError as error:
            raise DataError(f"{brief(item)} is no JSON of entities: [[0, 6, 'person']], or [] for none") from error
    if hasattr(item, "tolist"):
        item = item.tolist()
    if not isinstance(item, (list, tuple)):
        raise DataError(f"entities are a list of (start, end, label), or one tag of each word, and not {brief(item)}")
    where: dict[str, Tensor] = {}
    if example is not None:
        count = int((example["offsets"][:, 1] > 0).sum())  # behind them zeros fill up
        where = {"offsets": example["offsets"][:count], "mask": example["mask"][:count]}
        where["characters"] = example["characters"]
    if names and item and all(isinstance(tag, int) for tag in item):
        if not 0 <= min(item) <= max(item) < len(names):
            raise DataError(f"tags are numbers from 0 to {len(names) - 1}, and these are {brief(item)}")
        item = [names[tag] for tag in item]
    if item and all(isinstance(tag, str) for tag in item):
        if where and len(item) != len(where["mask"]):
            raise DataError(
                f"there are {len(item)} tags, and the text has {len(where['mask'])} words: give the text as the list "
                "of its words, one for each tag"
            )
        for tag in dict.fromkeys(item):
            check_tag(tag)
        return {"tags": in_iob2(item), **where}
    spans = [_span(one, place) for place, one in enumerate(item)]
    if where:
        length = int((where["characters"] > 0).sum())
        for place, span in enumerate(spans):
            if span.end > length:
                raise DataError(
                    f"entity {place} ends at {span.end}, and the text has {length} characters: they are "
                    "counted from 0, and not in bytes"
                )
    return {"spans": spans, **where}


def _span(one: Any, place: int) -> Span:
    told = one
    if isinstance(one, Mapping):
        label = one.get("label", one.get("entity", one.get("labels")))
        told = (one.get("start"), one.get("end"), label[0] if isinstance(label, list) and len(label) == 1 else label)
    if not isinstance(told, (list, tuple)) or len(told) != 3 or not isinstance(told[2], (str, int)):
        raise DataError(f"entity {place} is {brief(one)}: give it as (start, end, label), in characters of the text")
    try:
        start, end = int(told[0]), int(told[1])
    except (TypeError, ValueError) as error:
        raise DataError(f"entity {place} is {brief(one)}: its start and end are whole numbers") from error
    if not 0 <= start < end:
        raise DataError(f"entity {place} goes from {start} to {end}: its end is behind its last character, start < end")
    return Span(start, end, str(told[2]))


@dataclass(frozen=True)
class _ToTags:
    """Makes targets of entities: the code of the tag of each word."""

    tags: tuple[str, ...]
    ignored: Sequence[str]
    marked: bool = True

    def __call__(self, found: Mapping[str, Any]) -> dict[str, Tensor]:
        told = found["tags"] if "tags" in found else tags_of(found, self.ignored)
        told = [OUTSIDE if _parsed(tag)[1] in self.ignored else tag for tag in told]
        known = {tag: code for code, tag in enumerate(self.tags)}
        if not self.marked:  # classes of single words
            told = [tag if tag == OUTSIDE else _parsed(tag)[1] for tag in told]
        strange = dict.fromkeys(_parsed(tag)[1] if self.marked else tag for tag in told if tag not in known)
        if strange:
            others = [tag for tag in self.tags if tag != OUTSIDE]
            names = dict.fromkeys(_parsed(tag)[1] if self.marked else tag for tag in others)
            raise DataError(
                f"the entity {few(map(repr, strange))} is of none of the classes {few(map(repr, names))}: set "
                "class_names, or ignore for those that are not to be learned"
            )
        mask = found["mask"].bool() if "mask" in found else torch.ones(len(told), dtype=torch.bool)
        return {"labels": torch.tensor([known[tag] for tag in told], dtype=torch.int64), "mask": mask}


def tags_of(found: Mapping[str, Any], ignored: Sequence[str]) -> list[str]:
    """Return the tags of words that spans of characters tell of."""
    places = found["offsets"].tolist()
    tags = [OUTSIDE] * len(places)
    for number, (start, end, label) in enumerate(found["spans"]):
        if label in ignored:
            continue
        own = [place for place, (begin, stop) in enumerate(places) if begin < end and stop > start]
        if not own:
            raise DataError(f"entity {number} ({start} to {end}, {label!r}) has no word of the text: remove it")
        if any(tags[place] != OUTSIDE for place in own):
            raise DataError(
                f"entity {number} ({start} to {end}, {label!r}) shares a word with another: keep one of them"
            )
        for mark, place in zip([_TAG[0], *[_TAG[1]] * (len(own) - 1)], own, strict=True):
            tags[place] = f"{mark}{label}"
    return tags


def _of_one_class(found: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return code 0 of the words of entities; others are not asked about."""
    tags = found["tags"] if "tags" in found else tags_of(found, ())
    named = torch.tensor([tag != OUTSIDE for tag in tags])
    return {"labels": torch.zeros(len(tags), dtype=torch.int64), "mask": named & found["mask"].bool()}


def _seen(table: Table | None) -> Iterable[str]:
    """Return the classes of the entities in a table."""
    annotations = None if table is None or table.annotations is None else replace(table.annotations, code=None)
    seen: set[str] = set()
    for row in range(0 if annotations is None else len(annotations)):
        found: Any = annotations.target(row)  # type: ignore[union-attr]
        seen |= {_parsed(tag)[1] for tag in found["tags"] if tag != OUTSIDE} if "tags" in found else set()
        seen |= {span.label for span in found.get("spans", ())}
    return seen


def _without_nan(logits: Tensor) -> Tensor:
    """Return the codes of answers; of those that are no number that of no entity."""
    return torch.where(logits.isnan().any(-1), 0, logits.argmax(-1))
