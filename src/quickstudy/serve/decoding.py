"""From the files of a request to pictures, within limits."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from quickstudy.data.samples import Load
from quickstudy.errors import ConfigError, DataError
from quickstudy.pictures import load_image
from quickstudy.serve.service import Service


class Limits(NamedTuple):
    """Of one request's pictures."""

    images: int = 64
    pixels: int = 25_000_000
    """Of one picture, before it is resized."""


class Decoder:
    """Makes pictures for a service of the contents of files.

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
            raise DataError(f"{count} pictures: give 1 to {self.limits.images}, in the field 'images'")

    def __call__(self, contents: list[bytes]) -> list[Tensor]:
        """Return a picture ``[C, H, W]`` for each file.

        Raises:
            DataError: one cannot be read; the message has its place, from 0.
        """
        pictures = []
        for number, content in enumerate(contents):
            try:
                pictures.append(self.one(content))
            except DataError as error:
                raise DataError(f"picture {number}: {error}") from error
        return pictures

    def one(self, content: bytes) -> Tensor:
        """Return the picture ``[C, H, W]`` in a file.

        Raises:
            DataError: it cannot be read.
        """
        picture: Tensor = self._load()(content)
        return picture

    def _load(self) -> Load:
        load = self._service.load
        if load is torch.as_tensor:
            raise ConfigError(
                "the model takes tensors, as it was made without a function that loads pictures: make it with "
                "quickstudy adapt, model.adapt(...), or Predictor(..., load=load_image)"
            )
        if isinstance(load, partial) and load.func is load_image:
            load = partial(load, max_pixels=self.limits.pixels)
        return load
