"""A text whose words, or tokens, are answered: in windows as long as a network reads at once.

Shapes: W windows of L tokens, P words, M characters.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch

from quickstudy.batches import Batch, stack
from quickstudy.errors import DataError, brief
from quickstudy.functional.characters import characters_of


class Part(NamedTuple):
    """What a network reads at once of a text, of L tokens."""

    ids: Sequence[int]
    """Of tokens."""
    offsets: Sequence[tuple[int, int]]
    """Where each begins and ends, in characters of the text; what marks the ends of a text is nowhere, (0, 0)."""


def parts_of(encoded: Any) -> list[Part]:
    """Return the parts of what a tokenizer of the library tokenizers has encoded, the first and what overflows."""
    return [Part(one.ids, one.offsets) for one in (encoded, *encoded.overflowing)]


def parts_of_bytes(text: str, length: int) -> list[Part]:
    """Return parts of a text, of L tokens each at most, whose tokens are its bytes, which 0 fills up."""
    ids = [byte + 1 for byte in text.encode()]
    offsets = [(place, place + 1) for place, one in enumerate(text) for _ in one.encode()]
    cuts = [slice(start, start + length) for start in range(0, len(ids), length)]
    return [Part(ids[cut], offsets[cut]) for cut in cuts]


def given_spans(words: Sequence[str]) -> list[tuple[int, int]]:
    """Return where words begin and end that stand with blanks between them."""
    ends = list(accumulate(len(word) + 1 for word in words))
    return [(end - len(word) - 1, end - 1) for end, word in zip(ends, words, strict=True)]


def untorn(spans: Sequence[tuple[int, int]], parts: Sequence[Part]) -> list[tuple[int, int]]:
    """Return words, those of which a token has parts of several as one: it begins but one of them."""
    within = {place for part in parts for begin, end in part.offsets for place in range(begin + 1, end)}
    made = list[tuple[int, int]]()
    for begin, end in spans:
        torn = made and made[-1][1] == begin and begin in within
        made[-1:] = [(made[-1][0], end)] if torn else [*made[-1:], (begin, end)]
    return made


def words_of(parts: Sequence[Part], text: str, spans: Sequence[tuple[int, int]]) -> dict[str, Batch]:
    """Return a text with a place for each of its words, of which a network tells by the first token of each.

    Args:
        parts: which overlap.
        text: the whole.
        spans: where its words begin and end, one behind the other.

    Returns:
        ``{"windows": {"ids": [W, L], "mask": [W, L], "asked": [W, L]}, "places": [W, L], "mask": [P], "offsets":
        [P, 2], "characters": [M]}``: which tokens are there, which are the first of a word, of which one, which words
        have a token, where all begin and end in the text, and the text.
    """
    begins = [begin for begin, _ in spans]
    owners = [[_word_at(text, token, begins, spans) for token in part.offsets] for part in parts]
    first: dict[int, int] = {}
    for part, own in zip(parts, owners, strict=True):
        for (begin, _), word in zip(part.offsets, own, strict=True):
            if word is not None:
                first[word] = min(begin, first.get(word, begin))
    windows = list[dict[str, torch.Tensor]]()
    for part, own in zip(parts, owners, strict=True):
        opens = [
            word is not None and word != before and begin == first[word]
            for (begin, _), word, before in zip(part.offsets, own, [None, *own], strict=False)
        ]
        where = [word if word is not None and asked else 0 for word, asked in zip(own, opens, strict=True)]
        there = torch.ones(len(part.ids), dtype=torch.bool)
        told = {"asked": torch.tensor(opens), "places": torch.tensor(where)}
        windows.append({"ids": torch.tensor(part.ids), "mask": there, **told})
    filled: Any = stack(windows)
    places = filled.pop("places")
    return {
        "windows": filled,
        "places": places,
        "mask": torch.tensor([word in first for word in range(len(spans))]),
        "offsets": torch.tensor(spans).view(-1, 2),
        "characters": characters_of(text),
    }


def _word_at(text: str, token: tuple[int, int], begins: Sequence[int], spans: Sequence[tuple[int, int]]) -> int | None:
    """Return the number of the word in which a token begins; None: in none."""
    begin, end = _without_blanks(text, *token)
    word = bisect_right(begins, begin) - 1
    return word if begin < end and word >= 0 and begin < spans[word][1] else None


def _without_blanks(text: str, begin: int, end: int) -> tuple[int, int]:
    own = text[begin:end]
    return begin + len(own) - len(own.lstrip()), end - len(own) + len(own.rstrip())


def passages_of(coder: Any, question: str, context: str, length: int, overlap: int) -> dict[str, Batch]:
    """Return a question with the windows of a context that may answer it.

    Args:
        coder: of the library tokenizers, without truncation; None: tokens are bytes.
        question, context: both texts.
        length: L at most, of the question and a part of the context together.
        overlap: tokens of the context that a window shares with the one before.

    Returns:
        ``{"windows": {"ids": [W, L], "mask": [W, L], "types": [W, L], "asked": [W, L]}, "offsets": [W, L, 2],
        "characters": [M]}``: the tokens, which are there, 1 where they are the context's, which can be an end of an
        answer (those, and the first, which stands for none), where they are in the context, and the context.

    Raises:
        DataError: the question leaves no room.
    """
    windows = list[dict[str, torch.Tensor]]()
    for ids, types, of_context, offsets in _pairs(coder, question, context, length, overlap):
        may_end = torch.tensor(of_context)
        places = [
            _without_blanks(context, *span) if own else (0, 0) for span, own in zip(offsets, of_context, strict=True)
        ]
        may_end[0] = True
        told = {"types": torch.tensor(types), "asked": may_end, "offsets": torch.tensor(places)}
        windows.append({"ids": torch.tensor(ids), "mask": torch.ones_like(may_end), **told})
    filled: Any = stack(windows)
    found = filled.pop("offsets")
    return {"windows": filled, "offsets": found, "characters": characters_of(context)}


_Pair = tuple[Sequence[int], Sequence[int], list[bool], Sequence[tuple[int, int]]]


def _pairs(coder: Any, question: str, context: str, length: int, overlap: int) -> Iterator[_Pair]:
    """Yield a question with each part of its context: ids and types of tokens, which are the context's, and offsets.

    Where a tokenizer has no marks, 0 stands before both: the token that fills up elsewhere.
    """
    marks = 0 if coder is None else coder.num_special_tokens_to_add(True)
    if coder is None:
        asked, read = ([byte + 1 for byte in text.encode()] for text in (question, context))
        offsets = [(place, place + 1) for place, one in enumerate(context) for _ in one.encode()]
    else:
        both = [coder.encode(text, add_special_tokens=False) for text in (question, context)]
        (asked, read), offsets = (one.ids for one in both), both[1].offsets
    room = length - len(asked) - (marks or 2)
    if room <= overlap:
        raise DataError(
            f"the question {brief(question)} has {len(asked)} tokens, and a window of {length} must have room for some "
            "of the context, too: set max_length=, as far as the backbone goes, or ask in fewer words"
        )
    if marks:
        if len(read) > room:
            both[1].truncate(room, stride=overlap)
        made = coder.post_process(*both)
        for one in (made, *made.overflowing):
            yield one.ids, one.type_ids, [part == 1 for part in one.sequence_ids], one.offsets
        return
    before = [0, *asked, 0]
    for start in range(0, max(len(read) - overlap, 1), room - overlap):
        part = read[start : start + room]
        of_context = [False] * len(before) + [True] * len(part)
        yield (
            [*before, *part],
            list(map(int, of_context)),
            of_context,
            [
                *[(0, 0)] * len(before),
                *offsets[start : start + room],
            ],
        )
