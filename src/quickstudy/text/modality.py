"""What a text is: from a string, or a file of one, to the numbers of its tokens.

Shapes: L tokens.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from quickstudy.batches import Batch, is_batch, stack, take
from quickstudy.data.content import told_by
from quickstudy.data.likeness import digest
from quickstudy.data.samples import Loaded, content_of, named
from quickstudy.data.table import Inputs
from quickstudy.errors import (
    ConfigError,
    DataError,
    DataWarning,
    brief,
    check_choice,
    check_counts,
    few,
    given,
    require,
)
from quickstudy.functional.characters import text_of
from quickstudy.modality import MODALITIES, Modality, Wire
from quickstudy.modality.values import Sighted, Values
from quickstudy.text.elements import given_spans, parts_of, parts_of_bytes, passages_of, untorn, words_of
from quickstudy.text.words import signs_of, word_spans

MAX_CHARACTERS = 1_000_000
"""A text that has more is refused before it is taken apart."""
VOCABULARY_SIZE = 8192
"""Tokens that are learned at most."""
Elements = Literal["", "words", "passage"]
"""What of a text is answered: words, a passage that answers a question, or it as a whole."""
_LENGTH, _WHOLE_LENGTH = 128, 512
"""Tokens of a text, where its tokenizer does not say; of one of which a text is made, which its end may change."""
_LEARNED_FROM = 100_000
"""Texts that a tokenizer is learned from at most."""
_COUNTED = 2_000
"""Texts of which it is counted what is cut."""
_SHOWN = 500
"""Characters of a text that are shown."""
_BYTES = 256
_PADDING, _END = "[PAD]", "[END]"
_NUMBER, _SIGNS = r"(?<!\w)-?\d+(?:[.,]\d+)*", r"[\w+#%$€£]"


@MODALITIES.register("text")
@dataclass(frozen=True)
class Text(Modality):
    """A text as ``{"ids": int64 [L], "mask": bool [L]}``: its tokens, and that they are there; in windows ``[W, L]``.

    Args:
        tokenizer: what takes it apart, the content of a ``tokenizer.json``. Empty: a pretrained backbone brings its
            own, and else one is learned from the training texts (byte-level BPE of small letters: no token is unknown).
            Before that a text's bytes are its tokens.
        max_length: tokens of a text; what is longer is cut at its end. None: what the tokenizer says, else 128.
        windows: with more than 1, a longer text is read in so many parts of ``max_length`` tokens at most, which
            overlap by a quarter, and its vector is the mean of theirs; only what is beyond them is cut.
        vocabulary_size: tokens that are learned at most.
        max_characters: a text that has more is refused.
        elements: ``"words"``: each is answered, and a text is as ``elements.words_of`` says, whole, in as many windows
            as it needs; a list of words is a text, too. ``"passage"``: an input is ``{"question": ..., "context":
            ...}``, as ``elements.passages_of`` says. Empty: a text is answered as a whole.
        rewritten: whether another text is made of each: a tokenizer that is learned then keeps capitals, takes numbers
            digit by digit, and marks where a text ends.
        prefix: what stands before each text, such as ``"summarize: "`` for T5, which was trained so.
        source_language: the token of the language of the texts, for a model of many that is told it, such as
            ``"eng_Latn"``.
        word_signs: what parts a text in words as the training texts were, where these were given so; see ``words``.

    Raises:
        ConfigError: an option is out of range, or the tokenizer is none.
    """

    called = "texts"
    on_hub = True
    extensions = frozenset({".txt"})
    in_cells = True
    in_words = True
    of_elements = ("elements", "rewritten", "source_language")
    views = "dropout"
    learned = ("tokenizer", "word_signs")
    shown_as = "text/plain"
    backbone = "small_transformer"
    tokenizer: str = field(default="", repr=False)
    max_length: int | None = None
    windows: int = 1
    vocabulary_size: int = VOCABULARY_SIZE
    max_characters: int = MAX_CHARACTERS
    elements: Elements = ""
    rewritten: bool = False
    prefix: str = ""
    source_language: str = ""
    word_signs: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_counts(4, **given(max_length=self.max_length))  # beside what marks a text's two ends
        check_counts(_BYTES + 1, vocabulary_size=self.vocabulary_size)
        check_counts(max_characters=self.max_characters, windows=self.windows)
        check_choice("elements", self.elements, *get_args(Elements))
        if self.tokenizer and not self.tokenizer.lstrip().startswith("{"):
            raise ConfigError(
                f"tokenizer={brief(self.tokenizer)} is not the content of a tokenizer.json: type "
                "tokenizer=Path('tokenizer.json').read_text(), or name the model as backbone=, which brings its own"
            )

    # ---- reading

    def load(self, item: Any) -> Batch:
        """Return the tokens of a string; or of a file of UTF-8, as a path, a file of an archive, or bytes."""
        if self.elements == "passage":
            question, context = self._pair(item)
            coder = _coder(self.tokenizer, None, False, True) if self.tokenizer else None
            length = self._coder.truncation["max_length"] if self.tokenizer else self.max_length or _LENGTH
            return passages_of(coder, question, context, length, _overlap(length))
        text = self._read(item)
        if self.elements:
            return self._words(text, list(item) if _in_words(item) else None)
        text = self.prefix + text
        if self.tokenizer:
            encoded = self._coder.encode(text)
            parts = [part.ids for part in (encoded, *encoded.overflowing)][: self.windows]
            if self.source_language:
                parts = [[self._language, *part[encoded.special_tokens_mask[0] :]] for part in parts]
        else:  # 0 is what shorter texts are filled up with
            parts = [[byte + 1 for byte in text.encode()[: self.max_length or self._length]]]
        if not parts[0]:
            raise DataError(f"{brief(text)} has no token that the tokenizer knows")
        read = [{"ids": torch.tensor(ids), "mask": torch.ones(len(ids), dtype=torch.bool)} for ids in parts]
        return read[0] if self.windows == 1 else stack(read)

    def _pair(self, item: Any) -> tuple[str, str]:
        """Return a question and its context.

        Raises:
            DataError: it is none, or one of both is no text.
        """
        item = content_of(item)
        lacking = [name for name in ("question", "context") if not isinstance(item, Mapping) or name not in item]
        if lacking:
            only = f", without a {lacking[0]}" * (len(lacking) == 1)
            raise DataError(f"expected {{'question': ..., 'context': ...}}, and this is {brief(item)}{only}")
        for name in ("question", "context"):
            if told := self._complaint(item[name]):
                raise DataError(f"the {name}: {told}")
        return item["question"], item["context"]

    def _words(self, text: str, given: list[str] | None) -> Batch:
        if self.tokenizer:
            parts = parts_of(self._coder.encode(text))
        else:
            parts = parts_of_bytes(text, self.max_length or _LENGTH)
        spans = untorn(word_spans(text, self.word_signs), parts) if given is None else given_spans(given)
        found = words_of(parts, text, spans)
        if not found["mask"].any():
            raise DataError(f"{brief(text)} has no token that the tokenizer knows")
        return found

    def listed(self, inputs: Any) -> Any:
        """Return texts as a list; a string alone is a list of one, and a batch of tokens stays as it is.

        Of a data frame, or a dict of lists, they are the column ``"text"``, or the only one of the frame; of rows as
        dicts each one's ``"text"``.

        Raises:
            DataError: one is blank, or none, or nobody says where in a table they are; the message says where.
        """
        if isinstance(inputs, Mapping) and "text" in inputs:
            inputs = inputs["text"]
        found = super().listed(inputs)
        if isinstance(found, list):
            found = found if self.elements == "passage" else [_text_of(item, row) for row, item in enumerate(found)]
        if isinstance(found, list):
            self._check(found)
            self._tell(found)
        return found

    def column(self, values: Sequence[Any], root: str | os.PathLike[str] | None = None, exist: bool = True) -> Inputs:
        """Return the cells of a column; see ``Modality.column``. Where not all must ``exist``, any that is not missing.

        Raises:
            DataError: a cell is empty or blank, or no text; the message has its row.
        """
        found = super().column(values, root, exist)
        if exist:
            self._check(values)
        return found

    @classmethod
    def looks_like_one(cls, value: Any) -> bool:
        """Whether it has several words."""
        return isinstance(value, str) and " " in value.strip()

    def _check(self, texts: Sequence[Any]) -> None:
        for row, text in enumerate(texts):
            if self.elements == "passage":
                try:
                    self._pair(text)
                except DataError as error:
                    raise DataError(f"text {row}: {error}") from error
            if isinstance(text, (bytes, dict)) or hasattr(text, "read_bytes") or (self.elements and _in_words(text)):
                continue
            if told := self._complaint(text):
                raise DataError(f"text {row}: {told}")

    def _read(self, item: Any) -> str:
        if self.elements == "passage":
            return " ".join(self._pair(item))
        item = content_of(item)
        if self.elements and _in_words(item):
            for place, word in enumerate(item):
                if not word.strip():
                    raise DataError(f"word {place} of {brief(item)} is blank: leave it out, with its label")
            item = " ".join(item)
        if isinstance(item, bytes) or hasattr(item, "read_bytes"):
            name = f"a text of {len(item)} bytes" if isinstance(item, bytes) else named(item)
            try:
                content: bytes = item if isinstance(item, bytes) else item.read_bytes()
                item = content.decode("utf-8-sig")
            except OSError as error:
                raise DataError(f"{name} cannot be opened: {error.strerror}") from error
            except UnicodeDecodeError as error:
                raise DataError(f"{name} is not UTF-8 text ({error}): save it as that") from error
            if told := self._complaint(item):
                raise DataError(f"{name}: {told}")
        elif told := self._complaint(item):
            raise DataError(told)
        text: str = item
        return text

    def _complaint(self, text: Any) -> str:
        """Say what is wrong with a text, and what to type; nothing where nothing is."""
        if not isinstance(text, str):
            return f"expected a text, a string, and this is {brief(text)}: type str(...) if it is meant"
        if len(text) > self.max_characters:
            return (
                f"{brief(text)} has {len(text):,} characters; more than {self.max_characters:,} are refused: give a "
                "part of it, text[:10_000]"
            )
        if not text.strip():
            return f"{brief(text)} is blank: leave it out"
        if "\0" in text:
            return f"{brief(text)} holds a NUL byte, as no text does: type text.replace('\\0', ' ')"
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return (
                f"{brief(text)} holds half a character (a lone surrogate) at {error.start}: type "
                "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
            )
        return ""

    @property
    def _coder(self) -> Any:
        """What takes texts apart."""
        return _coder(self.tokenizer, self.max_length, self.windows > 1 or bool(self.elements), length=self._length)

    @property
    def _language(self) -> int:
        """The number of the token of the language."""
        number: int | None = self._coder.token_to_id(self.source_language)
        if number is None:
            raise ConfigError(f"source_language={brief(self.source_language)}: the tokenizer has no such token")
        return number

    @property
    def _length(self) -> int:
        return _WHOLE_LENGTH if self.rewritten else _LENGTH

    def lengths(self, inputs: Inputs) -> NDArray[np.int64] | None:
        """Return how many characters each has; tokens that are fed as they are have no length here."""
        if isinstance(inputs, (torch.Tensor, dict)):
            return None
        return np.array([len(text) for text in _Texts(inputs, self._read).some(len(inputs))], np.int64)

    # ---- learning

    def fitted(self, inputs: Inputs) -> Self:
        """Return it with a tokenizer of the training texts, where it has none; and say what it cuts."""
        texts = _Texts(inputs, self._read)
        made = self
        if self.elements == "words" and not self.word_signs:
            items = _Texts(inputs, _as_it_is).some(_LEARNED_FROM)
            made = replace(made, word_signs=signs_of(filter(_in_words, items)))
        if not self.tokenizer:
            some = texts.some(_LEARNED_FROM)
            made = made.with_options({"tokenizer": _learned(some, self.vocabulary_size, self.rewritten)})
        made._tell(texts.some(_COUNTED))
        return made

    def _tell(self, texts: Any) -> None:
        """Warn of texts that are cut, and of tokens that are unknown, by the first of them; bad ones tell so later."""
        if not self.tokenizer or self.elements == "passage":
            return
        coder = self._coder
        unknown = getattr(coder.model, "unk_token", None)
        cut = strange = tokens = 0
        some = [text for _, text in zip(range(_COUNTED), texts, strict=False) if isinstance(text, str)]
        for text in some:
            if self._complaint(text):
                continue
            encoded = coder.encode(text)
            cut += len(encoded.overflowing) >= self.windows and not self.elements
            tokens += len(encoded.tokens)
            strange += encoded.tokens.count(unknown)
        if cut:
            _warn(
                f"{cut} of {len(some)} texts are longer than {coder.truncation['max_length']} tokens"
                f"{f' in each of {self.windows} windows' * (self.windows > 1)}, and their ends are cut: set "
                "max_length=, as far as the backbone goes, or windows=, or give parts of them"
            )
        if strange:
            _warn(f"{strange} of the {tokens} tokens of {len(some)} texts are unknown to the tokenizer: {unknown}")

    # ---- showing, sending

    @property
    def wire(self) -> Wire:  # type: ignore[override]
        """How texts travel: as themselves; questions with their contexts as objects of JSON, or files of one."""
        if self.elements != "passage":
            return Wire("texts", ("text/plain",), {"type": "string"})
        both = {name: {"type": "string"} for name in ("question", "context")}
        return Wire("questions", ("application/json",), {"type": "object", "properties": both, "required": [*both]})

    @property
    def column_names(self) -> tuple[str, ...] | None:
        """The columns of a table that a question is a row of; None: a text is of one alone."""
        return ("question", "context") if self.elements == "passage" else None

    def from_wire(self, content: Any, name: str = "") -> Any:
        """Return the text, or the question, in the value of a request or in the bytes of a file."""
        if self.elements != "passage" or not isinstance(content, bytes):
            return content
        try:
            return json.loads(content)
        except ValueError as error:
            raise DataError(f"{named(name) if name else 'a file'} is no object of JSON: {error}") from error

    def show(self, item: Any, example: Batch) -> bytes:
        """Return its beginning."""
        if self.elements == "passage" and not is_batch(item):
            text = "\n".join(self._pair(item))
        elif isinstance(item, dict) and self.elements:
            text = text_of(example["characters"])
        elif isinstance(item, dict):
            first = take(example, 0) if self.windows > 1 else example
            ids = [int(token) for token in first["ids"][first["mask"]]]
            known = self.tokenizer and self._coder
            text = known.decode(ids) if known else bytes(token - 1 for token in ids).decode("utf-8", "replace")
        else:
            text = self._read(item)
        return (text[:_SHOWN] + "..." * (len(text) > _SHOWN)).encode()

    def sketch(self, item: Any) -> bytes:
        """Return what its words are, without case, width, blanks and punctuation."""
        if is_batch(item):
            return digest(*told_by(item))
        text = self._read(item)
        words = _words(text.isascii()).findall(unicodedata.normalize("NFKC", text).casefold())
        return digest(*(f"{word} ".encode() for word in words or [text]))

    def raw(self) -> tuple[nn.Module, Self]:
        """Return the count of each token, of a tokenizer that is learned of the texts."""
        from quickstudy.text.nets import TokenCounts  # which knows how many tokens there are from here

        return TokenCounts(), replace(self, tokenizer="", windows=1)

    def within(self, most: int) -> Self:
        """Return it with a limit on the characters of a text."""
        return replace(self, max_characters=min(most, self.max_characters))

    def made_up(self, count: int, generator: torch.Generator, like: Batch | None = None) -> Batch:
        """Return tokens by chance."""
        if self.elements:
            return self._made_up_elements(count, generator, like)
        axes = (1, _LENGTH)[self.windows == 1 :] if like is None else like["ids"].shape[1:]
        ids = torch.randint(1, self.count, (count, *(max(length, 1) for length in axes)), generator=generator)
        return {"ids": ids, "mask": torch.ones_like(ids, dtype=torch.bool)}

    def _made_up_elements(self, count: int, generator: torch.Generator, like: Batch | None) -> Batch:
        shape = (count, 1, _LENGTH) if like is None else (count, *like["windows"]["ids"].shape[1:])
        words = shape[1] * shape[2]
        ids = torch.randint(1, self.count, shape, generator=generator)
        there = torch.ones(shape, dtype=torch.bool)
        if self.elements == "passage":
            return {
                "windows": {"ids": ids, "mask": there, "types": torch.zeros_like(ids), "asked": there},
                "offsets": torch.zeros(*shape, 2, dtype=torch.int64),
                "characters": torch.zeros(count, 1, dtype=torch.int32),
            }
        return {
            "windows": {"ids": ids, "mask": there, "asked": there},
            "places": torch.arange(words).view(1, *shape[1:]).expand(shape),
            "mask": torch.ones(count, words, dtype=torch.bool),
            "offsets": torch.zeros(count, words, 2, dtype=torch.int64),
            "characters": torch.zeros(count, 1, dtype=torch.int32),
        }

    def free_axes(self) -> dict[str, dict[int, str]]:
        """Return that a text has any length, and any number of windows."""
        axes = {1: "L"} if self.windows == 1 else {1: "W", 2: "L"}
        return {"ids": axes, "mask": axes}

    def recipe(self) -> dict[str, Any]:
        """Return the tokenizer, and how many tokens a text has at most."""
        length = self._coder.truncation["max_length"] if self.tokenizer else _LENGTH
        windows = {"windows": self.windows, "overlap": _overlap(length)} if self.windows > 1 else {}
        before = {"prefix": self.prefix} if self.prefix else {}
        return {"tokenizer": self.tokenizer, "max_length": self.max_length or length, **windows, **before}

    def for_backbone(self) -> dict[str, Any]:
        """Return how many tokens there are, where that is more than networks have room for unless they are told.

        What writes chooses among all that it has room for, and so has room for no other.
        """
        return {"vocabulary_size": self.count} if self.count > VOCABULARY_SIZE or self.rewritten else {}

    @property
    def count(self) -> int:
        """How many tokens there are."""
        return int(self._coder.get_vocab_size()) if self.tokenizer else _BYTES + 1

    def values(self, encoder: Sighted) -> Values:
        """Return how they are taken by a network, which must have room for them.

        Raises:
            ConfigError: it has not.
        """
        return TextValues(self, encoder)


class TextValues(Values):
    """Tokens as they are, for a network that knows as many and takes as long texts."""

    def __init__(self, modality: Text, network: Sighted) -> None:
        super().__init__(modality, network)
        net = getattr(network, "backbone", None)
        room, longest = (getattr(net, name, None) for name in ("vocabulary_size", "max_length"))
        if room is not None and modality.count > room:
            raise ConfigError(
                f"the texts have {modality.count} tokens and the backbone room for {room}: set vocabulary_size={room} "
                f"of the data, or backbone_kwargs={{'vocabulary_size': {modality.count}}}"
            )
        if longest is not None and modality.max_length is not None and modality.max_length > longest:
            raise ConfigError(f"max_length={modality.max_length}: the backbone takes {longest} tokens at most")


class _Texts:
    """Inputs as strings, read as they are asked for."""

    def __init__(self, inputs: Inputs, read: Callable[[Any], Any]) -> None:
        self._inputs, self._read = inputs, read

    def some(self, most: int) -> Iterator[Any]:
        """Yield so many of them, from the first to the last."""
        count = len(self._inputs)
        for row in dict.fromkeys(np.linspace(0, count - 1, min(count, most)).astype(int).tolist()):
            item = self._inputs[row]
            yield self._read(item.item if isinstance(item, Loaded) else item)


def _as_it_is(item: Any) -> Any:
    return item


def _in_words(item: Any) -> bool:
    """Whether a text is given as its words."""
    return isinstance(item, (list, tuple)) and bool(item) and all(isinstance(word, str) for word in item)


def _text_of(item: Any, row: int) -> Any:
    """Return the text of a row that is a dict of cells; tokens, and all else, as they are."""
    if not isinstance(item, Mapping) or is_batch(item):
        return item
    if "text" not in item:
        example = f"[row[{next(iter(item), 'text')!r}] for row in rows]"
        raise DataError(f"text {row} is a dict of {few(map(repr, item))}: say which of them is the text, {example}")
    return item["text"]


@lru_cache(maxsize=2)
def _words(ascii_alone: bool) -> re.Pattern[str]:
    """Return what finds words and numbers; a mark on a letter, as vowels are in Hindi and Thai, is part of the word."""
    if ascii_alone:
        return re.compile(f"{_NUMBER}|{_SIGNS}+")
    marks = "".join(chr(code) for code in range(0x300, 0x1F000) if unicodedata.category(chr(code)).startswith("M"))
    return re.compile(f"{_NUMBER}|(?:{_SIGNS}[{marks}]*)+")


def _warn(told: str) -> None:
    warnings.warn(told, DataWarning, 4)


# ---- tokenizers


@lru_cache(maxsize=8)
def _coder(tokenizer: str, max_length: int | None, overlaps: bool, whole: bool = False, length: int = _LENGTH) -> Any:
    """Return what takes texts apart, into parts that overlap or not; or not at all."""
    tokenizers: Any = require("tokenizers", extra="text")
    try:
        made = tokenizers.Tokenizer.from_str(tokenizer)
    except Exception as error:  # the library raises no other
        raise ConfigError(f"tokenizer={brief(tokenizer)} is no tokenizer.json: {error}") from error
    made.no_padding()
    if whole:
        made.no_truncation()
        return made
    length = max_length or (made.truncation or {}).get("max_length", length)
    if overlaps or max_length is not None or made.truncation is None:
        made.enable_truncation(length, stride=_overlap(length) if overlaps else 0)
    return made


def _overlap(length: int) -> int:
    """Return how many tokens a window of a text shares with the one before."""
    return length // 4


def _learned(texts: Iterator[str], size: int, rewritten: bool = False) -> str:
    """Return a byte-level BPE tokenizer of texts, the same for the same texts in any process.

    Args:
        texts: to learn from.
        size: tokens at most.
        rewritten: see ``Text``.
    """
    tokenizers: Any = require("tokenizers", extra="text")
    normalizers, apart = tokenizers.normalizers, tokenizers.pre_tokenizers
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    if rewritten:
        made.normalizer = normalizers.NFC()
        digits = apart.Digits(individual_digits=True)
        made.pre_tokenizer = apart.Sequence([digits, apart.ByteLevel(add_prefix_space=False)])
        made.post_processor = tokenizers.processors.TemplateProcessing(f"$A {_END}", special_tokens=[(_END, 1)])
    else:
        made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        made.pre_tokenizer = apart.ByteLevel(add_prefix_space=True)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=[_PADDING, _END] if rewritten else [_PADDING],  # the first, 0
        initial_alphabet=sorted(apart.ByteLevel.alphabet()),
        show_progress=False,
    )
    with _in_one_thread():
        made.train_from_iterator(texts, trainer)
    learned: str = made.to_str()
    return learned


@contextmanager
def _in_one_thread() -> Iterator[None]:
    """Let the library start no threads, of which it warns once workers are forked."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
