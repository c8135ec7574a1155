"""A text whose words, or tokens, are answered: in windows as long as a network reads at once.

Shapes: W windows of L tokens, P words, M characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from quickstudy.batches import Batch, stack
from quickstudy.errors import DataError, brief
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


def parts_of_bytes(text: str, length: int, given: bool) -> list[Part]:
    """Return parts of a text whose tokens are its bytes, which 0 fills up; words stand between blanks.

    Args:
        text: the whole.
        length: L of a part.
        given: whether it was given as its words.
    """
    ids, words, offsets = list[int](), list[int | None](), list[tuple[int, int]]()
    for number, found in enumerate(_WORD.finditer(text)):
        own = found[0].encode()
        ids += [byte + 1 for byte in own]
        words += [number] * len(own)
        offsets += [(0, len(found[0])) if given else found.span()] * len(own)
    cuts = [slice(start, start + length) for start in range(0, len(ids), length)]
    return [Part(ids[cut], words[cut], offsets[cut]) for cut in cuts]


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
    windows, read = list[dict[str, torch.Tensor]](), set[int]()
    for part in parts:
        asked = [False] * len(part.ids)
        where = [0] * len(part.ids)
        before = None
        for place, (word, (begin, _)) in enumerate(zip(part.words, part.offsets, strict=True)):
            if word is None or word not in first:
                continue
            opens = begin == 0 if given is not None else begin <= starts[word]
            if word != before and opens:
                asked[place], where[place] = True, first[word]
                read.add(first[word])
            before = word
        there = torch.ones(len(part.ids), dtype=torch.bool)
        told = {"asked": torch.tensor(asked), "places": torch.tensor(where)}
        windows.append({"ids": torch.tensor(part.ids), "mask": there, **told})
    filled: Any = stack(windows)
    places = filled.pop("places")
    return {
        "windows": filled,
        "places": places,
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
    return {word: _without_blanks(text, *span) for word, span in sorted(spans.items()) if text[slice(*span)].strip()}


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
