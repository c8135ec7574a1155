"""An answer is a text that is written, token by token, by an encoder-decoder: a summary, a translation.

Shapes: N inputs, L places of one, K tokens of a target or an answer, V tokens of the vocabulary, M characters.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.data.annotations import Annotations, annotated
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, DataError, DataWarning, brief, check_counts, given, require
from quickstudy.functional.characters import characters_of, text_of
from quickstudy.functional.ngrams import CHRF_COUNTS, bleu_counts, chrf, chrf_counts, rouge, shares_of_texts
from quickstudy.kinds.base import KINDS, Judged, Kind, Score
from quickstudy.kinds.losses import Loss
from quickstudy.kinds.predictions import check_finite
from quickstudy.nets import Encoder
from quickstudy.nets.seq2seq import Seq2SeqDecoder, without_decoder

_USUAL_LENGTH = 128
"""Tokens that are written at most where neither the user nor training data says."""
_AT_ONCE = 10_000  # targets whose tokens are counted together
FIGURES = ("rouge_1", "rouge_2", "rouge_l", "exact_match")
"""Those of an answer that are means over answers."""


@dataclass(frozen=True)
class Generation(Kind):
    """A text that is written for each input.

    A backbone reads (``Encoder.elements``), and its decoder, which is the head, writes one token after the other by
    the states that it made (Sutskever et al. 2014, https://arxiv.org/abs/1409.3215). It learns each token of a target
    by the true ones before it; the loss is the mean over tokens. To be judged, it writes by itself.

    Args:
        num_beams: of the search for the likeliest text; 1: the likeliest token, each time. None: as the model was
            trained to be used, else 1.
        max_new_tokens: tokens that are written at most; longer training targets are cut. None: as many as the longest
            training target has.
        length_penalty: of beams: above 0 it favours long texts, below 0 short ones. None: as the model says.
        no_repeat_ngram_size: runs of so many tokens are written once only; 0: as often as it likes. None: as the model
            says.
        target_language: the token with which a model of many languages begins to write one, such as ``"deu_Latn"``.
        label_smoothing: share of a target that is spread over all tokens (Szegedy et al. 2016,
            https://arxiv.org/abs/1512.00567).
        tokenizer: what takes targets apart, and puts answers together, as JSON.
        longest: tokens of the longest training target.
    """

    forms: ClassVar[tuple[str, ...]] = ("texts", "scored")
    schema: ClassVar[Mapping[str, Any]] = {"type": "object", "properties": {"text": {"type": "string"}}}
    learned: ClassVar[tuple[str, ...]] = ("tokenizer", "longest")
    annotates: ClassVar[bool] = True
    of_backbone: ClassVar[Mapping[str, Any]] = {"decoder": True}
    wanted: ClassVar[str]
    """What is written for each input, and whose data has it, for messages."""

    num_beams: int | None = None
    max_new_tokens: int | None = None
    length_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    target_language: str = ""
    label_smoothing: float = 0.0
    tokenizer: str = field(default="", repr=False, kw_only=True)
    longest: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        check_counts(**given(num_beams=self.num_beams, max_new_tokens=self.max_new_tokens))
        check_counts(0, **given(no_repeat_ngram_size=self.no_repeat_ngram_size))
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing={self.label_smoothing}: it is a share, from 0 up to 1, such as 0.1")

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Annotations:
        """Take texts, one for each input; see ``Kind.encode``."""
        return annotated(targets, target_of)

    def meet(self, data: Any, stage: str) -> Self:
        """Take the tokenizer and how long targets are; see ``Kind.meet``.

        Raises:
            DataError: a target is no text; the message has its row.
        """
        given_tables = {name: data.table(name) for name in ("train", "val", "test")} if data is not None else {}
        targets: dict[str, list[str]] = {}
        for name, table in given_tables.items():
            if table is not None and table.annotations is None:
                raise ConfigError(f"the {name} data has no {self.wanted}")
            if table is not None:
                targets[name] = texts_of(table.annotations, name)
        known = self
        if not self.tokenizer:
            known = self.with_tokenizer("" if data is None else getattr(data.modality, "tokenizer", ""))
        if stage != "fit" or "train" not in targets:
            return known
        return replace(known, longest=max(known.longest, known._longest_of(targets["train"])))

    def with_tokenizer(self, tokenizer: str) -> Self:
        """Return it with what takes targets apart.

        Raises:
            ConfigError: there is none, or it lacks the token of the language.
        """
        if not tokenizer:
            raise ConfigError("how texts are taken apart is not known: give datamodule=, or a backbone by its name")
        made = replace(self, tokenizer=tokenizer)
        made.language  # noqa: B018  # which is looked up
        return made

    @property
    def language(self) -> int | None:
        """The number of the token of the language.

        Raises:
            ConfigError: the tokenizer has no such token.
        """
        if not self.target_language:
            return None
        number: int | None = _coder(self.tokenizer).token_to_id(self.target_language)
        if number is None:
            some = [token["content"] for token in json.loads(self.tokenizer).get("added_tokens", ())]
            few = f", but {', '.join(some[:8])}{', ...' * (len(some) > 8)}" if some else ""
            raise ConfigError(f"target_language={brief(self.target_language)}: the tokenizer has no such token{few}")
        return number

    def _longest_of(self, targets: Sequence[str]) -> int:
        """Return how many tokens the longest target has, and warn where some are cut."""
        coder, lengths = _coder(self.tokenizer), list[int]()
        for start in range(0, len(targets), _AT_ONCE):
            encoded = coder.encode_batch(targets[start : start + _AT_ONCE])
            lengths += [len(one.ids) + (self.language is not None) for one in encoded]
        most = max(lengths)
        cut = sum(length > (self.max_new_tokens or length) for length in lengths)
        if cut:
            warnings.warn(
                f"{cut} of {len(targets)} targets have more than {self.max_new_tokens} tokens (the longest {most}), "
                f"and their ends are cut: set max_new_tokens={most}, or leave it out",
                DataWarning,
                3,
            )
        return most

    def fitting(self, table: Table) -> Table:
        """Return the same examples with targets in tokens; see ``Kind.fitting``."""
        if table.annotations is None or not self.tokenizer:
            return table
        return replace(table, annotations=table.annotations.coded(_ToTokens(self)))

    def tokens_of(self, text: str) -> list[int]:
        """Return the tokens of a target, the one that ends it last, that of the language first where there is one."""
        coder = _coder(self.tokenizer)
        if (language := self.language) is None:
            tokens: list[int] = coder.encode(text).ids
        else:
            end = coder.encode("").ids[-1:]
            tokens = [language, *coder.encode(text, add_special_tokens=False).ids, *end]
        most = self.max_new_tokens or len(tokens)
        return tokens if len(tokens) <= most else [*tokens[: most - 1], tokens[-1]]

    # ---- the network

    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        """Take the decoder that belongs to the backbone."""
        return self._decoder(encoder, False)

    def head_of(self, weights: Mapping[str, Tensor], encoder: Encoder, like: Batch | None) -> nn.Module:
        """Make a decoder that weights are of; see ``Kind.head_of``."""
        return self._decoder(encoder, True)

    def _decoder(self, encoder: Encoder, anew: bool) -> nn.Module:
        make = getattr(encoder.backbone, "decoder", None)
        if make is None:
            raise without_decoder(type(encoder.backbone).__name__)
        made: nn.Module = make(anew)
        return made

    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> dict[str, Tensor]:
        """Write a text for each input.

        Returns:
            ``{"tokens": [N, K], "mask": [N, K], "score": [N]}``: the tokens up to the one that ends, which are there,
            and the mean of the logarithms of their chances.
        """
        if torch.compiler.is_exporting():
            raise ConfigError("a model that writes texts is not exported: save it, and serve it")
        states, mask = encoder.elements(inputs)
        return self._written_by(encoder, head, states, mask)

    def _written_by(self, encoder: Encoder, head: nn.Module, states: Tensor, mask: Tensor) -> dict[str, Tensor]:
        assert isinstance(head, Seq2SeqDecoder)
        most = self.max_new_tokens or self.longest or _USUAL_LENGTH
        asked = given(
            num_beams=self.num_beams,
            length_penalty=self.length_penalty,
            no_repeat_ngram_size=self.no_repeat_ngram_size,
            forced_bos_token_id=self.language,
        )
        tokens = head.generate(states, mask, _network(encoder), max_new_tokens=most, **asked)
        tokens = F.pad(tokens, (0, most - tokens.shape[1]))
        ended = (tokens == head.end).cumsum(1)
        there = (ended == 0) | ((ended == 1) & (tokens == head.end))
        tokens = tokens.where(there, 0)
        with torch.no_grad():
            logits = head(states, mask, tokens, _network(encoder))
        chances = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        each = chances.gather(-1, tokens[..., None]).squeeze(-1)
        return {"tokens": tokens, "mask": there, "score": each.where(there, 0).sum(1) / there.sum(1)}

    # ---- how well it does

    def loss(self, asked: str | Loss | None, otherwise: Loss | None = None) -> Loss:
        """Return the cross-entropy of logits ``[n, V]`` and tokens ``[n]``, with smoothed labels where asked for.

        Raises:
            ConfigError: another is asked for by a name, or labels are to be smoothed for one.
        """
        if isinstance(asked, str) and asked != "cross_entropy":
            raise ConfigError(f"loss_fn={brief(asked)}: here it is 'cross_entropy', or a function of (logits, targets)")
        if asked is not None and not isinstance(asked, str):
            if self.label_smoothing:
                raise ConfigError("label_smoothing= is of cross-entropy: leave it, or loss_fn=, out")
            return asked
        return partial(F.cross_entropy, label_smoothing=self.label_smoothing)

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Batch, loss: Loss) -> Judged:
        """Tell each token of the targets by those before it; and write by itself, unless it trains.

        See ``Kind.judge``.
        """
        assert isinstance(head, Seq2SeqDecoder)
        states, mask = encoder.elements(inputs)
        there = targets["mask"].bool()
        logits = head(states, mask, targets["tokens"], _network(encoder))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        lost = loss(logits[there], targets["tokens"][there])
        outputs = {} if head.training else self._written_by(encoder, head, states, mask)
        return Judged(lost, there.sum(), outputs, targets, self.figures(outputs, targets))

    def figures(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Return ``[N, 32]``: those of ``FIGURES``, and the counts that BLEU and chrF follow from."""
        if not outputs:  # of a step of training, in which nothing is written
            return targets["tokens"].new_empty(0, dtype=torch.float32)
        found = []
        for told, characters in zip(self._texts(outputs), targets["characters"], strict=True):
            true = text_of(characters)
            exact = float(told.split() == true.split())
            found.append([*rouge(told, true), exact, *bleu_counts(told, true), *chrf_counts(told, true)])
        return torch.tensor(found, device=outputs["tokens"].device)

    def settled(self, figures: Tensor) -> Tensor:
        """Return what each answer adds to the score."""
        if figures.ndim < 2 or not len(figures):
            return figures.new_empty(0)
        if self.score.name in FIGURES:
            return figures[:, FIGURES.index(self.score.name)]
        return shares_of_texts(chrf, figures[:, -CHRF_COUNTS:])

    def measure(self, per_example: bool, choices: int = 0) -> Any:
        """Return ROUGE, exact match, BLEU and chrF; see ``Kind.measure``."""
        from quickstudy.kinds.metrics import Written  # torchmetrics takes long to import, and answering needs none

        return Written(FIGURES)

    # ---- answers

    def answers(self, outputs: Mapping[str, Tensor], form: str) -> Any:
        """Return for each input what was written.

        Args:
            outputs: of the network.
            form: ``"texts"``: N strings; ``"scored"``: N of ``{"text", "score"}``, with the mean chance of a token,
                the geometric one.

        Raises:
            DataError: an answer is not a number.
        """
        check_finite(~outputs["score"].isnan())
        texts = self._texts(outputs)
        if form == "texts":
            return texts
        scores = outputs["score"].exp().tolist()
        return [{"text": text, "score": score} for text, score in zip(texts, scores, strict=True)]

    def _texts(self, outputs: Mapping[str, Tensor]) -> list[str]:
        rows = zip(outputs["tokens"].cpu(), outputs["mask"].bool().cpu(), strict=True)
        texts: list[str] = _coder(self.tokenizer).decode_batch([tokens[there].tolist() for tokens, there in rows])
        return [text.strip() for text in texts]

    def in_json(self, answer: str) -> dict[str, Any]:
        """Return the text; see ``Kind.in_json``."""
        return {"text": answer}


@KINDS.register("summarization")
@dataclass(frozen=True)
class Summaries(Generation):
    """A summary of each text, judged by ROUGE-L; see ``Generation``."""

    score: ClassVar[Score] = Score("rouge_l", share=True)
    wanted: ClassVar[str] = "summaries: give a text for each input, by SummarizationData"


@KINDS.register("translation")
@dataclass(frozen=True)
class Translations(Generation):
    """Another text for each text, such as its translation, judged by chrF; see ``Generation``."""

    score: ClassVar[Score] = Score("chrf", share=True)
    wanted: ClassVar[str] = "translations: give a text for each input, by TranslationData"


def target_of(item: Any, example: Batch | None = None) -> dict[str, Tensor]:
    """Return the text that is to be written for one input, ``{"characters": [M]}``.

    Args:
        item: a string.
        example: see ``annotations.Read``.

    Raises:
        DataError: it is no text, or blank.
    """
    if not isinstance(item, str):
        raise DataError(f"{brief(item)} is no text: give a string")
    if not item.strip():
        raise DataError(f"{brief(item)} is blank: leave it out")
    if "\0" in item:
        raise DataError(f"{brief(item)} holds a NUL byte, as no text does: type text.replace('\\0', ' ')")
    try:
        item.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{brief(item)} holds half a character (a lone surrogate) at {error.start}: type "
            "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
        ) from error
    return {"characters": characters_of(item)}


def texts_of(annotations: Annotations, stage: str) -> list[str]:
    """Return the targets of a stage.

    Raises:
        DataError: one is no text; the message has its row.
    """
    raw, texts = replace(annotations, code=None), list[str]()
    for row in range(len(raw)):
        try:
            found: Any = raw.target(row)
        except DataError as error:
            told = f"in the {stage} data, the target of text {row}: {error}"
            raise DataError(f"{told}, or set on_error='skip'") from error
        texts.append(text_of(found["characters"]))
    return texts


@lru_cache(maxsize=8)
def _coder(tokenizer: str) -> Any:
    """Return a tokenizer that cuts nothing."""
    made: Any = require("tokenizers", extra="text").Tokenizer.from_str(tokenizer)
    made.no_padding()
    made.no_truncation()
    return made


def _network(encoder: Encoder) -> nn.Module:
    """Return transformers' own encoder, whose parameters the decoder shares."""
    return encoder.backbone.get_submodule("network")


@dataclass(frozen=True)
class _ToTokens:
    """Makes targets of texts: their tokens, that these are there, and the characters of the text."""

    kind: Generation

    def __call__(self, found: Mapping[str, Any]) -> dict[str, Tensor]:
        tokens = self.kind.tokens_of(text_of(found["characters"]))
        return {
            "tokens": torch.tensor(tokens, dtype=torch.int64),
            "mask": torch.ones(len(tokens), dtype=torch.bool),
            "characters": found["characters"],
        }
