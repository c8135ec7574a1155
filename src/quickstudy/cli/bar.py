"""A progress bar on standard error, for whoever watches: only where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def bar(about: str, total: int | None, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Give a function that counts further pictures as done.

    Args:
        about: what is done.
        total: pictures; None: nobody knows.
        shown: False where something else on the screen shows how far it is.
    """
    if not (shown and sys.stderr.isatty()):
        yield lambda count: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    # Rows go to standard output, which rich would else take for its own.
    progress = Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    )
    with progress:
        task = progress.add_task(about, total=total)
        yield lambda count: progress.advance(task, count)
