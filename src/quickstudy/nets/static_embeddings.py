"""A vector for each token, and the mean of them for a text: no layers, hundreds of times as fast as attention.

Folders and repositories as model2vec writes them: a tokenizer, and a matrix in safetensors.
https://github.com/MinishLab/model2vec

Shapes: N texts, L tokens, V known tokens, D features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import ConfigError, check_counts, first_line, require
from quickstudy.nets.registry import BACKBONES
from quickstudy.nets.sequences import by_window

_WEIGHTS, _TOKENIZER = "model.safetensors", "tokenizer.json"
_MATRIX = "embeddings"
_LONGEST = 512
"""Tokens of a text at most, where the model does not say: as many as model2vec reads."""


@BACKBONES.register("static_embeddings")
class StaticEmbeddings(nn.Module):
    """The mean of the vectors of a text's tokens; of tokens that are all unknown it is zero.

    Args:
        vocabulary_size: V.
        width: D.
        normalize: whether the mean is brought to the length 1.
        unknown: the token that stands for unknown ones, which has no part in the mean; None: there is none.
        tokenizer: what the vectors are of, as JSON; None: it is learned from the data.

    Raises:
        ConfigError: a size is out of range.
    """

    adaptation_layers = 0
    """What MAML and its family adapt of it, unless they are told: nothing but the head."""

    def __init__(
        self,
        vocabulary_size: int,
        width: int = 256,
        normalize: bool = True,
        unknown: int | None = None,
        tokenizer: str | None = None,
    ) -> None:
        check_counts(vocabulary_size=vocabulary_size, width=width)
        super().__init__()
        self.vocabulary_size, self.width = vocabulary_size, width
        self.normalize, self.unknown = normalize, unknown
        self.tokens = nn.Embedding(vocabulary_size, width)
        self.reads: Mapping[str, Any] = {"name": "text", "options": {"tokenizer": tokenizer} if tokenizer else {}}

    def forward(self, texts: Batch) -> Tensor:
        """Return ``[N, D]`` of ``{"ids": [N, L], "mask": [N, L]}``, or of windows ``[N, W, L]``."""
        embedded_ND = by_window(self._mean, texts)
        return F.normalize(embedded_ND, dim=1) if self.normalize else embedded_ND

    def _mean(self, texts: Batch) -> Tensor:
        known_NL = texts["mask"] if self.unknown is None else texts["mask"] & (texts["ids"] != self.unknown)
        vectors_NLD = self.tokens(texts["ids"])
        weights_NL1 = known_NL[..., None].to(vectors_NLD.dtype)
        mean_ND: Tensor = (vectors_NLD * weights_NL1).sum(1) / weights_NL1.sum(1).clamp(min=1)
        return mean_ND

    @property
    def options(self) -> dict[str, Any]:
        """What makes such a one, without its tokenizer, which the data holds."""
        told = {"vocabulary_size": self.vocabulary_size, "width": self.width, "normalize": self.normalize}
        return told if self.unknown is None else {**told, "unknown": self.unknown}


def is_static(folder: Path) -> bool:
    """Whether a model's folder holds vectors of tokens."""
    try:
        with safetensors.safe_open(folder / _WEIGHTS, "pt") as file:
            return _MATRIX in file.keys()  # noqa: SIM118 - no mapping
    except (OSError, safetensors.SafetensorError):
        return False


def read(folder: Path, kwargs: Mapping[str, Any], pretrained: bool = True) -> StaticEmbeddings:
    """Read a model's folder.

    Args:
        folder: with its tokenizer, its matrix, and ``config.json``.
        kwargs: ``normalize``, in place of what its file says.
        pretrained: whether its vectors are taken; else they begin at random.

    Raises:
        MissingPackageError: tokenizers is not installed.
        ConfigError: a file is missing or damaged, they do not belong together, or there is no such pooling.
    """
    if kwargs.get("pooling") not in (None, "mean"):
        raise ConfigError(f"pooling='{kwargs['pooling']}': static embeddings have their mean alone, leave pooling out")
    tokenizers: Any = require("tokenizers", extra="text")
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / _TOKENIZER))
        vectors_VD = _vectors(safetensors.torch.load_file(folder / _WEIGHTS))
    except Exception as error:  # of which tokenizers raises no other
        raise ConfigError(
            f"the static embeddings in '{folder}' cannot be read: {first_line(error)}. There must be config.json, "
            f"{_TOKENIZER} and {_WEIGHTS}: download the model again"
        ) from error
    if tokenizer.get_vocab_size() != len(vectors_VD):
        raise ConfigError(
            f"the static embeddings in '{folder}' are {len(vectors_VD)} vectors, and its tokenizer has "
            f"{tokenizer.get_vocab_size()} tokens: the files are of two models, download it again"
        )
    tokenizer.no_padding()
    tokenizer.enable_truncation(config.get("max_length") or _LONGEST)
    told = json.loads(tokenizer.to_str())
    token = told["model"].get("unk_token")
    unknown = told["model"].get("unk_id") if token is None else tokenizer.token_to_id(token)
    asked = kwargs.get("normalize")
    normalize = bool(config.get("normalize", False) if asked is None else asked)
    alone = json.dumps({**told, "post_processor": None})  # which would mark the ends of texts
    made = StaticEmbeddings(len(vectors_VD), vectors_VD.shape[1], normalize, unknown, alone)
    if pretrained:
        made.tokens.weight = nn.Parameter(vectors_VD)
    return made


def _vectors(found: Mapping[str, Tensor]) -> Tensor:
    """Return the vector of each token, ``[V, D]``: of a row that it may share with others, by a weight of its own."""
    vectors = found[_MATRIX].float()
    if "mapping" in found:
        vectors = vectors[found["mapping"].long()]
    return vectors * found["weights"].float()[:, None] if "weights" in found else vectors
