"""Vectors of tokens as a backbone: the mean that model2vec makes, read from a folder as it writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from quickstudy import ConfigError, Predictor
from quickstudy.nets import build_encoder
from quickstudy.text import Text

WORDS = ["[UNK]", "[CLS]", "card", "lost", "my", "rate", "what", "the"]


def written(folder: Path, tensors: dict[str, Tensor], **config: Any) -> str:
    """Write a model as model2vec does; its tokenizer marks the beginning of texts, which has no part in vectors."""
    folder.mkdir(exist_ok=True)
    tokenizer = Tokenizer(models.WordLevel({word: code for code, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $0", special_tokens=[("[CLS]", 1)])
    tokenizer.enable_padding()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec", **config}))
    save_file(tensors, folder / "model.safetensors")
    return str(folder)


def vectors_of(name: str, texts: list[str], **options: Any) -> Tensor:
    encoder = build_encoder(name, options).eval()
    modality = Text(**(encoder.reads or {})["options"])
    with torch.no_grad():
        return torch.cat([encoder({key: leaf[None] for key, leaf in modality.load(text).items()}) for text in texts])


def test_a_text_is_the_mean_of_its_known_tokens(tmp_path: Path) -> None:
    matrix = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    name = written(tmp_path / "plain", {"embeddings": matrix}, normalize=False)
    found = vectors_of(name, ["lost card", "my strange card", "nothing known"])
    expected = torch.stack([matrix[[3, 2]].mean(0), matrix[[4, 2]].mean(0), torch.zeros(4)])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(vectors_of(name, ["lost card"], normalize=True), F.normalize(expected[:1]))

    mapping, weights = torch.tensor([0, 0, 1, 2, 0, 1, 2, 0]), torch.arange(8.0)
    some = {"embeddings": (10 * matrix[:3]).to(torch.int8), "mapping": mapping, "weights": weights.double()}
    shared = written(tmp_path / "shared", some, normalize=True)
    rows = some["embeddings"].float()
    mean = (3 * rows[2] + 2 * rows[1]) / 2  # of "lost" and "card"
    torch.testing.assert_close(vectors_of(shared, ["lost card"]), F.normalize(mean, dim=0)[None])


def test_it_learns_from_examples_and_is_saved_without_its_folder(tmp_path: Path) -> None:
    name = written(tmp_path / "model", {"embeddings": torch.eye(8)}, normalize=True)
    predictor = Predictor.from_backbone(
        name, ["lost card", "my lost card", "what rate", "the rate"], ["a", "a", "b", "b"]
    )
    asked = ["my card", "what the rate"]
    assert predictor.predict(asked, may_be_unknown=False) == ["a", "b"]
    predictor.save(tmp_path / "saved")
    (tmp_path / "model").rename(tmp_path / "gone")
    read = Predictor.load(tmp_path / "saved")
    assert (read.predict_proba(asked) == predictor.predict_proba(asked)).all()


def test_what_is_damaged_is_told(tmp_path: Path) -> None:
    name = written(tmp_path / "x", {"embeddings": torch.eye(8)[:7]})
    with pytest.raises(ConfigError, match="are 7 vectors, and its tokenizer has 8 tokens: the files are of two models"):
        build_encoder(name)
    with pytest.raises(ConfigError, match="pooling='cls': static embeddings have their mean alone"):
        build_encoder(name, {"pooling": "cls"})
    (tmp_path / "x" / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"cannot be read: .*There must be config.json, tokenizer.json and model"):
        build_encoder(name)
