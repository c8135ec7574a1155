"""From what a request holds to inputs, within limits."""

from __future__ import annotations

import json
import logging
import time
from typing import Any, NamedTuple

from quickstudy.data.samples import Loaded
from quickstudy.domains import DOMAINS
from quickstudy.errors import ConfigError, DataError, brief
from quickstudy.modality import MODALITIES, Code, Modality, Wire
from quickstudy.serve.schemas import takes_texts
from quickstudy.serve.service import Service
from quickstudy.torch_internals import tree_leaves

_LONGEST_NAME = 80
_LOG = logging.getLogger(__name__)


class Limits(NamedTuple):
    """Of one request's pictures."""

    images: int = 64
    pixels: int = 25_000_000
    """Of one picture, before it is resized."""
    memory: int = 512 << 20
    """Bytes of all that one request's inputs become."""
    seconds: float = 30
    """Of a processor, that the inputs of one request may take to be read: no further one is begun after these."""


class File(NamedTuple):
    """What somebody sent."""

    content: Any
    """The bytes of a file, or a value of JSON."""
    name: str = ""
    """As its sender calls it, with folders or without."""

    def __str__(self) -> str:
        base = self.name.replace("\\", "/").rpartition("/")[2]
        return base[:_LONGEST_NAME].encode("utf-8", "replace").decode() or f"{len(self.content)} bytes"


class Decoder:
    """Makes inputs for a service of what was sent to it.

    Args:
        service: whose model says what an input is.
        limits: of one request.

    Raises:
        ConfigError: its inputs cannot be sent; whenever one is to be decoded, too, as a model may be replaced.
    """

    def __init__(self, service: Service, limits: Limits) -> None:
        self._service, self.limits = service, limits
        self._modality()

    @property
    def wire(self) -> Wire:
        """How inputs are sent; those that a function of one's own reads are files, sent like pictures."""
        return self._modality().wire or MODALITIES[DOMAINS[0]].wire  # type: ignore[return-value]

    @property
    def called(self) -> str:
        """What one input is called."""
        self._modality()
        return self._service.called

    def check(self, count: int) -> None:
        """Check how many inputs there are.

        Raises:
            DataError: none, or too many.
        """
        if not 0 < count <= self.limits.images:
            field = self.wire.field
            raise DataError(
                f"{count} {self.called}s: send 1 to {self.limits.images} in the field '{field}', curl -F {field}=@"
                f"{'who.jpg' if field == 'images' else 'file'}"
            )

    def __call__(self, files: list[File]) -> list[Loaded]:
        """Return an example for each file, a picture ``[C, H, W]`` for instance.

        Raises:
            DataError: one cannot be read; the message has its place, from 1. Or all take too much memory or time.
        """
        examples, held, began = [], 0, time.thread_time()
        for number, file in enumerate(files, 1):
            try:
                examples.append(self.one(file))
            except DataError as error:
                raise DataError(f"{self.called} {number}: {error}") from error
            held += sum(leaf.nbytes for leaf in tree_leaves(examples[-1].example))
            if held > self.limits.memory:
                raise DataError(
                    f"the first {number} {self.called}s take {held >> 20:,} MB as the model is shown them; more than "
                    f"{self.limits.memory >> 20:,} of one request are refused: send fewer at once, or smaller ones"
                )
            if number < len(files) and (took := time.thread_time() - began) > self.limits.seconds:
                raise DataError(
                    f"the first {number} of {len(files)} {self.called}s took {took:.0f} s to read; more than "
                    f"{self.limits.seconds:g} s for one request are refused: send fewer at once, or smaller ones"
                )
        return examples

    def one(self, file: File) -> Loaded:
        """Return the example in a file.

        Raises:
            DataError: it cannot be read.
        """
        modality = self._modality()
        if isinstance(file.content, str) and not takes_texts(self.wire):  # which would be the name of a file here
            kind = self.wire.schema.get("type") or "list"
            if parts := self.wire.schema.get("required"):
                raise DataError(
                    f"{brief(file.content)} is a text alone, and one of '{self.wire.field}' has a "
                    f"{' and a '.join(parts)}: send {json.dumps(dict.fromkeys(parts, '...'))}, or its file"
                )
            raise DataError(
                f"{brief(file.content)} is a text, and a {self.called} is none: send its file, or its {kind}"
            )
        try:
            return Loaded.of(modality.from_wire(file.content, file.name), modality)
        except ConfigError:
            raise
        except DataError as error:
            raise DataError(error.plain.replace(f": {error.__cause__}", "")) from error  # in words of Python, or Pillow
        except Exception as error:  # a model may come with a function of its own
            _LOG.exception("a %s could not be read", self.called)
            raise DataError(f"'{file}' cannot be read as a {self.called}") from error

    def _modality(self) -> Modality:
        modality = self._service.modality
        if modality.wire is None and not isinstance(modality, Code):
            raise ConfigError(
                "the model that is served takes no pictures, as it learned from numbers: serve one that learned from "
                "pictures, as quickstudy adapt makes it"
            )
        return modality.within(self.limits.pixels)
