"""Which picture an annotation is of, where paths tell it: never another one that merely is called alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from quickstudy.errors import DataError, few


def rows_named(paths: Sequence[str], told: Sequence[str], folder: object, source: str) -> list[int]:
    """Return for each picture that annotations name its row among those there are.

    A name is the path of a file, or the end of one, or it ends in one: ``a.jpg``, ``train/a.jpg`` and
    ``/home/me/data/train/a.jpg`` are all of ``train/a.jpg``, and ``val/a.jpg`` is not.

    Args:
        paths: of the pictures below a folder.
        told: names, each of one picture.
        folder: for messages.
        source: of the annotations, for messages.

    Raises:
        DataError: a picture is not there, could be several, or is named twice.

    >>> rows_named(["train/a.jpg", "val/b.jpg"], ["b.jpg", "data\\\\train\\\\a.jpg"], "data", "a file")
    [1, 0]
    """
    exact = {path: row for row, path in enumerate(paths)}
    by_last: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        by_last.setdefault(_parts(path)[-1], []).append(row)
    rows, lacking, elsewhere = [], [], list[str]()
    for one in told:
        parts = _parts(one)
        alike = by_last.get(parts[-1], []) if parts else []
        found = [exact[one]] if one in exact else [row for row in alike if _ends_alike(_parts(paths[row]), parts)]
        if len(found) > 1:
            raise DataError(
                f"{source} speaks of '{one}', and that could be {few([repr(paths[row]) for row in found])} of "
                f"'{folder}': name its folder, too"
            )
        rows += found
        if not found:
            lacking.append(one)
            elsewhere += [paths[row] for row in alike]
    check_found(lacking, len(told), folder, elsewhere=elsewhere)
    first: dict[int, str] = {}
    for row, one in zip(rows, told, strict=True):
        if row in first:
            raise DataError(
                f"{source} speaks of '{paths[row]}' twice, as '{first[row]}' and '{one}': what lies in a picture is "
                "told once, as each else lacks objects. Give all annotations to one of them"
            )
        first[row] = one
    return rows


def by_key(
    names: Iterable[str], key: Callable[[str], str], what: str, among: Collection[str] | None = None
) -> dict[str, str]:
    """Return files by what pairs them with others.

    Args:
        names: paths.
        key: of a path.
        what: they are, for messages.
        among: keys that matter; None: all.

    Raises:
        DataError: two that matter have one key.
    """
    found: dict[str, str] = {}
    for name in names:
        own = key(name)
        if among is not None and own not in among:
            continue
        if own in found:
            raise DataError(
                f"'{found[own]}' and '{name}' could both be the {what} of '{own}': remove one, or call it otherwise"
            )
        found[own] = name
    return found


def by_stem(pictures: Sequence[str], texts: Sequence[str], aside: Collection[str], what: str) -> dict[str, str | None]:
    """Return for each file of annotations the picture that it is of; None where there is none of its name.

    Where several are called alike in several folders, the folders tell, but for those that divide pictures from
    annotations.

    Args:
        pictures, texts: paths.
        aside: names of such folders, in lower case.
        what: the annotations are, for messages.

    Raises:
        DataError: a file could be of several pictures, or two are of one.
    """

    def key(name: str) -> str:
        *folders, last = _parts(name)
        return "/".join([*(one for one in folders if one.lower() not in aside), Path(last).stem])

    of_stem: dict[str, list[str]] = {}
    for one in pictures:
        of_stem.setdefault(Path(one).stem, []).append(one)
    counts: dict[str, int] = {}
    for one in texts:
        counts[Path(one).stem] = counts.get(Path(one).stem, 0) + 1
    found: dict[str, str | None] = {}
    owners: dict[str, str] = {}
    for text in texts:
        alike = of_stem.get(Path(text).stem, [])
        alone = len(alike) == counts[Path(text).stem] == 1
        chosen = alike if alone else [one for one in alike if key(one) == key(text)]
        if len(chosen) > 1 or (len(alike) > 1 and not chosen):
            raise DataError(
                f"{what} '{text}' could be of {few(map(repr, chosen or alike))}: let folders tell which, train/a.jpg "
                "and train/a.xml, or call pictures otherwise"
            )
        found[text] = chosen[0] if chosen else None
        if chosen and chosen[0] in owners:
            raise DataError(f"{what}s '{owners[chosen[0]]}' and '{text}' are both of '{chosen[0]}': remove one")
        owners |= dict.fromkeys(chosen, text)
    return found


def check_found(lacking: Sequence[str], count: int, folder: object, elsewhere: Sequence[str] = ()) -> None:
    """Check that no picture is missing that annotations speak of.

    Args:
        lacking: names of those that are.
        count: of all that annotations speak of.
        folder: for messages.
        elsewhere: files that are called as one of them, in other folders.

    Raises:
        DataError: one is; the message names the first.
    """
    if lacking:
        called = f" ('{elsewhere[0]}' is called so, in another folder)" if elsewhere else ""
        raise DataError(
            f"the annotations speak of {count} pictures, and of {len(lacking)} the file is not there below "
            f"'{folder}': {few([Path(one).name for one in lacking])}{called}. Name the folder that they lie in, or "
            "remove them from the annotations"
        )


def _parts(name: str) -> list[str]:
    """Return the folders of a path and its last name, without those that lead out of them."""
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]


def _ends_alike(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether one path is the end of the other."""
    length = min(len(one), len(other))
    return length > 0 and list(one[-length:]) == list(other[-length:])
