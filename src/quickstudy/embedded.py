"""What embeddings are good for as they are: files of them, the nearest of each, a picture of all.

Shapes: N embeddings, D features.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import ConfigError, DataError, MissingPackageError, check_choice, require
from quickstudy.files import absent, atomic_write
from quickstudy.functional.neighbours import nearest_rows as nearest
from quickstudy.runs.report import scatter_picture

__all__ = ["Embedded", "flattened", "nearest", "picture", "read", "write"]

FORMS = (".parquet", ".npz")
_ROWS = 1 << 14  # of Parquet that are written at once
MOST = 5000
"""Points of a picture: of more, evenly chosen ones are drawn."""


class Embedded(NamedTuple):
    """Embeddings, and what each is of."""

    names: list[str]
    """``[N]``: files, texts, or numbers as in ``"input 3"``."""
    embeddings: NDArray[Any]
    """``[N, D]``"""
    labels: list[str] | None = None
    """``[N]``, where they are known."""


def write(path: str | os.PathLike[str], embedded: Embedded) -> None:
    """Write embeddings to a file, whole or not at all, some rows at a time.

    Args:
        path: ``x.parquet``, with the columns ``name``, ``label`` where labels are known, and ``embedding``, a list of
            numbers; or ``x.npz``, with the arrays ``names``, ``labels`` and ``embeddings``.
        embedded: N of them.

    Raises:
        ConfigError: the path ends otherwise.
        MissingPackageError: pyarrow is not installed, and Parquet is asked for.
        OSError: the file cannot be written.
    """
    ending = form_of(path)
    names, features, labels = embedded
    if ending == ".npz":
        arrays = {"names": np.array(names, dtype=np.str_), "embeddings": features}
        if labels is not None:
            arrays["labels"] = np.array(labels, dtype=np.str_)
        with atomic_write(path) as file:
            np.savez(file, allow_pickle=False, **arrays)
        return
    arrow, parquet = require("pyarrow", extra="parquet"), require("pyarrow.parquet", extra="parquet")
    kind = arrow.list_(arrow.from_numpy_dtype(features.dtype), features.shape[1])
    fields = [
        ("name", arrow.string()),
        *([("label", arrow.string())] if labels is not None else []),
        ("embedding", kind),
    ]
    schema = arrow.schema(fields)
    with atomic_write(path) as file, parquet.ParquetWriter(file, schema) as writer:
        for at in range(0, len(names), _ROWS):
            rows = slice(at, at + _ROWS)
            flat = arrow.array(np.ascontiguousarray(features[rows]).reshape(-1))
            columns: dict[str, Any] = {"name": names[rows]}
            if labels is not None:
                columns["label"] = labels[rows]
            columns["embedding"] = arrow.FixedSizeListArray.from_arrays(flat, type=kind)
            writer.write_table(arrow.table(columns, schema=schema))


def read(path: str | os.PathLike[str]) -> Embedded:
    """Read what ``write`` wrote.

    Raises:
        ConfigError: the path ends otherwise.
        DataError: there is no such file, or it holds something else.
    """
    place = Path(path)
    ending = form_of(path)
    if not place.is_file():
        raise DataError(absent("file of embeddings", place))
    try:
        if ending == ".npz":
            with np.load(place, allow_pickle=False) as found:
                labels = found["labels"].tolist() if "labels" in found else None
                return Embedded(found["names"].tolist(), found["embeddings"], labels)
        table = require("pyarrow.parquet", extra="parquet").read_table(place)
        column = table["embedding"].combine_chunks()
        labels = table["label"].to_pylist() if "label" in table.column_names else None
        features = column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), column.type.list_size)
        return Embedded(table["name"].to_pylist(), features, labels)
    except MissingPackageError:
        raise
    except Exception as error:  # damage makes the libraries raise almost anything
        raise DataError(f"'{place}' holds no embeddings as quickstudy writes them: {error}") from error


def flattened(embeddings: NDArray[Any], method: str = "tsne", seed: int = 0) -> NDArray[Any]:
    """Return embeddings in two dimensions, ``[N, 2]``, where those near each other stay so.

    Args:
        embeddings: ``[N, D]``, N of at least 5; they are compared by their cosine.
        method: ``"tsne"`` (van der Maaten & Hinton 2008, https://jmlr.org/papers/v9/vandermaaten08a.html), or
            ``"umap"`` (McInnes et al. 2018, https://arxiv.org/abs/1802.03426).
        seed: of what they draw.

    Raises:
        DataError: they are fewer, or one is not finite.
        MissingPackageError: scikit-learn, or umap-learn, is not installed.
    """
    check_choice("method", method, "tsne", "umap")
    if len(embeddings) < 5 or not np.isfinite(embeddings).all():
        raise DataError(f"a picture needs at least 5 embeddings of finite numbers, and these are {len(embeddings)}")
    units = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    if method == "umap":
        if not find_spec("umap"):
            raise MissingPackageError("method='umap' needs the package 'umap-learn'. Type: pip install umap-learn")
        umap: Any = import_module("umap")
        return np.asarray(
            umap.UMAP(n_neighbors=min(15, len(units) - 1), random_state=seed, n_jobs=1).fit_transform(units)
        )
    manifold = require("sklearn.manifold", extra="picture")
    perplexity = min(30.0, (len(units) - 1) / 4)
    return np.asarray(manifold.TSNE(perplexity=perplexity, init="random", random_state=seed).fit_transform(units))


def picture(
    embeddings: NDArray[Any], labels: Sequence[str] | None = None, method: str = "tsne", seed: int = 0
) -> bytes:
    """Draw embeddings as points in a plane, coloured by class: near ones are alike to the encoder.

    Args:
        embeddings: ``[N, D]``; of more than ``MOST``, evenly chosen ones are drawn.
        labels: ``[N]``, the classes.
        method, seed: see ``flattened``.

    Returns:
        A PNG.
    """
    count = min(len(embeddings), MOST)
    rows = np.arange(count) * len(embeddings) // max(count, 1)
    points = flattened(np.asarray(embeddings[rows], np.float32), method, seed)
    told = f"{'UMAP' if method == 'umap' else 't-SNE'} of {count:,} embeddings"
    if count < len(embeddings):
        told += f", evenly chosen of {len(embeddings):,}"
    return scatter_picture(points, None if labels is None else [labels[row] for row in rows.tolist()], told)


def form_of(path: str | os.PathLike[str]) -> str:
    """Return how embeddings are kept in a file of this name, one of ``FORMS``.

    Raises:
        ConfigError: it ends otherwise.
    """
    ending = Path(path).suffix.lower()
    if ending not in FORMS:
        raise ConfigError(
            f"'{path}' ends in '{ending}', and embeddings are kept as {' or '.join(FORMS)}: name it x{FORMS[0]}"
        )
    return ending
