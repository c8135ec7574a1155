"""A trained model without Lightning: it answers and does not learn.

Shapes: N inputs, C classes, ``...`` the shape of one input.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self, Unpack

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quickstudy.batches import each, form_of, join
from quickstudy.data.table import Table
from quickstudy.data.targets import Label
from quickstudy.errors import DataError, check_choice, check_counts
from quickstudy.kinds.predictions import in_form, joined
from quickstudy.learning.embeddings import embeddings
from quickstudy.learning.reading import Reader
from quickstudy.saved import hub, model_folder

if TYPE_CHECKING:
    from quickstudy.saved import export

_AT_ONCE = 64


class TrainedModel(model_folder.Trained):
    """A network that was trained on fixed classes; ``model.predictor()`` makes one, and so does ``load``.

    See ``quickstudy.saved.model_folder.Trained`` for what it is made of.
    """

    learns: ClassVar[bool] = False
    """Whether it can be shown further classes."""
    transductive: ClassVar[bool] = False
    """Whether an answer depends on the other inputs of the call."""
    change_number: ClassVar[int] = 0
    """Of the last change that a service made of it."""

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.encoder, self.modality, self.encoder.fed)

    def __repr__(self) -> str:
        """Say what it answers and by which network."""
        name = self.encoder.made_by[0] if self.encoder.made_by else type(self.encoder.backbone).__name__
        return f"TrainedModel({type(self.kind).__name__}, {len(self.classes)} classes, {name})"

    if not TYPE_CHECKING:  # with which a checker would take any name

        def __getattr__(self, name: str) -> Any:
            """Say why it lacks what a model has that learned from examples, such as ``explain``."""
            from quickstudy.predictor import Predictor  # which few need here

            if name.startswith("_") or not hasattr(Predictor, name):
                raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'", name=name, obj=self)
            raise AttributeError(
                f"a TrainedModel has no '{name}': it answers as it was trained, and keeps no examples. A classifier "
                "that learned from examples has it: type model.adapt(inputs, labels) instead of model.predictor(), or "
                "load such a model with Predictor.load(folder)"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of ``"probabilities"``; none where answers are no classes."""
        return self.kind.classes

    @property
    def counts_(self) -> dict[Label, int]:
        """The classes as the training data had them, each with no example, as it keeps none."""
        return dict.fromkeys(self.kind.labels, 0)

    def about(self) -> dict[str, Any]:
        """Return what it is, in values that JSON has."""
        made_by = self.encoder.made_by
        about = {"backbone": made_by and made_by[0], "classes": len(self.classes), "labels": list(self.classes)}
        thresholds = getattr(self.kind, "thresholds", ())
        return about | ({"thresholds": dict(zip(self.classes, thresholds, strict=True))} if thresholds else {})

    def expected(self) -> list[str]:
        """Return in words what accuracy to expect: nothing, as it keeps no examples to tell it."""
        return []

    # ---- what it answers

    def predict(self, inputs: Any, output: str | None = None, *, batch_size: int = _AT_ONCE) -> Any:
        """Return the answers to N inputs, as ``Trainer.predict`` does.

        Args:
            inputs: paths, pictures, arrays, whatever the training data may have been; or a batch ``[N, ...]``.
            output: a form of answer, see ``Trainer.predict``; default: the first that there is.
            batch_size: inputs that go through the network at once.

        Raises:
            ConfigError: there is no such form.
            DataError: an input cannot be read or does not fit, or an answer is not a number.
        """
        forms = (*self.kind.forms, *self.kind.named_forms)
        output = forms[0] if output is None else output
        check_choice("output", output, *forms)
        inputs = self._reader.listed(inputs)
        batches = self._outputs(inputs, batch_size)
        if (
            self.kind.placed and output in self.kind.forms
        ):  # answers to places are as large as pictures: not all at once
            return [answer for batch in batches for answer in self.kind.answers(batch, output)]
        return in_form(self.kind, list(batches), output, Table(inputs))

    def rank(self, inputs: Any, count: int = 5, *, nearest: int = 0, batch_size: int = _AT_ONCE) -> list[Any]:
        """Return for each of N inputs an ``Answer``, its label and the likeliest classes; else a value, as a number.

        Args:
            inputs: what to classify.
            count: how many of the likeliest classes to name, 1 or more.
            nearest: as ``Predictor.rank`` has it; it kept no examples, so there are none.
            batch_size: inputs that go through the network at once.

        Returns:
            With several labels per input, the label is a list of those above their thresholds.
        """
        check_counts(count=count)
        outputs = list(self._outputs(self._reader.listed(inputs), batch_size))
        return self.kind.ranked(joined(self.kind, outputs), count) if outputs else []

    def embed(self, inputs: Any, *, keep: bool = True, batch_size: int = _AT_ONCE) -> NDArray[Any]:
        """Return the features ``[N, D]`` that its encoder makes of N inputs, computed once; see ``embeddings``.

        Args:
            inputs: as ``predict`` takes them.
            keep: whether they are kept in files for the next time.
            batch_size: inputs that go through the encoder at once.

        Raises:
            DataError: an input cannot be read.
        """
        return embeddings(self.encoder, self.modality, inputs, keep=keep, at_once=batch_size)

    @torch.inference_mode()
    def _outputs(self, inputs: Any, batch_size: int) -> Iterator[Tensor]:
        check_counts(batch_size=batch_size)
        for part in self._reader.parts(inputs, at_once=batch_size):
            try:
                yield self.kind.outputs(self.encoder, self.head, part)
            except RuntimeError as error:
                given, known = form_of(part), None if self.like is None else form_of(self.like)
                if given == known:
                    raise
                trained = f", and it was trained on such of {known}" if known else ""
                raise DataError(f"the model cannot take inputs of {given}{trained}: {error}") from error

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self._reader.device

    # ---- files

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write it as a folder of JSON and safetensors; a model there is replaced.

        Args:
            folder: for its files.

        Raises:
            ConfigError: a service learned classes with the model that is there.
            OSError: the folder cannot be written.
        """
        model_folder.write_trained(folder, self)

    def export(self, path: str | os.PathLike[str], *, inputs: Any = None) -> export.Exported:
        """Write a graph that answers without quickstudy, and the names of its classes beside it.

        Args:
            path: ``x.onnx``, or ``x.pt2`` for torch.export; the names go to ``x.onnx.classes.safetensors``.
            inputs: some, where the form of them is not known; answers to them are compared, too.

        Raises:
            ConfigError: the network cannot be exported, or the graph answers otherwise.
            MissingPackageError: a package is not installed.
        """
        from quickstudy.saved import export  # which imports what few need

        like = None
        if inputs is not None:
            like = join(each(Tensor.cpu, part) for part in self._reader.parts(self._reader.listed(inputs)))
        return export.write_trained(path, self, like)

    def push_to_hub(self, repo_id: str, **options: Unpack[hub.PushOptions]) -> str:
        """Upload it to the Hugging Face Hub with a model card, and return the commit's address; see ``hub.push``.

        Args:
            repo_id: ``"owner/name"``; the repository is made if needed.
            options: see ``hub.PushOptions``.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save(folder)
            return hub.push(folder, repo_id, hub.trained_card, **options)

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike[str], *, revision: str | None = None, token: str | None = None, **options: Any
    ) -> Self:
        """Read what ``push_to_hub`` uploaded, or the folder that ``save`` wrote; see ``Predictor.from_pretrained``."""
        return cls.load(hub.fetched(name, revision, token), **options)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        device: str | torch.device = "cpu",
        *,
        load: Callable[[Any], Any] | None = None,
        backbone: nn.Module | None = None,
        head: nn.Module | None = None,
    ) -> Self:
        """Read what ``save`` wrote, here or elsewhere; no code is run from the files.

        Args:
            folder: of a trained model.
            device: where it is to run.
            load: makes a tensor of one input, where it was trained with a function of one's own.
            backbone, head: the modules, where it was made with such.

        Raises:
            DataError: a file is missing or damaged, or of a newer version.
            ConfigError: what was code is not given, or the model in the folder is one that learns.
        """
        return cls(**vars(model_folder.read_trained(folder, device, load, backbone, head)))
