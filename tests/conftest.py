"""What tests get: their own cache folder, one torch thread per worker, fixed seeds, float64, published data sets."""

from __future__ import annotations

import os
import random
import subprocess
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


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "leave out tests marked dear, but for those that may see what this branch or the working tree changes"
    parser.addoption("--by-change", action="store_true", help=told)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    changed = _changed(config.rootpath) if config.getoption("by_change") and not config.getoption("keyword") else None
    kept, left = [], []
    for item in items:
        runs = True
        if dear := item.get_closest_marker("dear"):
            seen = [f"tests/{item.path.name}", *(f"src/quickstudy/{part}" for part in dear.args)]
            if gone := [part for part in seen if not (config.rootpath / part).exists()]:
                raise pytest.UsageError(f"{item.nodeid} is marked dear for what is not there: {gone}")
            runs = changed is None or any(f"{path}/".startswith(f"{part}/") for path in changed for part in seen)
        (kept if runs else left).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left)


def _changed(root: Path) -> list[str]:
    """Return the files that differ from where this branch left the main one; all, where nothing tells."""

    def git(*words: str) -> list[str]:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()

    try:
        known = git("for-each-ref", "--format=%(refname)", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
        base = git("merge-base", "HEAD", (known or ["main"])[0])[0]
        return git("diff", "--name-only", base) + git("ls-files", "--others", "--exclude-standard")
    except (OSError, subprocess.CalledProcessError):
        return [str(path.relative_to(root)) for part in ("src", "tests") for path in (root / part).rglob("*.py")]


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
