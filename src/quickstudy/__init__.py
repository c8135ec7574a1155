"""quickstudy: few labels in, a working model out. Importing it loads nothing until a name is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quickstudy.domains import lazily

if TYPE_CHECKING:
    from quickstudy.algorithms import available_strategies as available_strategies
    from quickstudy.crossvalidation import cross_validate as cross_validate
    from quickstudy.datasets import available_datasets as available_datasets
    from quickstudy.episode import Episode as Episode
    from quickstudy.errors import ConfigError as ConfigError
    from quickstudy.errors import DataError as DataError
    from quickstudy.errors import DataWarning as DataWarning
    from quickstudy.errors import MissingPackageError as MissingPackageError
    from quickstudy.errors import QuickstudyError as QuickstudyError
    from quickstudy.errors import TrainingError as TrainingError
    from quickstudy.ladder.climbing import climb as ladder  # noqa: F401
    from quickstudy.nets import available_backbones as available_backbones
    from quickstudy.part_predictor import PartPredictor as PartPredictor
    from quickstudy.predictor import NumberPredictor as NumberPredictor
    from quickstudy.predictor import Predictor as Predictor
    from quickstudy.trainer import Trainer as Trainer
    from quickstudy.training.datamodule import DataModule as DataModule
    from quickstudy.training.optimizers import available_optimizers as available_optimizers
    from quickstudy.training.optimizers import available_schedulers as available_schedulers
    from quickstudy.training.task import Classifier as Classifier
    from quickstudy.training.task import Task as Task

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "Classifier": "training.task",
        "ConfigError": "errors",
        "DataError": "errors",
        "DataModule": "training.datamodule",
        "DataWarning": "errors",
        "Episode": "episode",
        "MissingPackageError": "errors",
        "NumberPredictor": "predictor",
        "PartPredictor": "part_predictor",
        "Predictor": "predictor",
        "QuickstudyError": "errors",
        "Task": "training.task",
        "Trainer": "trainer",
        "TrainingError": "errors",
        "available_backbones": "nets",
        "available_datasets": "datasets",
        "available_optimizers": "training.optimizers",
        "available_schedulers": "training.optimizers",
        "available_strategies": "algorithms",
        "cross_validate": "crossvalidation",
        "ladder": "ladder",
    },
)
