"""Rows of tables and series: classification, regression, forecasts. Importing it loads nothing until a name is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quickstudy.domains import lazily

if TYPE_CHECKING:
    from quickstudy.tabular.forecasting import TabularForecaster as TabularForecaster
    from quickstudy.tabular.forecasting import TabularForecastingData as TabularForecastingData
    from quickstudy.tabular.importance import Importance as Importance
    from quickstudy.tabular.importance import importance_picture as importance_picture
    from quickstudy.tabular.importance import permutation_importance as permutation_importance
    from quickstudy.tabular.matrix import design_matrix as design_matrix
    from quickstudy.tabular.matrix import feature_names as feature_names
    from quickstudy.tabular.modality import Row as Row
    from quickstudy.tabular.nets import MLP as MLP
    from quickstudy.tabular.nets import FTTransformer as FTTransformer
    from quickstudy.tabular.nets import OneHot as OneHot
    from quickstudy.tabular.nets import ResNet as ResNet
    from quickstudy.tabular.nets import TabM as TabM
    from quickstudy.tabular.plots import forecast_figure as forecast_figure
    from quickstudy.tabular.series import Series as Series
    from quickstudy.tabular.tasks import TabularClassificationData as TabularClassificationData
    from quickstudy.tabular.tasks import TabularClassifier as TabularClassifier
    from quickstudy.tabular.tasks import TabularEmbedder as TabularEmbedder
    from quickstudy.tabular.tasks import TabularEmbeddingData as TabularEmbeddingData
    from quickstudy.tabular.tasks import TabularRegressionData as TabularRegressionData
    from quickstudy.tabular.tasks import TabularRegressor as TabularRegressor

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "FTTransformer": "nets",
        "Importance": "importance",
        "MLP": "nets",
        "OneHot": "nets",
        "ResNet": "nets",
        "Row": "modality",
        "Series": "series",
        "TabM": "nets",
        "TabularClassificationData": "tasks",
        "TabularClassifier": "tasks",
        "TabularEmbedder": "tasks",
        "TabularForecaster": "forecasting",
        "TabularForecastingData": "forecasting",
        "TabularEmbeddingData": "tasks",
        "TabularRegressionData": "tasks",
        "TabularRegressor": "tasks",
        "design_matrix": "matrix",
        "forecast_figure": "plots",
        "feature_names": "matrix",
        "importance_picture": "importance",
        "permutation_importance": "importance",
    },
)

TASKS = {
    "tabular_classification": ("TabularClassifier", "TabularClassificationData"),
    "tabular_embedding": ("TabularEmbedder", "TabularEmbeddingData"),
    "tabular_forecasting": ("TabularForecaster", "TabularForecastingData"),
    "tabular_regression": ("TabularRegressor", "TabularRegressionData"),
}
"""By name as commands know it, the class of a task and that of its data."""
