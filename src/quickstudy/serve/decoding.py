"""From the files of a request to pictures, within limits."""

from __future__ import annotations

import logging
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from quickstudy.data.samples import Load
from quickstudy.errors import ConfigError, DataError
from quickstudy.image.modality import load_image
from quickstudy.serve.service import Service

_LONGEST_NAME = 80
_LOG = logging.getLogger(__name__)


class Limits(NamedTuple):
    """Of one request's pictures."""

    images: int = 64
    pixels: int = 25_000_000
    """Of one picture, before it is resized."""


class File:
    """What somebody sent, which ``load_image`` reads as it does a file of an archive.

    Args:
        content: of the file.
        name: as its sender calls it, with folders or without.
    """

    def __init__(self, content: bytes, name: str | None = None) -> None:
        self._content = content
        base = (name or "").replace("\\", "/").rpartition("/")[2]
        self._name = base[:_LONGEST_NAME].encode("utf-8", "replace").decode() or f"{len(content)} bytes"

    def __str__(self) -> str:
        return self._name

    def read_bytes(self) -> bytes:
        """Return the content."""
        return self._content


class Decoder:
    """Makes pictures for a service of the files that were sent to it.

    Args:
        service: whose model says what a picture is.
        limits: of one request.

    Raises:
        ConfigError: the model takes no pictures; whenever one is to be decoded, too, as a model may be replaced.
    """

    def __init__(self, service: Service, limits: Limits) -> None:
        self._service, self.limits = service, limits
        self._load()

    def check(self, count: int) -> None:
        """Check how many files there are.

        Raises:
            DataError: none, or too many.
        """
        if not 0 < count <= self.limits.images:
            raise DataError(
                f"{count} pictures: send 1 to {self.limits.images} in the field 'images', curl -F images=@who.jpg"
            )

    def __call__(self, files: list[File]) -> list[Tensor]:
        """Return a picture ``[C, H, W]`` for each file.

        Raises:
            DataError: one cannot be read; the message has its place, from 1.
        """
        pictures = []
        for number, file in enumerate(files, 1):
            try:
                pictures.append(self.one(file))
            except DataError as error:
                raise DataError(f"picture {number}: {error}") from error
        return pictures

    def one(self, file: File) -> Tensor:
        """Return the picture ``[C, H, W]`` in a file.

        Raises:
            DataError: it cannot be read.
        """
        try:
            picture: Tensor = self._load()(file)
        except ConfigError:
            raise
        except DataError as error:
            raise DataError(str(error).replace(f": {error.__cause__}", "")) from error  # in words of Python, or Pillow
        except Exception as error:  # a model may come with a function of its own
            _LOG.exception("a picture could not be read")
            raise DataError(f"'{file}' cannot be read as a picture") from error
        return picture

    def _load(self) -> Load:
        load = self._service.load
        if load is torch.as_tensor:
            raise ConfigError(
                "the model that is served takes no pictures, as it learned from numbers: serve one that learned from "
                "pictures, as quickstudy adapt makes it"
            )
        if isinstance(load, partial) and load.func is load_image:
            return partial(load, max_pixels=self.limits.pixels)
        return lambda file: load(file.read_bytes())
