"""The changes of a model that is served: each is on the disk before it counts, whoever makes it and whatever dies.

A folder whose model is served has a database beside the model's files. It holds the model's description as it was when
last written whole, and every change since, numbered. Its commits alone decide what is true; ``predictor.json`` follows.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from quickstudy.data.targets import Label
from quickstudy.errors import DataError, QuickstudyError
from quickstudy.learning.changes import Change
from quickstudy.saved.examples import change_of, examples_to_bytes

NAME = "changes.sqlite"
_SECONDS = 10.0  # that one waits for another who writes
_VERSION = 1  # counted up when an older quickstudy could not make the changes
_TABLES = f"""
PRAGMA user_version = {_VERSION};
CREATE TABLE IF NOT EXISTS model (one INTEGER PRIMARY KEY CHECK (one = 1), description TEXT, last INTEGER);
CREATE TABLE IF NOT EXISTS changes (number INTEGER PRIMARY KEY, kind TEXT, name TEXT, new_name TEXT, examples BLOB);
"""


class BehindError(Exception):
    """Others have made changes that the writer has not seen."""


class LockedError(QuickstudyError, OSError):
    """Others held the journal for as long as one waits."""


class Journal:
    """The journal in a folder, for one thread; ``with`` closes it.

    Args:
        folder: of the model.
        name: of the file in it.

    Raises:
        DataError: the file cannot be opened. Every method: it is damaged.
        LockedError: every method: others hold it.
        OSError: every method: it cannot be read or written, for instance because the disk is full.
    """

    def __init__(self, folder: Path, name: str = NAME) -> None:
        self._path = folder / name
        try:
            self._db = sqlite3.connect(self._path, timeout=_SECONDS, isolation_level=None)
        except sqlite3.Error as error:
            raise DataError(f"'{self._path}' cannot be opened: {error}") from error
        with self._checked():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise DataError(f"'{self._path}' was written by a newer quickstudy. Type: pip install -U quickstudy")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether the model in a folder has a journal."""
        return (folder / NAME).exists()

    @classmethod
    def create(cls, folder: Path, description: str) -> None:
        """Make the journal of a model that has none: whole or not at all."""
        with cls(folder, f".{NAME}.{uuid.uuid4().hex[:8]}.part") as made:
            with made._checked(), made._transaction():
                for statement in _TABLES.split(";"):
                    made._db.execute(statement)
                made._db.execute("INSERT INTO model VALUES (1, ?, 0)", (description,))
            made._path.replace(folder / NAME)

    @property
    def description(self) -> str:
        """Of the model, as it was when last written whole."""
        with self._checked():
            return str(self._db.execute("SELECT description FROM model").fetchone()[0])

    @property
    def last(self) -> int:
        """The number of the last change."""
        with self._checked():
            return int(self._db.execute("SELECT last FROM model").fetchone()[0])

    @property
    def count(self) -> int:
        """How many changes the description lacks."""
        with self._checked():
            return int(self._db.execute("SELECT count(*) FROM changes").fetchone()[0])

    def append(self, change: Change, after: int) -> int:
        """Put a change on the disk and return its number.

        Args:
            change: what to write.
            after: the number of the last change that its maker has seen.

        Raises:
            BehindError: there are later ones; nothing was written.
        """
        examples = examples_to_bytes(change)
        with self._checked(), self._transaction():
            if self.last != after:
                raise BehindError
            row = after + 1, change.kind, _stored(change.name), _stored(change.new_name), examples
            self._db.execute("INSERT INTO changes VALUES (?, ?, ?, ?, ?)", row)
            self._db.execute("UPDATE model SET last = ?", (after + 1,))
        return after + 1

    def since(self, number: int, device: torch.device | str = "cpu") -> list[Change] | None:
        """Return the changes after a number; None where they are part of the description by now."""
        with self._checked():
            with self._transaction("DEFERRED"):
                last = self.last
                query = "SELECT * FROM changes WHERE number > ? ORDER BY number"
                rows = self._db.execute(query, (number,)).fetchall()
            if len(rows) != last - number:
                return None
            return _changes(rows, device)

    def model(self, device: torch.device | str = "cpu") -> tuple[str, int, list[Change]]:
        """Return the model's description, the number of the last change, and those that the description lacks."""
        with self._checked():
            with self._transaction("DEFERRED"):
                description, last = self._db.execute("SELECT description, last FROM model").fetchone()
                rows = self._db.execute("SELECT * FROM changes ORDER BY number").fetchall()
            if [row[0] for row in rows] != list(range(last - len(rows) + 1, last + 1)):
                raise ValueError(f"its changes are numbered {[row[0] for row in rows][:9]}, and the last is {last}")
            return str(description), int(last), _changes(rows, device)

    def replace(self, description: str, after: int | None) -> None:
        """Put a description in the place of the old one and all changes.

        Args:
            description: of a model.
            after: the number of the last change that is part of it; None: whatever there was, it does not count.

        Raises:
            BehindError: there are later ones; nothing was written.
        """
        with self._checked(), self._transaction():
            last = self.last
            if after is not None and last != after:
                raise BehindError
            self._db.execute("DELETE FROM changes")
            self._db.execute("UPDATE model SET description = ?, last = ?", (description, last + (after is None)))

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        self._db.execute("PRAGMA synchronous = EXTRA")
        self._db.execute(f"BEGIN {kind}")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, TypeError, ValueError) as error:
            code = (
                error.sqlite_errorcode & 0xFF if isinstance(error, sqlite3.OperationalError) else sqlite3.SQLITE_ERROR
            )
            if code == sqlite3.SQLITE_BUSY:  # the rest of the code says how
                raise LockedError(f"others hold '{self._path}': try again in a moment") from error
            if code != sqlite3.SQLITE_ERROR:  # the disk is full, or it may not be read
                raise OSError(f"'{self._path}' cannot be read or written: {error}") from error
            raise DataError(f"'{self._path}' is damaged ({error})") from error


def _changes(rows: list[tuple[int, str, str | bytes, str | bytes, bytes]], device: torch.device | str) -> list[Change]:
    return [
        change_of(kind, _label(name), _label(new_name), examples, device) for _, kind, name, new_name, examples in rows
    ]


def _stored(label: Label) -> str | bytes:
    """Return a label for a column of text, which makes text of numbers and leaves bytes alone."""
    return label if isinstance(label, str) else json.dumps(label).encode()


def _label(stored: str | bytes) -> Label:
    label: Label = json.loads(stored) if isinstance(stored, bytes) else stored
    return label
