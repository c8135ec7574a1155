"""Tasks of sounds, and their data: classification, regression, embedding, what is said."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from quickstudy.audio.modality import Sound
from quickstudy.audio.transcripts import transcribed_folder
from quickstudy.data.annotations import Annotations, annotated
from quickstudy.data.sources import listed_table
from quickstudy.data.stages import Stage, door
from quickstudy.data.table import Table
from quickstudy.errors import DataError, given
from quickstudy.kinds.base import Kind
from quickstudy.kinds.embedding import Embedding
from quickstudy.kinds.regression import Regression
from quickstudy.kinds.transcription import Transcription, transcript_of
from quickstudy.training.datamodule import DataModule
from quickstudy.training.task import Classifier, Embedder, Regressor, Task


class AudioData(DataModule):
    """Sounds; see ``DataModule`` for the doors and ``DataOptions`` for the other options.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        sample_rate: samples a second that all sounds are brought to. Default: as the model's training data, else
            16,000.
        seconds: of a sound that are heard: the loudest part of a longer one, and silence follows a shorter one.
            Default: as the model's training data, else such that 19 of 20 training sounds fit, up to 10.
        windows: with more than 1, so many parts of a longer sound are heard, and its vector is the mean of theirs; in
            training one of them, by chance, each time; see ``Sound``.
        options: see ``DataOptions``.
    """

    modality = Sound()

    def __init__(
        self,
        train: Table | None = None,
        val: Table | None = None,
        test: Table | None = None,
        predict: Table | None = None,
        sample_rate: int | None = None,
        seconds: float | None = None,
        windows: int | None = None,
        **options: Any,
    ) -> None:
        options |= given(sample_rate=sample_rate, seconds=seconds, windows=windows)
        tables = [_one_by_one(table) for table in (train, val, test, predict)]
        if sample_rate is None and any(
            now is not table for now, table in zip(tables, (train, val, test, predict), strict=True)
        ):
            type(self).modality.tell_of_rate("set sample_rate= of the data, or take from_arrays(sampling_rate=...)")
        train, val, test, predict = tables
        super().__init__(train, val, test, predict, **options)

    @door
    def from_arrays(cls, stage: Stage, arrays: Any, targets: Any, *, sampling_rate: int | None = None) -> Table:
        """Take sounds from memory.

        Args:
            sampling_rate: samples a second that the arrays have; dicts say it themselves.
            arrays, targets: samples, ``[L]`` or ``[C, L]`` each, of any lengths, int16 or floats of -1..1; or dicts
                ``{"array", "sampling_rate"}``; and as many targets, per stage.
            options: see the class.

        Raises:
            DataError: the rate or a target is missing, or there are more of the one than of the other.
        """
        sounds: list[Any] = list(cls.modality.separated(arrays))
        if sampling_rate is not None:
            sounds = [
                one if isinstance(one, Mapping) else {"array": one, "sampling_rate": sampling_rate} for one in sounds
            ]
        elif bare := [row for row, one in enumerate(sounds) if hasattr(one, "shape")]:
            raise DataError(f"sound {bare[0]} does not say how many samples a second it has: type sampling_rate=16000")
        return listed_table(sounds, targets, cls.modality.column, skip=stage.skip, encode=cls.encode)


def _one_by_one(table: Table | None) -> Table | None:
    """Return a table whose waves are sounds to be read, ``[N, L]`` or ``[N, C, L]``; spectra are fed as they are."""
    if table is None or not isinstance(table.inputs, Tensor) or table.inputs.ndim > 3:
        return table
    return replace(table, inputs=list(table.inputs))


class AudioClassificationData(AudioData):
    """Sounds with labels; see ``AudioData``."""


class AudioEmbeddingData(AudioData):
    """Sounds, with labels or without; see ``AudioData``.

    Its doors need no targets, and its folders no class folders. Labels are for judging, and for the default strategy.
    """

    answers = Embedding


class AudioRegressionData(AudioData):
    """Sounds with numbers, such as an age; see ``AudioData``."""

    answers = Regression


class SpeechRecognitionData(AudioData):
    """Sounds with what is said in them; see ``AudioData``, and ``DataModule`` for the doors.

    Transcripts are texts. A folder has ``a.txt`` beside ``a.wav``, or is of LibriSpeech's form. All of a sound is
    heard.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        sample_rate: samples a second that all sounds are brought to. Default: as the model's training data, else
            16,000.
        seconds: of the windows, 30 by default, in which longer sounds are heard, of which each shares 4 s with the one
            before.
        max_seconds: a sound that lasts longer is refused before it is decoded; default: 600.
        options: see ``DataOptions``.
    """

    modality = Sound(features="wave", whole=True)
    answers: ClassVar[type[Kind]] = Transcription

    def __init__(
        self,
        train: Table | None = None,
        val: Table | None = None,
        test: Table | None = None,
        predict: Table | None = None,
        sample_rate: int | None = None,
        seconds: float | None = None,
        max_seconds: float | None = None,
        **options: Any,
    ) -> None:
        options |= given(max_seconds=max_seconds)
        super().__init__(train, val, test, predict, sample_rate=sample_rate, seconds=seconds, **options)

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Annotations:
        """Take transcripts from memory, or files that hold them."""
        return annotated(targets, transcript_of)

    @classmethod
    def annotated_folder(cls, path: str | os.PathLike[str], endings: Collection[str]) -> Table:
        """Return the sounds of a folder with their transcripts."""
        return transcribed_folder(path, endings, cls.encode)


class AudioTask(Task):
    """A task of sounds. The default backbone, ``"audio_conv4"``, sees their spectra and starts from nothing."""

    modality = Sound()


class AudioClassifier(Classifier, AudioTask):
    """Classifies sounds; see ``Classifier`` for the arguments. The default backbone, ``"audio_conv4"``, starts anew."""


class AudioEmbedder(Embedder, AudioTask):
    """Embeds sounds; see ``Embedder`` for the arguments, and ``AudioClassifier`` for backbones."""


class AudioRegressor(Regressor, AudioTask):
    """Tells a number of each sound, such as an age; see ``Regressor``, and ``AudioClassifier`` for backbones."""


class SpeechRecognition(Task):
    """Tells what is said; see ``Task`` for the arguments.

    Those of the answers are the options of ``kinds.transcription.Transcription``. The default backbone,
    ``"small_speech"``, learns letters from nothing; ``"whisper_tiny_en"`` writes English at once. Other Whispers,
    wav2vec 2.0, HuBERT and WavLM go by their names on the Hugging Face Hub, or their folders.
    """

    modality = Sound(features="wave", whole=True)
    default_backbone = "small_speech"
    answers = Transcription
    kind: Transcription
