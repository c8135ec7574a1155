"""Learning classes or numbers, forgetting and renaming: from what is known to what is known then, another value.

A model keeps what its algorithm needs of the examples (embeddings, for most), so that whatever was changed, it answers
as one that learned the same examples from scratch.

Shapes: S support examples, n examples of one class, W classes, ``...`` the shape of one input.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.algorithms import Algorithm, EmbeddingAlgorithm, Held
from quickstudy.algorithms.base import NamingAlgorithm, exact
from quickstudy.algorithms.rows import Rows
from quickstudy.batches import Batch, device_of, each, join, size, take
from quickstudy.data.origins import Origins
from quickstudy.data.samples import Load
from quickstudy.data.table import Table
from quickstudy.data.targets import Encoded, Label, encode, in_order
from quickstudy.errors import ConfigError, DataError, DataWarning, brief, few
from quickstudy.kinds.base import Kind
from quickstudy.learning.changes import NUMBERS, Change, Kept, Support, changed, check_name
from quickstudy.learning.checks import of_other_classes, origins_of
from quickstudy.learning.confidence import rounding_of
from quickstudy.learning.knowledge import CLASSES, Knowledge
from quickstudy.learning.naming import in_words, is_word, met, reads_names, seen_in_words
from quickstudy.modality import Modality, as_modality
from quickstudy.nets import Encoder, sized
from quickstudy.torch_internals import tree_leaves, tree_map

_SUPPORT = "the support set"
_FEW = 20  # changes, which cost less one by one where each costs its class alone


def untaught(encoder: Encoder, algorithm: Algorithm, load: Load, kind: Kind = CLASSES) -> Knowledge:
    """Return what is known before anything was learned; who trains the encoder further does not change it.

    Raises:
        ConfigError: answers are numbers, and the algorithm learns classes alone.
    """
    if not kind.by_class and not algorithm.numbers:
        raise ConfigError(f"{type(algorithm).__name__} learns classes, and no numbers: choose 'r2d2' or 'maml'")
    return Knowledge(_frozen(encoder), _frozen(algorithm), as_modality(load), kind, taught=encoder.fed)


def acquainted(encoder: Encoder, modality: Modality, inputs: Any) -> tuple[Encoder, Modality, Any]:
    """Return a network and what inputs are, once they have met examples: each with what it must know of these.

    Args:
        encoder: made by a name, it is made for them; one that is trained, or was told of others, stays as it is.
        modality: learns of them what it has not learned before.
        inputs: examples; they are returned as ``modality.listed`` does.
    """
    if not modality.learned:
        return encoder, modality, inputs
    inputs = modality.listed(inputs)
    modality = modality.fitted(inputs)
    return sized(encoder, modality.for_backbone()), modality, inputs


def acquainted_with_names(
    encoder: Encoder, modality: Modality, inputs: Any, classes: Any
) -> tuple[Encoder, Modality, Any]:
    """Return a network and what inputs are, once they have met examples and the names of classes; see ``acquainted``.

    Args:
        encoder, modality: likewise.
        inputs: examples; None: there are the names alone.
        classes: names.
    """
    names = _names(classes)
    if not (modality.learned and names):
        return (encoder, modality, inputs) if inputs is None else acquainted(encoder, modality, inputs)
    items = [in_words(modality, name) for name in names]
    listed = None if inputs is None else modality.listed(inputs)
    batch = listed is not None and not isinstance(listed, list)
    rows = [take(listed, row) for row in range(size(listed))] if batch else listed or []
    encoder, modality, _ = acquainted(encoder, modality, [*rows, *items])
    return encoder, modality, listed


def _names(classes: Any) -> list[Label]:
    names = list(dict.fromkeys([classes] if isinstance(classes, str) else in_order(classes, "classes")))
    for place, name in enumerate(names):
        if isinstance(name, str) and not name.replace("_", " ").strip():
            raise ConfigError(f"classes[{place}] is {brief(name)}, which has no word: leave it out, or write its name")
    return names


def names_learned(knowledge: Knowledge, classes: Sequence[Label], asked: Any = ()) -> list[Label]:
    """Return the names that are learned beside examples.

    Args:
        knowledge: of who learns. An algorithm that takes names apart from examples takes those of all classes, where
            they are words; it warns where they are none.
        classes: all of them.
        asked: those that a user asks for.
    """
    if not isinstance(knowledge.algorithm, NamingAlgorithm) or not reads_names(knowledge):
        return list(asked)
    silent = [str(name) for name in classes if not is_word(name)]
    if silent and not asked:
        told = f"names of classes that are no words are not learned, nor are the others: {few(silent)}"
        warnings.warn(told, DataWarning, 4)
    return list(asked) if silent else list(dict.fromkeys([*asked, *classes]))


def fitted(knowledge: Knowledge, inputs: Any, labels: Any, classes: Any = (), group_by: Any = None) -> Knowledge:
    """Return what is known once a support set was learned, in place of all that was before.

    Args:
        knowledge: of who learns.
        inputs: 1..n examples per class; or S of numbers. None: there are names alone.
        labels: S labels, one per example; or S numbers, where answers are such.
        classes: names of classes that count as an example each.
        group_by: S names of what each example comes from, where answers are classes.

    Raises:
        DataError: there are no examples, the lengths differ, an input cannot be read, or a number is none.
        ConfigError: a name is no example.
    """
    if not knowledge.kind.by_class:
        then, change = addition(replace(knowledge, support={}, state=None), NUMBERS, inputs, labels)
        return after(then, [change])
    asked = _names(classes)
    if inputs is None and not asked:
        raise DataError("no examples were given: adapting needs at least one per class")
    examples = [] if inputs is None else knowledge.reader.listed(inputs)
    own = [] if inputs is None else labels
    encoded = encode([*own, *asked] if asked else own)
    codes, known = encoded.codes, encoded.labels
    if codes.ndim != 1:
        raise DataError(
            "a predictor learns one label per example; these targets have several: train a classifier on them, such as "
            "model = TextClassifier(multi_label=True, class_weights='balanced'), by trainer.finetune(model, "
            "datamodule=..., strategy='freeze'), or quickstudy fit --task text_classification --data.train_file FILE "
            "--model.multi_label true --strategy freeze"
        )
    count, codes = 0 if inputs is None else len(knowledge.reader.samples(examples)), codes[: len(codes) - len(asked)]
    if count != len(codes):
        raise DataError(f"{count} examples but {len(codes)} labels: each example needs one label")
    for name in known:
        check_name(name)
    names = names_learned(knowledge, known, [known[code] for code in encoded.codes[len(codes) :]])
    alike = knowledge.modality.in_words and bool(names)  # which are inputs like others, and read with them
    groups = None if group_by is None else Origins.of_each(group_by, count, _SUPPORT)
    if alike:
        rows = examples if isinstance(examples, list) else [take(examples, row) for row in range(count)]
        examples = [*rows, *(in_words(knowledge.modality, name) for name in names)]
        if groups is not None:
            own = [groups.names[code] for code in groups.codes]
            groups = Origins.of_each([*own, *(f"the name {name}" for name in names)], len(examples), _SUPPORT)
    codes_of_names = np.array([known.index(name) for name in names], codes.dtype)
    parts: list[Kept] = []
    if inputs is not None or alike:
        coded = np.concatenate([codes, codes_of_names]) if alike else codes
        table = Table(examples, coded, encoded.classes, encoded.label_type, origins=groups)
        origins, sketches, _ = origins_of(table, knowledge.modality)
        knowledge = replace(knowledge, taught=knowledge.reader.scale(examples))
        knowledge, kept = kept_of(knowledge, examples, len(known))
        named = (False,) * count + (True,) * len(names) if alike else ()
        parts.append(kept._replace(origins=origins, named=named, sketches=sketches))
    if names and not alike:
        knowledge, kept = kept_of_names(knowledge, names, len(known))
        parts.append(kept)
    return fitted_to(knowledge, reduce(Kept.beside, parts), np.concatenate([codes, codes_of_names]), known)


def fitted_to(knowledge: Knowledge, kept: Kept, codes: NDArray[Any], classes: Sequence[Label]) -> Knowledge:
    """Return what is known once examples were learned of which is kept what is needed.

    Args:
        knowledge: of who learns.
        kept: what ``kept_of`` returned of S examples.
        codes: ``[S]``, into ``classes``; those without an example are left out.
        classes: their names, as they are taught.
    """
    rows = {name: np.flatnonzero(codes == code) for code, name in enumerate(classes)}
    return _learned(knowledge, {name: kept.some(own.tolist()) for name, own in rows.items() if len(own)})


def addition(
    knowledge: Knowledge, name: Label, inputs: Any, numbers: Any = None, group_by: Any = None
) -> tuple[Knowledge, Change]:
    """Return the change that adds examples to a class, known or new, and what is known of inputs having seen these.

    Args:
        knowledge: of who learns.
        name: of the class; ``NUMBERS`` where answers are numbers.
        inputs: n examples; None: the name of the class alone.
        numbers: n numbers, where answers are such.
        group_by: n names of what each example comes from, where answers are classes.

    Raises:
        DataError: there are no examples, one cannot be read, they are unlike those so far, or each needs a number.
        ConfigError: the algorithm's head was trained for a fixed number of classes.
    """
    ways = len(knowledge.support) + (name not in knowledge.support)
    if inputs is None:
        knowledge, kept = kept_of_names(knowledge, [name], ways)
        return knowledge, Change("add", name, "", kept.values, kept.shown, named=kept.named)
    examples, told, origins = knowledge.reader.listed(inputs), list[float](), tuple[int, ...]()
    sketches, warnings = tuple[bytes, ...](), tuple[str, ...]()
    if not knowledge.kind.by_class:
        told = cast(Encoded, knowledge.kind.encode(numbers)).codes.tolist()
        if (count := len(knowledge.reader.samples(examples))) != len(told):
            raise DataError(f"{count} examples but {len(told)} numbers: each example needs one")
    elif count := len(knowledge.reader.samples(examples)):
        groups = None if group_by is None else Origins.of_each(group_by, count, _SUPPORT)
        table = Table(examples, origins=groups)
        origins, sketches, again = origins_of(table, knowledge.modality, knowledge.support)
        warnings = tuple(found.told for found in of_other_classes(table, knowledge.modality, again, name))
    if not knowledge.support:
        knowledge = replace(knowledge, taught=knowledge.reader.scale(examples))
    knowledge, kept = kept_of(knowledge, examples, ways)
    kept = kept._replace(origins=origins, sketches=sketches)
    if knowledge.kind.by_class and name not in knowledge.support and _by_name(knowledge):
        knowledge, named = kept_of_names(knowledge, [name], ways)
        kept = named.beside(kept)
    before = next(iter(knowledge.support.values()), kept).values
    if isinstance(kept.values, Tensor) and isinstance(before, Tensor) and kept.values.shape[1:] != before.shape[1:]:
        new, known = (tuple(each.shape[1:]) for each in (kept.values, before))
        raise DataError(
            f"what it keeps of {knowledge.reader.samples(examples).name(0)} has the shape {new}, and of the examples "
            f"so far {known}: give inputs of the size that it was trained on"
        )
    return knowledge, Change("add", name, "", *kept._replace(numbers=tuple(told)), warnings)


def _by_name(knowledge: Knowledge) -> bool:
    """Whether a further class is learned by its name, too: all others are, or there are none."""
    learns = isinstance(knowledge.algorithm, NamingAlgorithm) and reads_names(knowledge)
    return learns and all(any(kept.named) for kept in knowledge.support.values())


def after(knowledge: Knowledge, changes: Sequence[Change]) -> Knowledge:
    """Return what is known after changes: after many it costs no more than learning anew.

    Raises:
        DataError: one is of a class that there is not, or gives two classes one name.
        ConfigError: the algorithm's head was trained for a fixed number of classes.
    """
    if 1 < len(changes) <= _FEW and isinstance(knowledge.state, Held):
        return reduce(lambda known, change: after(known, [change]), changes, knowledge)
    support = reduce(changed, changes, knowledge.support)
    if all(change.kind == "rename" for change in changes):
        return replace(knowledge, support=support)
    return _learned(knowledge, support, changes[0].name if len(changes) == 1 else None)


def restored(knowledge: Knowledge, support: Support, state: Any) -> Knowledge:
    """Return what is known with a support set and what was learned of it elsewhere."""
    return replace(knowledge, support=support, state=state, means=_means_of(knowledge, support), in_turn={})


def unshown(knowledge: Knowledge) -> Knowledge:
    """Return it without the small pictures of its examples, and without what copies are known by, as these are such."""
    bare = {name: kept._replace(shown=(b"",) * kept.examples, sketches=()) for name, kept in knowledge.support.items()}
    return replace(knowledge, support=bare)


def _learned(knowledge: Knowledge, support: Support, name: Label | None = None) -> Knowledge:
    """Return what is known once a support set was learned, which differs in one class from the known one, or in all."""
    state, means = None, None
    if support and name is not None:
        state, means = _followed(knowledge, support, name)
    elif support:
        state, means = _adapted(knowledge, support), _means_of(knowledge, support)
    return replace(knowledge, support=support, state=state, means=means, calibrated=None, in_turn={})


def _followed(knowledge: Knowledge, support: Support, name: Label) -> tuple[Any, Rows | None]:
    """Return what was learned of a support set that differs in one class from the known one, and the classes' means."""
    place = list(knowledge.support).index(name) if name in knowledge.support else None
    before, then = (known[name].values if name in known else None for known in (knowledge.support, support))
    held = _held(knowledge)
    if held is None:
        state = _adapted(knowledge, support)
    else:
        with torch.inference_mode(), torch.autocast(knowledge.reader.device.type, enabled=False):
            state = held.changed(place, before, then)
    if knowledge.means is not None:
        mean = None if then is None else _mean_of(knowledge, support[name])[None]
        return state, knowledge.means.changed(place, mean)
    return state, _means_of(knowledge, support)


def _held(knowledge: Knowledge) -> Held | None:
    """Return what was learned in a form that follows a change, if there is one."""
    if isinstance(knowledge.state, Held):
        return knowledge.state
    by_class = knowledge.support and knowledge.kind.by_class
    if not by_class or not isinstance(knowledge.algorithm, EmbeddingAlgorithm):
        return None
    with torch.inference_mode():
        return knowledge.algorithm.hold(knowledge.state, [kept.values for kept in knowledge.support.values()])


@torch.inference_mode()
def _adapted(knowledge: Knowledge, support: Support) -> Any:
    algorithm, values = knowledge.told(support)
    kept_S = join(values)
    targets_S = _targets(knowledge, support, list(map(size, values))).to(device_of(kept_S))
    state = algorithm.adapt(knowledge.encoder, kept_S, targets_S, len(support))
    _check_finite(state)
    # As a file gives them back: sums over weights that lie otherwise in memory are rounded otherwise.
    return tree_map(lambda leaf: leaf.contiguous() if isinstance(leaf, Tensor) else leaf, state)


def _targets(knowledge: Knowledge, support: Support, counts: Sequence[int]) -> Tensor:
    """Return the class of each example, or its number as the network gives it, in float32 or better: ``[S]``."""
    if knowledge.kind.by_class:
        return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    numbers = [number for kept in support.values() for number in kept.numbers]
    scaled: Tensor = knowledge.kind.scaled(torch.tensor(numbers, dtype=torch.float64))
    weight = next(knowledge.encoder.parameters(), torch.empty(0))
    return scaled.to(exact(weight).dtype)


def kept_of(knowledge: Knowledge, inputs: Any, ways: int) -> tuple[Knowledge, Kept]:
    """Return what is kept of examples, and what is known of inputs having seen them."""
    if not len(knowledge.reader.samples(inputs)):
        raise DataError("no examples were given: adapting needs at least one per class")
    encoder, algorithm = knowledge.encoder, knowledge.algorithm
    if not algorithm.feature_shape:
        algorithm.meet(encoder, knowledge.reader.feature_shape(inputs), ways)
    with knowledge.reader.explained(inputs, algorithm.feature_shape), torch.inference_mode():
        shown: list[bytes] = []
        like: list[Batch] = []

        def noted() -> Iterator[Batch]:
            for part in knowledge.reader.parts(inputs, shown):
                like.append(each(lambda leaf: leaf[:0].cpu(), part))
                yield part

        values = algorithm.keep(encoder, noted())
        _check_finite(values)
    rounding = max(knowledge.rounding, rounding_of(encoder))
    return replace(knowledge, like=like[0], rounding=rounding), Kept(values, tuple(shown))


def kept_of_names(knowledge: Knowledge, names: Sequence[Label], ways: int) -> tuple[Knowledge, Kept]:
    """Return what is kept of the names of classes, and what is known of inputs having seen them.

    Raises:
        ConfigError: a name is no example.
    """
    if knowledge.encoder.reads_words is None or knowledge.modality.in_words:
        knowledge, kept = kept_of(knowledge, [in_words(knowledge.modality, name) for name in names], ways)
        return knowledge, kept._replace(named=(True,) * len(names))
    kept = seen_in_words(knowledge, names)
    return met(knowledge, kept, ways), kept


def _means_of(knowledge: Knowledge, support: Support) -> Rows | None:
    """Return the mean of each class's embeddings, where there are such."""
    if not support or not knowledge.kind.by_class or not isinstance(knowledge.algorithm, EmbeddingAlgorithm):
        return None
    return Rows(torch.stack([_mean_of(knowledge, kept) for kept in support.values()]))


def _mean_of(knowledge: Knowledge, kept: Kept) -> Tensor:
    """Return the mean of a class's embeddings ``[D]``, but for that of its name where there are others."""
    apart = knowledge.encoder.reads_words is not None and not all(kept.names)
    mean_D: Tensor = (knowledge.examples_of(kept) if apart else kept).values.mean(0)
    return mean_D


def _check_finite(learned: Any) -> None:
    if not all(leaf.isfinite().all() for leaf in tree_leaves(learned) if isinstance(leaf, Tensor)):
        raise DataError(
            "what was learned is not finite: an example holds NaN or infinite values, or the model was trained until "
            "it diverged"
        )


def _frozen(module: Any) -> Any:
    """Return a copy that nothing trains; or the module itself, where nothing does."""
    trains = any(part.training for part in module.modules()) or any(each.requires_grad for each in module.parameters())
    return copy.deepcopy(module).eval().requires_grad_(False) if trains else module
