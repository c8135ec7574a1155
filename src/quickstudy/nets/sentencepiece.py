"""Tokenizers of Marian's models: two files of SentencePiece, and the numbers of their pieces, as a ``tokenizer.json``.

Kudo and Richardson 2018, "SentencePiece", https://arxiv.org/abs/1808.06226; Junczys-Dowmunt et al. 2018, "Marian",
https://arxiv.org/abs/1804.00344. A file is a message of Protocol Buffers, of which a few fields are read here.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from quickstudy.errors import ConfigError, require

SOURCE, TARGET, NUMBERS, TARGET_NUMBERS = "source.spm", "target.spm", "vocab.json", "target_vocab.json"
_UNKNOWN, _END, _PADDING = "<unk>", "</s>", "<pad>"
_NORMAL, _OWN = 1, 4  # of the types of pieces, those that stand for text
_UNIGRAM = 1
_NEVER = 1_000.0
"""By how much a piece of the other language is less likely than the least likely of this one."""


class Pieces(NamedTuple):
    """What a file of SentencePiece holds."""

    scores: dict[str, float]
    """Of each piece that stands for text, the logarithm of its chance."""
    characters: bytes
    """How characters are normalised, compiled; may be empty."""


def is_marian(folder: Path) -> bool:
    """Whether a model's folder has tokens as Marian's have them."""
    return (folder / SOURCE).is_file() and (folder / NUMBERS).is_file()


def of_marian(folder: Path, max_length: int) -> tuple[str, str]:
    """Return what takes texts apart that are read, and those that are written, as JSON each.

    Args:
        folder: of the model.
        max_length: tokens of a text that is read.

    Raises:
        ConfigError: a file is missing or damaged.
    """
    numbers = folder / NUMBERS
    others = folder / TARGET_NUMBERS
    target = others if others.is_file() else numbers
    try:
        found = [
            _tokenizer(pieces_of((folder / name).read_bytes()), json.loads(one.read_text(encoding="utf-8")))
            for name, one in ((SOURCE, numbers), (TARGET, target))
        ]
    except (OSError, ValueError, KeyError, IndexError, struct.error) as error:
        raise ConfigError(f"the tokenizer in '{folder}' cannot be read: {error}") from error
    found[0].enable_truncation(max_length)
    return found[0].to_str(), found[1].to_str()


def pieces_of(content: bytes) -> Pieces:
    """Return the pieces of a file of SentencePiece, a unigram model.

    Raises:
        ValueError: it is no such file, or one of another model.
    """
    scores, characters = dict[str, float](), b""
    for field, value in _fields(content):
        own = dict(_fields(value)) if field in (1, 2, 3) and isinstance(value, bytes) else {}
        if field == 1 and own.get(3, _NORMAL) in (_NORMAL, _OWN):
            scores[own[1].decode()] = struct.unpack("<f", own.get(2, bytes(4)))[0]
        elif field == 2 and own.get(3, _UNIGRAM) != _UNIGRAM:
            raise ValueError("its model is none of unigrams, which alone is read")
        elif field == 3:
            characters = own.get(2, b"")
    if not scores:
        raise ValueError("it holds no piece")
    return Pieces(scores, characters)


def _tokenizer(pieces: Pieces, numbers: Mapping[str, int]) -> Any:
    """Return a tokenizer of pieces by their numbers; those of the other language are taken where nothing else fits."""
    tokenizers: Any = require("tokenizers", extra="text")
    least = min(pieces.scores.values()) - _NEVER
    listed = sorted(numbers, key=numbers.__getitem__)
    if [numbers[piece] for piece in listed] != [*range(len(listed))]:
        raise ValueError(f"the numbers in {NUMBERS} have holes")
    scored = [(piece, pieces.scores.get(piece, least)) for piece in listed]
    made = tokenizers.Tokenizer(tokenizers.models.Unigram(scored, unk_id=numbers[_UNKNOWN], byte_fallback=False))
    normalizers, metaspace = tokenizers.normalizers, {"replacement": "▁", "prepend_scheme": "always"}
    compiled = [normalizers.Precompiled(pieces.characters)] if pieces.characters else []
    blanks = [normalizers.Strip(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    made.normalizer = normalizers.Sequence([*compiled, *blanks])
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(**metaspace, split=False)
    made.decoder = tokenizers.decoders.Metaspace(**metaspace)
    marks = [piece for piece in listed if piece.startswith(">>") and piece.endswith("<<")]  # of languages
    special = [tokenizers.AddedToken(one, special=True, normalized=False) for one in (_PADDING, _UNKNOWN, _END, *marks)]
    made.add_special_tokens([one for one in special if one.content in numbers])
    made.post_processor = tokenizers.processors.TemplateProcessing(f"$A {_END}", special_tokens=[(_END, numbers[_END])])
    return made


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the fields of a message of Protocol Buffers: numbers, or bytes, of which a float has four."""
    place = 0
    while place < len(content):
        key, place = _number(content, place)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _number(content, place)
            yield field, value
            continue
        length = {1: 8, 5: 4}.get(wire)
        if wire == 2:
            length, place = _number(content, place)
        if length is None or place + length > len(content):
            raise ValueError("it is no file of SentencePiece, or damaged")
        yield field, content[place : place + length]
        place += length


def _number(content: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = content[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place
