"""Where the words of a text begin and end, whatever its tokenizer is.

A word is a run of letters and digits, with the marks on them, or one sign; an address of the web is one, too. In
scripts without blanks between words each letter is one. Data that comes as words has its own customs, ``Ana-Maria`` and
``'s``, which are learned of it.

Shapes: P words.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise

Signs = tuple[str, ...]
"""Signs that stand in words: between letters, between digits, before, behind, and several alike. Empty: none is known.

The plain rule, by which none does, is five empty texts.
"""
PLAIN: Signs = ("",) * 5

_ALONE = (
    "\u3005\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003fffd"
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
)
"""Letters of scripts without blanks: Han, Kana, Thai, Lao, Burmese, Khmer."""
_ON_LETTERS = ("Mn", "Mc", "Me", "Cf")
"""Categories of what stands on letters or joins them."""
_LAST = 0x1F000


def word_spans(text: str, signs: Signs = ()) -> list[tuple[int, int]]:
    """Return where each word of a text begins and ends, ``P`` pairs of characters.

    Args:
        text: any.
        signs: what ``signs_of`` has learned.

    >>> text = "Ana-Maria's 3.5 %"
    >>> [text[start:end] for start, end in word_spans(text)]
    ['Ana', '-', 'Maria', "'", 's', '3', '.', '5', '%']
    >>> [text[start:end] for start, end in word_spans(text, signs_of([["Ana-Maria", "'s", "3.5", "%"]]))]
    ['Ana-Maria', "'s", '3.5', '%']
    """
    return [found.span() for found in _pattern(signs or PLAIN, text.isascii()).finditer(text)]


def signs_of(texts: Iterable[Sequence[str]]) -> Signs:
    """Return which signs stand in words more often than they part them, or are words of their own.

    Args:
        texts: each a list of its words.
    """
    within, parting = [Counter[str]() for _ in PLAIN], [Counter[str]() for _ in PLAIN]
    for words in texts:
        for place, word in enumerate(words):
            _count(word, within)
            if len(word) == 1 and not _is_letter(word):
                before, behind = words[place - 1 : place], words[place + 1 : place + 2]
                ends = (before[0][-1:] if before else "", behind[0][:1] if behind else "")
                parting[0][word] += all(map(str.isalpha, ends))
                parting[1][word] += all(map(str.isdigit, ends))
                parting[2][word] += 1
                parting[3][word] += 1
                parting[4][word] += behind == [word]
    # What begins words parts the letters that it stands between: Anna 's.
    parting[0] += Counter({sign: count for sign, count in within[2].items() if count > parting[2][sign]})
    return tuple(
        "".join(sorted(sign for sign, count in inside.items() if count > apart[sign]))
        for inside, apart in zip(within, parting, strict=True)
    )


def _count(word: str, within: Sequence[Counter[str]]) -> None:
    """Count the signs of a word by where they stand in it."""
    for place, sign in enumerate(word):
        if _is_letter(sign) or sign.isspace():
            continue
        before, behind = word[:place][-1:], word[place + 1 :][:1]
        if before and behind and _is_letter(before) and _is_letter(behind):
            within[before.isdigit() and behind.isdigit()][sign] += 1
        elif behind and _is_letter(behind):
            within[2][sign] += not before
        elif before and _is_letter(before):
            within[3][sign] += not behind
    for one, other in pairwise(word):
        within[4][one] += one == other and not _is_letter(one)


def _is_letter(character: str) -> bool:
    """Whether a character is a letter, a digit, or a mark on one."""
    return character.isalnum() or character == "_" or unicodedata.category(character) in _ON_LETTERS


@lru_cache(maxsize=1)
def _marks() -> str:
    """Return what a pattern may match that stands on the character before it, such as accents."""
    codes = [code for code in range(0x80, _LAST) if unicodedata.category(chr(code)) in _ON_LETTERS]
    return "".join(map(chr, codes)) + "\U0001f3fb-\U0001f3ff\U000e0100-\U000e01ef"


@lru_cache(maxsize=16)
def _pattern(signs: Signs, ascii_alone: bool) -> re.Pattern[str]:
    """Return what finds words."""
    marks, alone = ("", "") if ascii_alone else (_marks(), _ALONE)
    on_it = f"[{marks}]*" if marks else ""
    letter = rf"[^\W{alone}]{on_it}"
    between, in_numbers, before, behind, alike = (
        f"[{''.join(map(re.escape, some))}]" if some else "(?!)" for some in signs
    )
    goes_on = rf"(?:{letter}|(?<!\d){between}(?=[^\W{alone}])|{between}(?=[^\W\d{alone}])|(?<=\d){in_numbers}(?=\d))"
    word = rf"{before}?{letter}{goes_on}*(?:(?P<last>{behind})(?![^\W{alone}]|(?P=last)))?"
    each = [r"\w+://[^\s<>\"]*[\w/]", word, rf"(?P<sign>{alike}){on_it}(?:(?P=sign){on_it})*", rf"\S{on_it}"]
    if alone:
        each.insert(2, rf"[{alone}]{on_it}")
    return re.compile("|".join(each))
