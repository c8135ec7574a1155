"""The examples of a ladder as rungs take them: embedded once for all of them, by each backbone and by none.

Shapes: N examples, S support, Q query, W classes, D features.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from quickstudy.algorithms import Algorithm
from quickstudy.algorithms.nearest_centroid import NearestCentroid
from quickstudy.batches import take
from quickstudy.data.content import told_by
from quickstudy.data.table import Table
from quickstudy.data.targets import Label, as_label
from quickstudy.domains import DOMAINS
from quickstudy.errors import few
from quickstudy.ladder.draws import codes_of
from quickstudy.learning.adapting import acquainted, fitted_to, kept_of, kept_of_names, untaught
from quickstudy.learning.changes import Kept
from quickstudy.learning.embeddings import embeddings
from quickstudy.learning.knowledge import Knowledge
from quickstudy.learning.naming import is_word, reads_names
from quickstudy.modality import MODALITIES, Modality, Tensors, modality_of
from quickstudy.nets import Encoder, build_encoder, purposes
from quickstudy.nets.weights import WHEELS

WithNames = Literal["no", "too", "alone"]
"""Whether the names of classes are learned: not, beside examples, or alone."""
Backbone = str | nn.Module
"""A name, or a module from ``[N, ...]`` to ``[N, D]``."""


@dataclass(frozen=True, eq=False)
class Others:
    """Examples of other classes than those that are asked, which an encoder may learn from beforehand.

    Args:
        table: the examples.
        ways: classes of an episode.
        asked: codes of the classes that may be asked then, where the table is of others of the same data; nothing: all.
        lacking: why nothing can be learned from them, if so.
    """

    table: Table
    ways: int
    asked: tuple[int, ...] = ()
    lacking: str = ""


@dataclass(frozen=True, eq=False)
class Embedded:
    """All examples, as a backbone embeds them.

    Args:
        table: the examples.
        knowledge: of who learns with it, before it has learned anything; how inputs are read.
        examples: the inputs, as its reader takes them.
        values: ``[N, D]``, their embeddings.
        seconds: what these took.
        others: examples of other classes; None: there are none.
        training_seconds: what it took to train the encoder on these; 0: it was not.
    """

    table: Table
    knowledge: Knowledge
    examples: Any
    values: Tensor
    seconds: float
    others: Others | None = None
    training_seconds: float = 0.0

    @property
    def encoder(self) -> Encoder:
        """What embeds."""
        return self.knowledge.encoder

    @cached_property
    def targets(self) -> Tensor:
        """``[N]``, codes of classes."""
        return torch.from_numpy(codes_of(self.table))

    @cached_property
    def names(self) -> Tensor:
        """The names of the classes as if each were an example, ``[W, D]``, unless they are ``nameless``."""
        values: Tensor = self._names.values.cpu()
        return values

    @property
    def nameless(self) -> str:
        """Why the name of a class tells nothing of it; nothing where it does: inputs, or backbone, know words."""
        known, classes = self.knowledge, self.table.classes
        if not reads_names(known):
            helps = ": name a backbone with a side of words, as CLIP" if self.encoder.planar else ""
            return f"names of classes tell nothing of {known.modality.called}{helps}"
        silent = [] if known.modality.in_words else [name for name in classes if not is_word(name)]
        if silent or self.table.label_type != "str":
            return f"the names of the classes are no words: {few(silent or classes)}"
        return ""

    @cached_property
    def _names(self) -> Kept:
        return kept_of_names(self.knowledge, self.table.classes, len(self.table.classes))[1]

    def taught(self, algorithm: Algorithm, named: WithNames = "no") -> Knowledge:
        """Return what an algorithm learns of all examples.

        Args:
            algorithm: of embeddings.
            named: whether the name of each class is learned, too, or alone.
        """
        labels = [as_label(name, self.table.label_type) for name in self.table.classes]
        known, codes_W = replace(self.knowledge, algorithm=algorithm), np.arange(len(labels))
        if named == "alone":
            return fitted_to(known, self._names, codes_W, labels)
        shown: list[bytes] = []
        for _ in self.knowledge.reader.parts(self.examples, shown):
            pass  # which reads them once more, to show them
        kept, codes = Kept(self.values.to(self.encoder.device), tuple(shown)), self.targets.numpy()
        if named == "too":
            kept, codes = kept.beside(self._names), np.concatenate([codes, codes_W])
        return fitted_to(known, kept, codes, labels)

    @property
    def labels(self) -> list[Label]:
        """N classes, as the data has them."""
        names = [as_label(name, self.table.label_type) for name in self.table.classes]
        return [names[code] for code in self.targets.tolist()]

    @property
    def megabytes(self) -> float:
        """Of the encoder's weights and all embeddings, which a saved model holds."""
        return megabytes([*self.encoder.state_dict().values(), self.values])


def embedded(encoder: Encoder, modality: Modality, table: Table, keep: bool = True) -> Embedded:
    """Embed all examples, or find their embeddings again where they were kept.

    Args:
        encoder: in evaluation mode; one that takes the shape of its inputs from these is made anew.
        modality: how inputs are read; what it must learn of inputs it learns of all of them, without their labels.
        table: the examples.
        keep: whether embeddings are kept on disk.
    """
    began = time.perf_counter()
    inputs = table.inputs
    if not isinstance(inputs, (Tensor, dict)):
        inputs = [inputs[row] for row in range(len(table))]
    encoder, modality, inputs = acquainted(encoder, modality, inputs)
    known = untaught(encoder, NearestCentroid(), modality)
    examples = known.reader.listed(inputs)
    known = replace(known, taught=known.reader.scale(examples))
    known, _ = kept_of(known, take(examples, slice(1)) if isinstance(examples, dict) else examples[:1], 1)
    values = np.array(embeddings(known.encoder, modality, table.inputs, keep=keep))
    return Embedded(table, known, examples, torch.from_numpy(values), time.perf_counter() - began)


Prepare = Callable[[Embedded, Path | None], Embedded]
"""Called with the examples as a backbone embeds them, and the folder of what is kept."""


class Examples:
    """The examples of a ladder, by backbone.

    Args:
        table: the examples.
        modality: how inputs are read, where a backbone does not say otherwise.
        domain: what they are; nothing for tensors.
        encoders: by name, as ``encoders_of`` makes them.
        others: examples of other classes, if there are any.
        folder: where encoders are kept that were trained on those; None: they are not.
    """

    def __init__(
        self,
        table: Table,
        modality: Modality,
        domain: str,
        encoders: Mapping[str, Encoder],
        others: Others | None = None,
        folder: Path | None = None,
    ) -> None:
        self.table, self.modality, self.domain, self.encoders = table, modality, domain, encoders
        self.others, self.folder = others, folder
        self._embedded: dict[str, Embedded] = {}
        self._prepared: dict[tuple[str, str], Embedded] = {}

    def on(self, backbone: str) -> Embedded:
        """Return the examples as a backbone embeds them; ``""``: as they are, without any."""
        if backbone not in self._embedded:
            if backbone:
                encoder, modality = self.encoders[backbone], self.modality
                if encoder.reads is not None:  # a backbone that brings its own tokenizer, or rate of samples
                    own = modality_of(encoder.reads, "a backbone")
                    modality = own.with_options({**_set(modality, own), **encoder.reads["options"]})
            else:
                network, modality = self.modality.raw()
                encoder = build_encoder(network)
            with repeatable():
                found = embedded(encoder, modality, self.table, keep=bool(backbone))
            self._embedded[backbone] = replace(found, others=self.others)
        return self._embedded[backbone]

    def prepared(self, rung: str, backbone: str, prepare: Prepare) -> Embedded:
        """Return the examples as a rung takes them on a backbone, which it is asked for once."""
        if (rung, backbone) not in self._prepared:
            self._prepared[rung, backbone] = prepare(self.on(backbone), self.folder)
        return self._prepared[rung, backbone]


def encoders_of(
    backbones: Iterable[Backbone], domain: str, device: Any = "cpu", prompts: Sequence[str] = ()
) -> dict[str, Encoder]:
    """Return what embeds, by its name; of what a backbone is for, such as ``"fast"``, the name of what is taken for it.

    Args:
        backbones: names of, or modules, which are called like their classes.
        domain: what the examples are, which ``"fast"`` depends on; nothing for tensors.
        device: where they are to run.
        prompts: what those with a side of words put names of classes into; none: their own.

    Raises:
        ConfigError: a name is unknown, or its weights cannot be had.
        MissingPackageError: a package is not installed.
    """
    found: dict[str, Encoder] = {}
    for backbone in backbones:
        options: Mapping[str, Any] = {"prompts": list(prompts)} if prompts else {}
        if isinstance(backbone, str) and backbone in purposes.ORDER:
            choice = purposes.chosen(backbone, domain)
            backbone, options = choice.backbone, {**choice.options, **options}
        name = backbone if isinstance(backbone, str) else type(backbone).__name__
        if isinstance(backbone, str) and name in found:
            continue
        while name in found:
            name += "'"
        with repeatable():  # of weights that start from nothing, so that a second climb has the same
            found[name] = build_encoder(backbone, options, domain=domain).to(device).eval()
    return found


def digest_of(encoder: Encoder) -> str:
    """Return what tells an encoder's weights from others."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode())
        for part in told_by(tensor):
            digest.update(part)
    return digest.hexdigest()


@contextmanager
def repeatable() -> Iterator[None]:
    """Seed what draws at random within, and leave others' generators as they were."""
    from lightning.pytorch.utilities.seed import isolate_rng  # it takes long to import, and help needs none

    with isolate_rng():
        torch.manual_seed(0)
        yield


def usual_backbone(modality: Modality) -> str:
    """Return the name of what embeds without a download, and say so where that is no pretrained one of this domain.

    It is the domain's pretrained one; of what needs no weights its name; of videos the one of pictures, where it is at
    hand; and else the domain's own network, with random weights.
    """
    domain, (raw, _) = domain_of(modality), modality.raw()
    pretrained = {wheel.extra: name for name, wheel in WHEELS.items()}
    if domain in pretrained or isinstance(raw, str):
        return pretrained.get(domain, str(raw))
    name, told = modality.backbone, "whose weights are random"
    if domain == "video" and purposes.is_at_hand(pretrained["image"]):
        name, told = pretrained["image"], "which sees each frame by itself"
    if name:
        purposes.say(
            f"no backbone is named: {modality.called} are embedded by {name}, {told}; --backbones names others"
        )
    return name


def domain_of(modality: Modality) -> str:
    """Return the domain of what inputs are; nothing for tensors and others."""
    if isinstance(modality, Tensors):
        return ""
    name = MODALITIES.name_of(type(modality))
    return name if name in DOMAINS else ""


def megabytes(tensors: Iterable[Tensor]) -> float:
    """Return how much tensors take."""
    return float(sum(each.numel() * each.element_size() for each in tensors)) / 1e6


def memory() -> float:
    """Return the most memory that this process has taken so far, in megabytes; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0.0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _set(modality: Modality, own: Modality) -> dict[str, Any]:
    """Return the options that a user gave, and what was learned, as far as a backbone's own modality has them."""
    return {name: value for name, value in modality.options.items() if name in own.settings}
