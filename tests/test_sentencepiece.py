"""Tokenizers of Marian's models: pieces of two languages by one numbering, and models that have them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers

from quickstudy import Trainer
from quickstudy.errors import ConfigError
from quickstudy.nets.sentencepiece import of_marian, pieces_of
from quickstudy.text import Translation, TranslationData
from quickstudy.trained import TrainedModel

ENGLISH = {"▁the": -1.0, "▁cat": -2.0, "▁": -3.0, "s": -4.0, "t": -6.0, "h": -6.0, "e": -6.0, "c": -6.0, "a": -6.0}
GERMAN = {"▁die": -1.0, "▁Katze": -2.0, "▁": -3.0, "n": -4.0, "s": -5.0, "Z": -6.0}
PIECES = ["</s>", "<unk>", ">>deu<<", *dict.fromkeys([*ENGLISH, *GERMAN]), "<pad>"]
NUMBERS = {piece: row for row, piece in enumerate(PIECES)}


def number(value: int) -> bytes:
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + number(rest) if rest else bytes([low])


def field(place: int, value: bytes) -> bytes:
    return number(place << 3 | 2) + number(len(value)) + value


def spm(pieces: dict[str, float], model: int = 1) -> bytes:
    """Return a file of SentencePiece, with what stands for the unknown and for the end."""
    kinds = [*((piece, score, 1) for piece, score in pieces.items()), ("<unk>", 0.0, 2), ("</s>", 0.0, 3)]
    listed = [
        field(
            1, field(1, piece.encode()) + number(2 << 3 | 5) + struct.pack("<f", score) + number(3 << 3) + number(kind)
        )
        for piece, score, kind in kinds
    ]
    return b"".join(listed) + field(2, number(3 << 3) + number(model)) + field(3, field(1, b"identity"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a Marian model with random weights."""
    (tmp_path / "source.spm").write_bytes(spm(ENGLISH))
    (tmp_path / "target.spm").write_bytes(spm(GERMAN))
    (tmp_path / "vocab.json").write_text(json.dumps(NUMBERS))
    torch.manual_seed(0)
    count = len(NUMBERS)
    layers = {"layers": 1, "attention_heads": 2, "ffn_dim": 16}
    sides = {f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in layers.items()}
    special = {"pad_token_id": count - 1, "decoder_start_token_id": count - 1, "eos_token_id": 0}
    config = transformers.MarianConfig(vocab_size=count, d_model=16, max_position_embeddings=32, **sides, **special)
    model = transformers.MarianMTModel(config)
    model.generation_config.max_new_tokens = 6
    model.save_pretrained(tmp_path)
    return tmp_path


def test_pieces_are_read_with_their_chances() -> None:
    found = pieces_of(spm(ENGLISH))
    assert found.scores == ENGLISH and found.characters == b""
    with pytest.raises(ValueError, match="damaged"):
        pieces_of(spm(ENGLISH)[:-3])
    with pytest.raises(ValueError, match="none of unigrams"):
        pieces_of(spm(ENGLISH, 2))


def test_each_language_is_taken_apart_by_its_own_pieces(folder: Path) -> None:
    source, target = map(tokenizers.Tokenizer.from_str, of_marian(folder, 8))
    assert source.encode(" the   cats ").tokens == ["▁the", "▁cat", "s", "</s>"]
    assert source.encode(">>deu<< the cat").tokens == [">>deu<<", "▁the", "▁cat", "</s>"]
    assert source.encode("xyz").ids == [NUMBERS["▁"], 1, 0]
    assert target.encode("die Katzen").tokens == ["▁die", "▁Katze", "n", "</s>"]
    assert target.encode("die Katzen").ids == [NUMBERS[one] for one in ("▁die", "▁Katze", "n", "</s>")]
    assert target.decode(target.encode("die Katzen").ids) == "die Katzen"
    assert len(source.encode("the cat " * 9).ids) == 8


def test_a_model_of_marian_writes_as_transformers_does(folder: Path, tmp_path: Path) -> None:
    whole = transformers.MarianMTModel.from_pretrained(folder).eval()
    source, target = map(tokenizers.Tokenizer.from_str, of_marian(folder, 32))
    wanted = whole.generate(torch.tensor([source.encode("the cats").ids]), max_new_tokens=6)[0].tolist()
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    model = Translation(backbone=str(folder), max_new_tokens=6, learning_rate=0.01)
    assert model.predictor().predict(["the cats"]) == [target.decode(wanted).strip()]
    assert model.kind.tokens_of("die Katzen") == target.encode("die Katzen").ids
    made = TranslationData.from_lists(train_texts=["the cat"] * 4, train_targets=["die Katze"] * 4)
    Trainer(max_epochs=20, **quiet).fit(model, datamodule=made)
    assert model.predictor().predict(["the cat"]) == ["die Katze"]
    model.predictor().save(tmp_path / "saved")
    assert TrainedModel.load(tmp_path / "saved").predict(["the cat"]) == ["die Katze"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("target.spm", b"x", "cannot be read"),
        ("vocab.json", b"{}", "cannot be read: '<unk>'"),
        ("vocab.json", b'{"<unk>": 7}', "have holes"),
    ],
)
def test_damaged_files_are_told(name: str, content: bytes, told: str, folder: Path) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        Translation(backbone=str(folder))
