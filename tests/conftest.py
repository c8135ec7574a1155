"""What tests get: their own cache folder, one torch thread per worker, fixed seeds, float64, published data sets."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)
        return
    # A hook and not a fixture: workers inherit it, so that what one renders all find; doctests in src get it too.
    cache = tempfile.TemporaryDirectory(prefix="quickstudy-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(cache.cleanup)
    os.environ["QUICKSTUDY_CACHE"] = cache.name


@pytest.fixture(autouse=True)
def seed_everything() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries draw from the global generator
    torch.manual_seed(0)


@pytest.fixture
def in_float64() -> Iterator[None]:
    """Make new tensors float64: plain references agree with it to the last digits."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with the published data sets; tests that need it are skipped where it is not named."""
    name = os.environ.get("QUICKSTUDY_DATA")
    if not name:
        pytest.skip("QUICKSTUDY_DATA is not set: point it to the folder with the data sets' archives")
    folder = Path(name)
    assert folder.is_dir(), f"QUICKSTUDY_DATA names '{name}', which is not a folder"
    return folder
