"""An answer is what is said in a sound: letters of each moment, of which most say nothing.

Shapes: N sounds, W windows of L samples, T moments, A letters and the blank, K letters of a transcript.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pkgutil import resolve_name
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch, fold, take
from quickstudy.data.annotations import Annotations, annotated
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, DataError, DataWarning, brief, check_choice, check_counts, given, require
from quickstudy.functional.characters import characters_of, text_of
from quickstudy.kinds.base import KINDS, Judged, Kind, Score
from quickstudy.kinds.losses import Loss, own_loss
from quickstudy.kinds.predictions import check_finite
from quickstudy.nets import Encoder
from quickstudy.nets.sound_bridge import SoundEncoder, WhisperSounds
from quickstudy.nets.speech import letters_of

_BLANK = 0


@KINDS.register("transcription")
@dataclass(frozen=True)
class Transcription(Kind):
    """What is said, letter by letter, by connectionist temporal classification (CTC).

    The backbone tells of moments (``elements``); of each it is told which letter is said there, or none. The loss is
    that of Graves et al. 2006 (https://doi.org/10.1145/1143844.1143891), the mean over sounds of that by letter. The
    score is the word error rate: words that must be put in, left out or changed, by the words of all transcripts.

    A backbone with a decoder, Whisper's, writes by that instead: see ``GeneratedTranscription``. One of the Hugging
    Face Hub that was trained by CTC keeps its letters and its head, unless an alphabet is given.

    Args:
        decoder: ``"ctc"``, or ``"generate"``: by the decoder of the backbone's own model; None: that where it has one.
        case: whether capitals are told from small letters; else all are small. By a decoder words are written as it
            has learned to, and with ``case`` capitals and punctuation count where transcripts are compared.
        alphabet: of CTC, the letters; None: those of the model, or of the training transcripts.
        closed: of CTC, whether only words of the training transcripts are told, as digits or commands: in place of any
            other the one of them that takes the fewest changes of letters.
        num_beams: of a decoder, of the search for the likeliest text; 1: the likeliest token, each time. None: as the
            model was trained to be used, else 1.
        language: of a decoder that knows several: a code, such as ``"de"``; None: that which is heard.
        translate: of such a decoder, whether it writes in English whatever the language is.
        letters: the alphabet, once it is known.
        vocabulary: those words, where they are asked for.
    """

    score: ClassVar[Score] = Score("wer", "min", share=True)
    forms: ClassVar[tuple[str, ...]] = ("texts", "words", "logits")
    schema: ClassVar[Mapping[str, Any]] = {"type": "object", "properties": {"text": {"type": "string"}}}
    learned: ClassVar[tuple[str, ...]] = ("letters", "vocabulary")
    annotates: ClassVar[bool] = True

    decoder: Literal["ctc", "generate"] | None = None
    case: bool = False
    alphabet: str | None = None
    closed: bool = False
    num_beams: int | None = None
    language: str | None = None
    translate: bool = False
    letters: str = ""
    vocabulary: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("decoder", self.decoder, "ctc", "generate", None)
        check_counts(**given(num_beams=self.num_beams))

    def knowing(self, encoder: Encoder) -> Transcription:
        """Return it with the letters of a trained model, or with what its decoder writes by; see ``Kind.knowing``."""
        backbone = encoder.backbone
        if isinstance(backbone, WhisperSounds) and self.decoder != "ctc":
            made = resolve_name("quickstudy.kinds.generated_transcription:GeneratedTranscription")
            found: Transcription = made(**{**self.given(), "decoder": "generate"}).knowing(encoder)
            return found
        if self.decoder == "generate":
            raise ConfigError(
                "decoder='generate' is of models that have a decoder, as Whisper: leave it out, or take "
                "backbone='whisper_tiny_en'"
            )
        for name in given(num_beams=self.num_beams, language=self.language, translate=self.translate or None):
            raise ConfigError(
                f"{name} is of a decoder, as Whisper has one, and this network tells letters: leave it out"
            )
        if self.letters or self.alphabet is not None or not isinstance(backbone, SoundEncoder):
            return self
        found_letters = letters_of(backbone)
        if found_letters is None:
            return self
        letters = "".join(found_letters.letters)
        small = letters if self.case else letters.lower()
        return replace(self, letters=small if len({*small}) == len(letters) == len(small) else letters)

    def first_head(self, encoder: Encoder) -> nn.Module | None:
        """Return the head of a model that was trained by CTC; see ``Kind.first_head``."""
        backbone = encoder.backbone
        if self.alphabet is not None or not isinstance(backbone, SoundEncoder):
            return None
        found = letters_of(backbone)
        if found is None:
            return None
        head = nn.Linear(found.weight.shape[1], len(found.weight))
        head.load_state_dict({"weight": found.weight, "bias": found.bias})
        return head

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Annotations:
        """Take transcripts, a text for each sound; see ``Kind.encode``."""
        return annotated(targets, transcript_of)

    def meet(self, data: Any, stage: str) -> Self:
        """Take the letters; see ``Kind.meet``."""
        tables = [] if data is None else [data.table(name) for name in ("train", "val", "test")]
        table = next((table for table in tables if table is not None), None)
        if table is not None and table.annotations is None:
            raise ConfigError("the data has no transcripts: give a text for each sound, by SpeechRecognitionData")
        if self.letters and (self.vocabulary or not self.closed or table is None):
            return self
        if (table is None or table.annotations is None) and (self.alphabet is None or self.closed):
            raise ConfigError("which letters there are is not known: give datamodule=, or alphabet='abc...'")
        words: set[str] = set()
        if table is not None and table.annotations is not None:
            annotations: Any = replace(table.annotations, code=None)
            words = {
                word for row in range(len(annotations)) for word in self.said(annotations.target(row)["text"]).split()
            }
        known = tuple(sorted(words)) if self.closed else ()
        if self.letters:
            return replace(self, vocabulary=known)
        letters = {*(self.said(self.alphabet) if self.alphabet is not None else "".join(words))}
        if not letters - {" "}:
            raise ConfigError("there is no letter to learn: all transcripts are empty")
        return replace(self, letters="".join(sorted(letters | {" "})), vocabulary=known)

    def said(self, text: str) -> str:
        """Return a transcript as it is learned and compared: in one form of Unicode, with single blanks."""
        words = " ".join(unicodedata.normalize("NFC", text).split())
        return words if self.case else words.lower()

    def compared(self, text: str) -> str:
        """Return a text as it is compared with another; here as it is learned."""
        return self.said(text)

    def fitting(self, table: Table) -> Table:
        """Return the same examples with targets in numbers of letters; see ``Kind.fitting``."""
        if table.annotations is None or not self.letters:
            return table
        return replace(table, annotations=table.annotations.coded(_ToLetters(self)))

    @property
    def choices(self) -> int:
        """How many letters there are."""
        return len(self.letters)

    # ---- the network

    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        """Make a linear head from the features of a moment to its letter, or none."""
        return nn.Linear(encoder.element_width(fold(example["windows"])), 1 + len(self.letters))

    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> dict[str, Tensor]:
        """Return ``{"logits": [N, T, 1 + A], "mask": [N, T], "seconds": [N, T]}``: which moments there are, and when.

        Of windows that overlap each tells of the moments that are nearer to its middle.
        """
        if torch.compiler.is_exporting():
            raise ConfigError("a model that writes what is said is not exported: save it, and serve it")
        windows = fold(inputs["windows"])
        there = windows["mask"].any(-1).nonzero().flatten()  # the others fill up
        features, heard = encoder.elements(take(windows, there))
        told = head(features)
        count, wide = inputs["places"].shape[:2]
        moments = heard.shape[1]
        own = heard.new_zeros(count * wide, moments).index_copy(0, there, heard)
        answers = told.new_zeros(count * wide, *told.shape[1:]).index_copy(0, there, told)
        numbers = torch.arange(moments, device=own.device, dtype=torch.float32)  # whatever precision training has
        middles = (numbers + 0.5) * (windows["wave"].shape[1] / moments)
        first, last, start = inputs["places"].flatten(0, 1)[..., None].unbind(1)
        kept = (own & (middles >= first) & (middles < last)).view(count, wide * moments)
        order = (~kept).sort(dim=1, stable=True).indices
        seconds = ((start + middles) / inputs["rate"].repeat_interleave(wide, 0)).view(count, -1)
        logits = answers.to(torch.promote_types(answers.dtype, torch.float32)).view(count, wide * moments, -1)
        return {
            "logits": logits.take_along_dim(order[..., None], 1),
            "mask": kept.take_along_dim(order, 1),
            "seconds": seconds.take_along_dim(order, 1),
        }

    # ---- how well it does

    def loss(self, asked: str | Loss | None, otherwise: Loss | None = None) -> Loss:
        """Return nothing that is called: the loss is CTC's.

        Raises:
            ConfigError: another is asked for.
        """
        return own_loss(asked, "here it is CTC's")

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Batch, loss: Loss) -> Judged:
        """Answer a batch, and judge the answers; see ``Kind.judge``."""
        outputs = self.outputs(encoder, head, inputs)
        shares = outputs["logits"].log_softmax(-1).transpose(0, 1)
        moments, letters = outputs["mask"].sum(1), targets["mask"].sum(1)
        lost = F.ctc_loss(shares, targets["letters"], moments, letters, _BLANK, zero_infinity=True)
        same = (targets["letters"][:, 1:] == targets["letters"][:, :-1]) & targets["mask"][:, 1:].bool()
        if bool((letters + same.sum(1) > moments).any()):
            warnings.warn(
                "a transcript has more letters than the network tells of moments, and is not learned: is it of this "
                "sound? Else speak slower (a lower sample_rate= than the sounds have makes them last longer)",
                DataWarning,
                2,
            )
        return Judged(lost, len(moments), outputs, targets, self.figures(outputs, targets))

    def figures(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Return ``[N, 4]``: wrong words and letters of each sound, and words and letters that are said."""
        edits: Any = require("rapidfuzz.distance", extra="speech").Levenshtein
        found = []
        for told, characters in zip(self.answers(outputs, "texts", check=False), targets["characters"], strict=True):
            told, true = self.compared(told), self.compared(text_of(characters))
            wrong = edits.distance(told.split(), true.split()), edits.distance(told, true)
            found.append([*wrong, len(true.split()), len(true)])
        return torch.tensor(found, dtype=torch.float32, device=outputs["mask"].device)

    def settled(self, figures: Tensor) -> Tensor:
        """Return what each sound adds to the word error rate."""
        from quickstudy.kinds.metrics import ratio_shares  # torchmetrics takes long to import

        return ratio_shares(figures[:, 0], figures[:, 2]) if len(figures) else figures.new_empty(0)

    def measure(self, per_example: bool, choices: int = 0) -> Any:
        """Return the error rates of words and letters; see ``Kind.measure``."""
        from quickstudy.kinds.metrics import Rates  # torchmetrics takes long to import, and answering needs none

        return Rates(("wer", "cer"))

    # ---- answers

    def answers(self, outputs: Mapping[str, Tensor], form: str, check: bool = True) -> Any:
        """Return for each sound what is said, by the likeliest letter of each moment.

        Args:
            outputs: of the network.
            form: ``"texts"``: N strings; ``"words"``: N lists of ``{"text", "start", "end"}``, in seconds;
                ``"logits"``: N tensors ``[T, 1 + A]``, of none and of each letter.
            check: whether to look for what is no number.

        Raises:
            DataError: an answer is not a number.
        """
        logits, mask = outputs["logits"], outputs["mask"].bool()
        if check:
            check_finite(~(logits.isnan().any(-1) & mask).any(1))
        if form == "logits":
            return [own[there] for own, there in zip(logits, mask, strict=True)]
        said = [own[there] for own, there in zip(logits.argmax(-1), mask, strict=True)]
        if form == "texts":
            texts = ["".join(letter for letter, _ in self._read(codes)) for codes in said]
            return [" ".join(map(self._known, text.split())) if self.vocabulary else text for text in texts]
        seconds = [own[there] for own, there in zip(outputs["seconds"], mask, strict=True)]
        return [list(self._words(codes, times)) for codes, times in zip(said, seconds, strict=True)]

    def _read(self, codes: Tensor) -> Iterator[tuple[str, int]]:
        """Yield letters, each with the moment in which it begins."""
        place = 0
        for code, run in groupby(codes.tolist()):
            if code != _BLANK:
                yield self.letters[code - 1], place
            place += len(list(run))

    def _known(self, word: str) -> str:
        """Return the word itself, or the one of a closed vocabulary that is the most like it."""
        if not self.vocabulary or word in self.vocabulary:
            return word
        edits: Any = require("rapidfuzz.distance", extra="speech").Levenshtein
        return min(self.vocabulary, key=lambda one: edits.normalized_distance(one, word))

    def _words(self, codes: Tensor, seconds: Tensor) -> Iterator[dict[str, Any]]:
        """Yield words with the seconds in which the moment of their first letter begins and that of their last ends."""
        times = seconds.tolist()  # of the middles of moments
        step = min((later - before for before, later in pairwise(times)), default=0.0)
        for blank, run in groupby(self._read(codes), lambda one: one[0] == " "):
            if not blank:
                letters = list(run)
                text = "".join(letter for letter, _ in letters)
                start, end = times[letters[0][1]] - step / 2, times[letters[-1][1]] + step / 2
                yield {"text": self._known(text), "start": round(max(start, 0.0), 3), "end": round(end, 3)}

    def in_json(self, answer: str) -> dict[str, Any]:
        """Return the text; see ``Kind.in_json``."""
        return {"text": answer}


def transcript_of(item: Any, example: Batch | None = None) -> dict[str, Any]:
    """Return the transcript of one sound, ``{"text"}``.

    Args:
        item: a string, or a file of one: an object that has ``read_bytes``.
        example: see ``annotations.Read``.

    Raises:
        DataError: it is no text.
    """
    if hasattr(item, "read_bytes"):
        try:
            item = item.read_bytes().decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"'{item}' is no file of UTF-8 text: {error}") from error
    if not isinstance(item, str):
        remedy = f": give it as one, {str(item)!r}" if isinstance(item, (int, float)) else ""
        column = ", or the column as texts, frame['text'].astype(str)" if remedy else ""
        raise DataError(f"a transcript is a text, and this is {brief(item)}{remedy}{column}")
    if "\0" in item:
        raise DataError(f"the transcript {brief(item)} holds a NUL byte, as no text does")
    return {"text": item}


@dataclass(frozen=True)
class _ToLetters:
    """Makes targets of transcripts: the numbers of their letters, of which the blank is 0, and all they say."""

    kind: Transcription

    def __call__(self, found: Mapping[str, Any]) -> dict[str, Tensor]:
        text = self.kind.said(found["text"])
        known = {letter: 1 + code for code, letter in enumerate(self.kind.letters)}
        codes = [known[letter] for letter in text if letter in known]  # others count as wrong, and are not learned
        return {
            "letters": torch.tensor(codes, dtype=torch.int64),
            "mask": torch.ones(len(codes), dtype=torch.bool),
            "characters": characters_of(text),
        }
