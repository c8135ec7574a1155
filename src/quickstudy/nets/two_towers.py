"""Encoders of pictures that have a side of words, whose vectors lie in one space: CLIP, SigLIP and their like.

Radford et al. 2021, https://arxiv.org/abs/2103.00020; Zhai et al. 2023, https://arxiv.org/abs/2303.15343

Shapes: N inputs, L tokens, D features.
"""

from __future__ import annotations

import re
import string
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import ConfigError, brief, first_line

PROMPTS = (
    "a photo of a {}.",
    "itap of a {}.",
    "a bad photo of the {}.",
    "a photo of the large {}.",
    "a photo of the small {}.",
    "art of the {}.",
    "a {} in a video game.",
    "a origami {}.",
)
"""What the name of a class is put into, where nobody says otherwise: CLIP's own seven of eighty, and the plainest."""
Cleaning = Literal["", "lower", "canonical"]
"""What is done to a text before it is taken apart, beside what its tokenizer does: small letters; and no punctuation.

SigLIP was trained so, and the file of its tokenizer does not say it.
"""
_CUBIC, _LINEAR = 3, 2  # of PIL


class TwoTowers(nn.Module, ABC):
    """Two networks, of pictures and of words; a vector of either has the length 1.

    Args:
        network: both of them, with ``logit_scale``, the logarithm of what a cosine is multiplied by, and perhaps
            ``logit_bias``, which is added then.
        pictures: how pictures are read: ``image_size``, ``resize`` and ``interpolation`` as of ``Picture``, and the
            ``mean`` and ``std`` that they are normalised by.
        words: how texts are: ``tokenizer`` as JSON, ``length``, how many tokens it takes; ``pad``, what shorter ones
            are filled up with; ``side``, where; ``masked``, whether the network is told which these are; and ``clean``.
        prompts: texts with ``{}`` in them, where the name of a class goes; of its vectors in all of them the mean
            stands for it.

    Raises:
        ConfigError: a prompt has no place for a name.
    """

    adaptation_layers: int | Literal["all"] = "all"
    """What MAML and its family adapt of it, unless they are told: as their option of that name."""

    def __init__(
        self, network: Any, pictures: Mapping[str, Any], words: Mapping[str, Any], prompts: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.pictures, self.word_options = dict(pictures), dict(words)
        options = dict(pictures)
        self.normalized_by = tuple(options.pop("mean")), tuple(options.pop("std"))
        self.reads: Mapping[str, Any] = {"name": "image", "options": options}
        self.class_prompts = checked(PROMPTS if prompts is None else prompts)

    @property
    def scale(self) -> float:
        """What a cosine is multiplied by: a logit."""
        return float(self.network.logit_scale.detach().exp())

    @property
    def reads_words(self) -> Mapping[str, Any]:
        """What reads texts, as ``Modality.described`` says it."""
        return {
            "name": "text",
            "options": {"tokenizer": self.word_options["tokenizer"], "max_length": self.word_options["length"]},
        }

    def prompted(self, name: str) -> list[str]:
        """Return what stands for a name: it in each of the prompts."""
        return [cleaned(prompt.replace("{}", name), self.word_options["clean"]) for prompt in self.class_prompts]

    def forward(self, inputs: Batch) -> Tensor:
        """Return ``[N, D]`` of pictures ``[N, C, H, W]``, or of texts ``{"ids": [N, L], "mask": [N, L]}``."""
        made_ND = self._of_texts(inputs) if isinstance(inputs, dict) else self.of_pictures(inputs)
        return F.normalize(made_ND, dim=1)

    @abstractmethod
    def of_pictures(self, pixels: Tensor) -> Tensor:
        """Return ``[N, D]`` of pictures."""

    @abstractmethod
    def of_words(self, ids_NL: Tensor, mask_NL: Tensor | None) -> Tensor:
        """Return ``[N, D]`` of texts; without a mask they are as long as the network takes them."""

    def _of_texts(self, texts: Batch) -> Tensor:
        ids_NL, mask_NL = texts["ids"], texts["mask"]
        ids_NL = ids_NL.masked_fill(~mask_NL, self.word_options["pad"])
        if self.word_options["masked"]:
            return self.of_words(ids_NL, mask_NL)
        ids_NL = F.pad(ids_NL, (0, self.word_options["length"] - ids_NL.shape[1]), value=self.word_options["pad"])
        if self.word_options["side"] == "left":
            shifts = (ids_NL.shape[1] - mask_NL.sum(1)).tolist()
            ids_NL = torch.stack([ids.roll(shift) for ids, shift in zip(ids_NL, shifts, strict=True)])
        return self.of_words(ids_NL, None)


class TransformersTowers(TwoTowers):
    """Those of transformers: ``CLIPModel``, ``SiglipModel`` and such as are built alike."""

    @property
    def blocks_of_layers(self) -> nn.ModuleList:
        """The layers of attention of pictures, from the bottom to the top."""
        return next(part for part in self.network.vision_model.modules() if isinstance(part, nn.ModuleList))

    def of_pictures(self, pixels: Tensor) -> Tensor:
        """Return ``[N, D]`` of pictures."""
        found: Tensor = self.network.get_image_features(pixel_values=pixels).pooler_output
        return found

    def of_words(self, ids_NL: Tensor, mask_NL: Tensor | None) -> Tensor:
        """Return ``[N, D]`` of texts."""
        mask = None if mask_NL is None else mask_NL.long()
        found: Tensor = self.network.get_text_features(input_ids=ids_NL, attention_mask=mask).pooler_output
        return found


def checked(prompts: Sequence[str]) -> tuple[str, ...]:
    """Return prompts, each of which has one place for a name.

    Raises:
        ConfigError: one has not, or there are none.
    """
    listed = (prompts,) if isinstance(prompts, str) else tuple(prompts)
    for prompt in listed or ("",):
        if not isinstance(prompt, str) or prompt.count("{}") != 1:
            raise ConfigError(
                f"the prompt {brief(prompt)} has no place for a name, or several: type one {{}} in each, such as "
                "prompts=['a satellite photo of {}.']"
            )
    return listed


def cleaned(text: str, how: Cleaning) -> str:
    """Return a text as its network was trained to read it.

    >>> cleaned("A photo of a Cat-Fish.", "canonical")
    'a photo of a catfish'
    """
    text = text.lower() if how else text
    if how == "canonical":
        text = re.sub(r"\s+", " ", text.translate(str.maketrans("", "", string.punctuation))).strip()
    return text


def pictures_of(processor: Any, kind: str) -> dict[str, Any]:
    """Return how transformers' image processor reads pictures, for ``TwoTowers``.

    Args:
        processor: of a model.
        kind: of the model, for messages.

    Raises:
        ConfigError: it does something else than to resize, cut out the centre, and normalise.
    """
    try:
        size, cut = processor.size, processor.crop_size if processor.do_center_crop else None
        square = size.get("height"), size.get("width")
        resize: int | str = "squash" if size.get("shortest_edge") is None else int(size["shortest_edge"])
        image_size = square if cut is None else (cut.get("height"), cut.get("width"))
        known = {_CUBIC: "bicubic", _LINEAR: "bilinear"}
        made = {
            "image_size": int(image_size[0]) if image_size[0] == image_size[1] else [int(side) for side in image_size],
            "resize": resize,
            "interpolation": known[int(processor.resample)],
            "mean": [float(value) for value in processor.image_mean],
            "std": [float(value) for value in processor.image_std],
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"how the model of type '{kind}' reads pictures is not known here ({type(error).__name__}: "
            f"{first_line(error)}): name one of CLIP or SigLIP, or give a module of your own as backbone="
        ) from error
    if not (processor.do_resize and processor.do_normalize) or (cut is not None and resize == "squash"):
        raise ConfigError(f"the pictures of the model of type '{kind}' are resized in a way that is not known here")
    return made
