"""A text as its words or tokens, each of which is answered: in windows as long as a network reads at once.

Shapes: W windows of L tokens, P words or tokens, M characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from quickstudy.batches import Batch, stack
from quickstudy.functional.characters import characters_of

_WORD = re.compile(r"\S+")


class Part(NamedTuple):
    """What a network reads at once of a text, of L tokens."""

    ids: Sequence[int]
    """Of tokens."""
    words: Sequence[int | None]
    """The number of the word that each is of; None: it is of none, as what marks the ends of a text."""
    offsets: Sequence[tuple[int, int]]
    """Where each begins and ends, in characters of the text; of given words in those of the word."""


def parts_of(encoded: Any) -> list[Part]:
    """Return the parts of what a tokenizer of the library tokenizers has encoded, the first and what overflows."""
    return [Part(one.ids, one.word_ids, one.offsets) for one in (encoded, *encoded.overflowing)]


def parts_of_bytes(text: str, length: int) -> list[Part]:
    """Return parts of a text whose tokens are its bytes, which 0 fills up; words stand between blanks."""
    ids, words, offsets = list[int](), list[int | None](), list[tuple[int, int]]()
    for number, found in enumerate(_WORD.finditer(text)):
        own = found[0].encode()
        ids += [byte + 1 for byte in own]
        words += [number] * len(own)
        offsets += [found.span()] * len(own)
    return [
        Part(*(every[start : start + length] for every in (ids, words, offsets))) for start in range(0, len(ids), length)
    ]


def words_of(parts: Sequence[Part], text: str, given: Sequence[str] | None) -> dict[str, Batch]:
    """Return a text with a place for each of its words, of which a network tells by the first token of each.

    Args:
        parts: which overlap.
        text: the whole.
        given: its words, where it was given as such, with blanks between them; else they are the tokenizer's.

    Returns:
        ``{"windows": {"ids": [W, L], "mask": [W, L], "asked": [W, L]}, "places": [W, L], "mask": [P], "offsets":
        [P, 2], "characters": [M]}``: which tokens are there, which are the first of a word, of which one, which words
        are there, where they begin and end in the text, and the text.
    """
    spans = _given_spans(given) if given is not None else _spans(parts, text)
    starts = {word: begin for word, (begin, _) in spans.items()}
    first = {number: place for place, number in enumerate(spans)}
    windows, places, read = [], [], set[int]()
    for part in parts:
        asked = [False] * len(part.ids)
        where = [0] * len(part.ids)
        before = None
        for place, (word, (begin, _)) in enumerate(zip(part.words, part.offsets, strict=True)):
            if word is None:
                continue
            opens = begin == 0 if given is not None else begin <= starts[word]
            if word != before and opens:
                asked[place], where[place] = True, first[word]
                read.add(first[word])
            before = word
        there = torch.ones(len(part.ids), dtype=torch.bool)
        windows.append({"ids": torch.tensor(part.ids), "mask": there, "asked": torch.tensor(asked)})
        places.append(torch.tensor(where))
    return {
        "windows": stack(windows),
        "places": stack(places),
        "mask": torch.tensor([place in read for place in range(len(spans))]),
        "offsets": torch.tensor(list(spans.values())).view(-1, 2),
        "characters": characters_of(text),
    }


def _given_spans(words: Sequence[str]) -> dict[int, tuple[int, int]]:
    """Return where words begin and end that stand with blanks between them, by their numbers."""
    spans, end = {}, -1
    for number, word in enumerate(words):
        begin = end + 1
        end = begin + len(word)
        spans[number] = (begin, end)
    return spans


def _spans(parts: Sequence[Part], text: str) -> dict[int, tuple[int, int]]:
    """Return where the words of a tokenizer begin and end, without the blanks that it counts to them."""
    spans: dict[int, tuple[int, int]] = {}
    for part in parts:
        for word, (begin, end) in zip(part.words, part.offsets, strict=True):
            if word is not None:
                known = spans.get(word, (begin, end))
                spans[word] = (min(known[0], begin), max(known[1], end))
    return {word: _without_blanks(text, *span) for word, span in sorted(spans.items())}


def _without_blanks(text: str, begin: int, end: int) -> tuple[int, int]:
    own = text[begin:end]
    left = len(own) - len(own.lstrip())
    return (begin + left, end - (len(own) - len(own.rstrip()))) if own.strip() else (begin, end)
