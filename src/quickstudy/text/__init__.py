"""Texts: classification, regression, embedding, entities, answers, other texts. Importing it loads nothing until a name
is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quickstudy.domains import lazily

if TYPE_CHECKING:
    from quickstudy.text.modality import Text as Text
    from quickstudy.text.nets import SmallTransformer as SmallTransformer
    from quickstudy.text.tasks import QuestionAnswering as QuestionAnswering
    from quickstudy.text.tasks import QuestionAnsweringData as QuestionAnsweringData
    from quickstudy.text.tasks import Summarization as Summarization
    from quickstudy.text.tasks import SummarizationData as SummarizationData
    from quickstudy.text.tasks import TextClassificationData as TextClassificationData
    from quickstudy.text.tasks import TextClassifier as TextClassifier
    from quickstudy.text.tasks import TextEmbedder as TextEmbedder
    from quickstudy.text.tasks import TextEmbeddingData as TextEmbeddingData
    from quickstudy.text.tasks import TextRegressionData as TextRegressionData
    from quickstudy.text.tasks import TextRegressor as TextRegressor
    from quickstudy.text.tasks import TokenClassificationData as TokenClassificationData
    from quickstudy.text.tasks import TokenClassifier as TokenClassifier
    from quickstudy.text.tasks import Translation as Translation
    from quickstudy.text.tasks import TranslationData as TranslationData

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "QuestionAnswering": "tasks",
        "QuestionAnsweringData": "tasks",
        "SmallTransformer": "nets",
        "Summarization": "tasks",
        "SummarizationData": "tasks",
        "Text": "modality",
        "TextClassificationData": "tasks",
        "TextClassifier": "tasks",
        "TextEmbedder": "tasks",
        "TextEmbeddingData": "tasks",
        "TextRegressionData": "tasks",
        "TextRegressor": "tasks",
        "TokenClassificationData": "tasks",
        "TokenClassifier": "tasks",
        "Translation": "tasks",
        "TranslationData": "tasks",
    },
)

TASKS = {
    "question_answering": ("QuestionAnswering", "QuestionAnsweringData"),
    "summarization": ("Summarization", "SummarizationData"),
    "text_classification": ("TextClassifier", "TextClassificationData"),
    "text_embedding": ("TextEmbedder", "TextEmbeddingData"),
    "text_regression": ("TextRegressor", "TextRegressionData"),
    "token_classification": ("TokenClassifier", "TokenClassificationData"),
    "translation": ("Translation", "TranslationData"),
}
"""By name as commands know it, the class of a task and that of its data."""
