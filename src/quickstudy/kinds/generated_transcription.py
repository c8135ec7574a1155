"""An answer is what is said in a sound, written word by word by a decoder that was trained with its encoder: Whisper's.

Shapes: N sounds, K tokens of a transcript, V tokens of the vocabulary.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch, stack
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, DataError, brief, given, require
from quickstudy.functional.characters import characters_of
from quickstudy.kinds.base import KINDS, Judged
from quickstudy.kinds.losses import Loss
from quickstudy.kinds.predictions import check_finite
from quickstudy.kinds.transcription import Transcription
from quickstudy.nets import Encoder
from quickstudy.nets.sound_bridge import WhisperSounds
from quickstudy.nets.speech import SpeechDecoder, Spoken, decoder_of, prompt_of, words_of

_UNSPACED = ("zh", "yue", "ja", "th", "lo", "my", "km")
"""Languages that are written without blanks between words."""


@KINDS.register("generated_transcription")
@dataclass(frozen=True)
class GeneratedTranscription(Transcription):
    """What is said, token by token, by Whisper's decoder; see ``Transcription`` for the options.

    The loss is the cross-entropy of each token by those before it, the mean over the tokens of a batch; sounds that
    are learned last 30 s at most. Longer ones are written as transformers' ``generate`` does, each window from where
    the last sentence ended.

    Args:
        tokenizer: as JSON.
        generation: likewise, what the model's ``generation_config.json`` has.
    """

    forms: ClassVar[tuple[str, ...]] = ("texts", "words", "scored")
    learned: ClassVar[tuple[str, ...]] = (*Transcription.learned, "tokenizer", "generation")

    tokenizer: str = field(default="", kw_only=True)
    generation: str = field(default="", kw_only=True)

    def knowing(self, encoder: Encoder) -> Self:
        """Return it with what a trained model writes by; see ``Kind.knowing``.

        Raises:
            ConfigError: an option is of CTC, or of a model that knows other languages.
        """
        for name in (name for name in ("alphabet", "closed") if getattr(self, name) not in (None, False)):
            raise ConfigError(
                f"{name} is of letters, and this network writes by its decoder: leave it out, or take decoder='ctc'"
            )
        backbone = encoder.backbone
        assert isinstance(backbone, WhisperSounds)
        if not backbone.source:
            return self
        tokenizer, generation = words_of(backbone)
        made = replace(self, tokenizer=tokenizer, generation=json.dumps(generation))
        if self.language is not None or self.translate:
            if not generation.get("is_multilingual", True) or "lang_to_id" not in generation:
                raise ConfigError(
                    "language and translate are of a model of several languages, and this one knows English alone: "
                    "leave them out, or take another, such as backbone='openai/whisper-tiny'"
                )
            prompt_of(generation, made.language or "en", None)  # where the language is not known, it says so
        return made

    @property
    def choices(self) -> int:
        """Return that there is no choice among a few; see ``Kind.choices``."""
        return 0

    def meet(self, data: Any, stage: str) -> Self:
        """Check that there are transcripts; see ``Kind.meet``."""
        tables = [] if data is None else [data.table(name) for name in ("train", "val", "test")]
        if any(table is not None and table.annotations is None for table in tables):
            raise ConfigError("the data has no transcripts: give a text for each sound, by SpeechRecognitionData")
        self._check_words()
        if stage == "fit" and self.language is None and self._several:
            raise ConfigError(
                "the model knows several languages, and learns one at a time: say which, language='de', say"
            )
        return self

    def _check_words(self) -> None:
        if not self.tokenizer:
            raise ConfigError(
                "the model has no tokenizer, so that its decoder cannot write: name a trained one, "
                "backbone='whisper_tiny_en' or one of the Hugging Face Hub, or take decoder='ctc', which learns letters"
            )

    @property
    def told(self) -> dict[str, Any]:
        """What the model's ``generation_config.json`` has."""
        self._check_words()
        return dict(_parsed(self.generation))

    @property
    def _several(self) -> bool:
        told = self.told
        return bool(told.get("is_multilingual", True)) and "lang_to_id" in told

    @property
    def prompt(self) -> list[int]:
        """The tokens that a transcript begins with; of several languages English where none is named."""
        language = self.language if self.language is not None or not self._several else "en"
        return prompt_of(self.told, language, "translate" if self.translate else None)

    @property
    def last(self) -> int:
        """The token that ends a transcript, behind all that are of words."""
        end = self.told["eos_token_id"]
        return int(end[0] if isinstance(end, list) else end)

    def compared(self, text: str) -> str:
        """Return a text as it is compared with another: without capitals and punctuation, unless ``case``."""
        if self.case:
            return self.said(text)
        kept = (" " if unicodedata.category(one)[0] in "PS" and one not in "'’" else one for one in text)
        return self.said("".join(kept).replace("’", "'"))

    def fitting(self, table: Table) -> Table:
        """Return the same examples with targets in tokens; see ``Kind.fitting``."""
        if table.annotations is None or not self.tokenizer:
            return table
        return replace(table, annotations=table.annotations.coded(_ToTokens(self)))

    # ---- the network

    def first_head(self, encoder: Encoder) -> nn.Module | None:
        """Return the decoder; see ``Kind.first_head``."""
        return self._decoder(encoder)

    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        """Return the decoder; see ``Kind.head``."""
        return self._decoder(encoder)

    def head_of(self, weights: Mapping[str, Tensor], encoder: Encoder, like: Batch | None) -> nn.Module:
        """Return the decoder; see ``Kind.head_of``."""
        return self._decoder(encoder)

    def _decoder(self, encoder: Encoder) -> SpeechDecoder:
        assert isinstance(encoder.backbone, WhisperSounds)
        return decoder_of(encoder.backbone)

    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> dict[str, Tensor]:
        """Write what is said.

        Returns:
            ``{"ids": [N, K], "mask": [N, K], "seconds": [N, K, 2], "score": [N]}``: tokens, when each begins and ends,
            and the mean of the logarithms of their chances.
        """
        if torch.compiler.is_exporting():
            raise ConfigError("a model that writes what is said is not exported: save it, and serve it")
        return self._written(encoder, head, inputs)

    def _written(self, encoder: Encoder, head: nn.Module, inputs: Batch, timed: bool = True) -> dict[str, Tensor]:
        backbone, sounds = encoder.backbone, encoder.prepared(rejoined(inputs))
        assert isinstance(backbone, WhisperSounds) and isinstance(head, SpeechDecoder)
        generation, options = self.told, dict[str, Any](timed=timed, **given(num_beams=self.num_beams))
        if self._several:
            options |= {"language": self.language, "task": "translate" if self.translate else "transcribe"}
        lengths = sounds["mask"].sum(1)
        told = dict[int, Spoken]()
        for rows in (group.nonzero().flatten() for group in (lengths <= backbone.most, lengths > backbone.most)):
            if len(rows):
                longest = int(lengths[rows].max())
                features, there = backbone.whole_spectrum(*(sounds[name][rows, :longest] for name in ("wave", "mask")))
                found = head.transcribe(backbone.network, features, there, generation, **options)
                told |= dict(zip(rows.tolist(), found, strict=True))
        whole = [told[row] for row in range(len(told))]
        written = stack(
            [
                {
                    "ids": one.tokens,
                    "mask": torch.ones(len(one.tokens), dtype=torch.bool),
                    "seconds": one.times,
                    "score": one.score,
                }
                for one in whole
            ]
        )
        asked = ("ids", "mask", *(("seconds", "score") if timed else ()))
        return {name: written[name].to(lengths.device) for name in asked}

    # ---- how well it does

    def loss(self, asked: str | Loss | None, otherwise: Loss | None = None) -> Loss:
        """Return the cross-entropy of logits ``[n, V]`` and tokens ``[n]``.

        Raises:
            ConfigError: another is asked for by a name.
        """
        if isinstance(asked, str) and asked != "cross_entropy":
            raise ConfigError(f"loss_fn={brief(asked)}: here it is 'cross_entropy', or a function of (logits, tokens)")
        return F.cross_entropy if asked is None or isinstance(asked, str) else asked

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Batch, loss: Loss) -> Judged:
        """Answer a batch, and judge the answers; while it trains there are none. See ``Kind.judge``."""
        backbone, sounds = encoder.backbone, encoder.prepared(rejoined(inputs))
        assert isinstance(backbone, WhisperSounds) and isinstance(head, SpeechDecoder)
        longest = int(sounds["mask"].sum(1).max())
        if longest > backbone.most:
            raise DataError(
                f"a sound of {longest / backbone.sample_rate:,.1f} s has a transcript, and the network learns, and is "
                f"judged by, what is said in {backbone.most / backbone.sample_rate:g} s: cut such sounds, and their "
                "transcripts, into parts"
            )
        features, _ = backbone.whole_spectrum(sounds["wave"], sounds["mask"])
        states = backbone.network(features).last_hidden_state
        asked = targets["asked"].bool()
        lost = loss(head(states, None, targets["ids"])[asked], targets["ids"][asked])
        outputs: dict[str, Tensor] = {}
        if not head.training:
            outputs = self._written(encoder, head, inputs, timed=False)
        return Judged(lost, asked.sum(), outputs, targets, self.figures(outputs, targets))

    def figures(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Return those of ``Transcription``; while it trains there are none."""
        return super().figures(outputs, targets) if outputs else targets["ids"].new_empty(0, 4, dtype=torch.float32)

    # ---- answers

    def answers(self, outputs: Mapping[str, Tensor], form: str, check: bool = True) -> Any:
        """Return for each sound what is said.

        Args:
            outputs: of the network.
            form: ``"texts"``: N strings; ``"words"``: N lists of ``{"text", "start", "end"}``, in seconds;
                ``"scored"``: N of ``{"text", "score"}``, with the mean chance of a token, the geometric one.
            check: whether to look for what is no number.

        Raises:
            DataError: an answer is not a number.
        """
        if check:
            check_finite(~outputs["score"].isnan())
        there = outputs["mask"].bool()
        tokens = [own[mask].tolist() for own, mask in zip(outputs["ids"], there, strict=True)]
        texts = map(self._text, tokens)
        if form == "texts":
            return list(texts)
        if form == "scored":
            scores = outputs["score"].exp().tolist()
            return [{"text": text, "score": score} for text, score in zip(texts, scores, strict=True)]
        seconds = [own[mask].tolist() for own, mask in zip(outputs["seconds"], there, strict=True)]
        return [list(self._timed_words(*pair)) for pair in zip(tokens, seconds, strict=True)]

    def _text(self, tokens: Sequence[int]) -> str:
        return " ".join(_tokenizer(self.tokenizer).decode(list(tokens)).split())

    def _timed_words(self, tokens: Sequence[int], seconds: Sequence[Sequence[float]]) -> Iterator[dict[str, Any]]:
        """Yield words with their times: tokens, of which each that begins with a blank begins a word."""
        spaced, whole = self.language not in _UNSPACED, _tokenizer(self.tokenizer)
        text, start, end, first = "", 0.0, 0.0, 0
        for place, (_, ends) in enumerate(seconds, 1):
            piece = whole.decode(list(tokens[first:place]))
            if piece.endswith("\N{REPLACEMENT CHARACTER}") and place < len(tokens):
                continue  # a character in several tokens
            begins = round(seconds[first][0], 3)
            if text.strip() and (piece.startswith(" ") or not spaced):
                yield {"text": text.strip(), "start": start, "end": max(min(end, begins), start)}
                text = ""
            start = start if text else begins
            text, end, first = text + piece, round(ends, 3), place
        if text.strip():
            yield {"text": text.strip(), "start": start, "end": end}


@lru_cache(maxsize=8)
def _tokenizer(text: str) -> Any:
    return require("tokenizers", extra="speech").Tokenizer.from_str(text)


@lru_cache(maxsize=8)
def _parsed(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


@dataclass(frozen=True)
class _ToTokens:
    """Makes targets of transcripts: what is written behind the first token, what of that is asked, and the text."""

    kind: GeneratedTranscription

    def __call__(self, found: Mapping[str, Any]) -> dict[str, Tensor]:
        text = " ".join(unicodedata.normalize("NFC", found["text"]).split())
        begins = self.kind.prompt[1:]
        own = _tokenizer(self.kind.tokenizer).encode(f" {text}" if text else "", add_special_tokens=False).ids
        ids = torch.tensor([*begins, *own, self.kind.last])
        most = int(self.kind.told.get("max_length", len(ids)))
        if len(ids) >= most:
            raise DataError(
                f"the transcript {brief(text)} has {len(own)} tokens, and the network writes {most - 2 - len(begins)} "
                "at most: cut the sound and its transcript into parts"
            )
        return {
            "ids": ids,
            "asked": torch.arange(len(ids)) >= len(begins),
            "characters": characters_of(text),
        }


def rejoined(sounds: Batch) -> Batch:
    """Return sounds that were read as a whole as they were before they were cut into windows.

    Args:
        sounds: ``windows`` of ``wave`` and ``mask`` ``[N, W, L]``, and ``places``.

    Returns:
        ``{"wave": [N, M], "mask": [N, M]}``
    """
    wave, mask, starts = sounds["windows"]["wave"], sounds["windows"]["mask"], sounds["places"][..., 2]
    if wave.shape[1] == 1:
        return {"wave": wave[:, 0], "mask": mask[:, 0]}
    counts = mask.sum(2)
    whole = wave.new_zeros(len(wave), int((starts + counts).max()))
    for row, place in counts.nonzero().tolist():
        start, count = int(starts[row, place]), int(counts[row, place])
        whole[row, start : start + count] = wave[row, place, :count]
    lengths = (starts + counts).amax(1)
    return {"wave": whole, "mask": torch.arange(whole.shape[1], device=wave.device) < lengths[:, None]}
