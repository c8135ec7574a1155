"""Ready-made augmentation of texts, by name: ``transform="delete_tokens"``.

Each takes and returns ``{"ids": [L], "mask": [L]}``.

Shapes: L tokens.
"""

from __future__ import annotations

import torch

from quickstudy.batches import Batch, each
from quickstudy.data.samples import TRANSFORMS

_DELETED = 0.1


@TRANSFORMS.register("dropout")
def dropout(text: Batch) -> Batch:
    """Return a text as it is: its views differ by what the network's own dropout leaves of them.

    Gao et al. 2021, "SimCSE: Simple Contrastive Learning of Sentence Embeddings", https://arxiv.org/abs/2104.08821
    """
    return text


@TRANSFORMS.register("delete_tokens")
def delete_tokens(text: Batch) -> Batch:
    """Return a text without a tenth of its tokens, drawn at random; the two that may mark its ends stay."""
    kept_L = torch.rand(text["ids"].shape[-1]) >= _DELETED  # of each window the same places
    kept_L[[0, -1]] = True
    return each(lambda leaf: leaf[..., kept_L], text)
