"""What the peers answer for ``benchmarks/tables.py``; runs in the environment that ``setup.sh`` makes.

Reads one JSON request per line, ``{"peer": NAME, "train": CSV, "test": CSV, "target": COLUMN, "classes": BOOL}``, and
answers each with one line: the probabilities of the classes in the order of their names, or numbers.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

TREES = 500


def one_hot(train: pd.DataFrame, test: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return matrices of standardised numbers, missing ones by the median, and a column of each category."""
    numbers = list(train.select_dtypes("number").columns)
    categories = [column for column in train.columns if column not in numbers]
    made = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            ("categories", OneHotEncoder(handle_unknown="ignore", sparse_output=False), categories),
        ]
    )
    text = dict.fromkeys(categories, str)
    return made.fit_transform(train.astype(text)), made.transform(test.astype(text))


def linear(train: pd.DataFrame, targets: Any, test: pd.DataFrame, classes: bool) -> Any:
    seen, asked = one_hot(train, test)
    if classes:
        return LogisticRegression(max_iter=2000).fit(seen, targets).predict_proba(asked)
    return RidgeCV(np.logspace(-2, 3, 11)).fit(seen, targets).predict(asked)


def forest(train: pd.DataFrame, targets: Any, test: pd.DataFrame, classes: bool) -> Any:
    seen, asked = one_hot(train, test)
    if classes:
        return RandomForestClassifier(TREES, random_state=0).fit(seen, targets).predict_proba(asked)
    return RandomForestRegressor(TREES, random_state=0).fit(seen, targets).predict(asked)


def lightgbm(train: pd.DataFrame, targets: Any, test: pd.DataFrame, classes: bool) -> Any:
    import lightgbm as lgb

    both = pd.concat([train, test])
    for column in both.select_dtypes(exclude="number"):
        both[column] = both[column].astype("category")
    seen, asked = both.iloc[: len(train)], both.iloc[len(train) :]
    made = (lgb.LGBMClassifier if classes else lgb.LGBMRegressor)(
        random_state=0,
        verbose=-1,
        n_jobs=1,
        min_child_samples=max(2, min(20, len(seen) // 16)),  # 20, the default, makes no tree of few rows
    )
    made.fit(seen, targets)
    return made.predict_proba(asked) if classes else made.predict(asked)


def catboost(train: pd.DataFrame, targets: Any, test: pd.DataFrame, classes: bool) -> Any:
    import catboost as cat

    categories = list(train.select_dtypes(exclude="number").columns)
    text = dict.fromkeys(categories, str)
    options = {"random_seed": 0, "verbose": False, "thread_count": 1, "allow_writing_files": False}
    made = (cat.CatBoostClassifier if classes else cat.CatBoostRegressor)(cat_features=categories, **options)
    made.fit(train.astype(text), targets)
    return made.predict_proba(test.astype(text)) if classes else made.predict(test.astype(text))


PEERS: dict[str, Callable[..., Any]] = {
    "linear": linear,
    "random forest": forest,
    "LightGBM": lightgbm,
    "CatBoost": catboost,
}


def main() -> None:
    warnings.filterwarnings("ignore")
    packages = ("scikit-learn", "lightgbm", "catboost")
    print(json.dumps({"peers": list(PEERS), "versions": {name: version(name) for name in packages}}), flush=True)
    while True:
        try:
            request = json.loads(input())
        except EOFError:
            return
        train, test = (pd.read_csv(request[part]) for part in ("train", "test"))
        targets = train.pop(request["target"])
        test = test.drop(columns=request["target"])
        if request["classes"]:
            targets = targets.astype(str)
        print(
            json.dumps(np.asarray(PEERS[request["peer"]](train, targets, test, request["classes"])).tolist()),
            flush=True,
        )


if __name__ == "__main__":
    main()
