"""From a folder or archive to a table: class folders for training, any files for prediction."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from quickstudy.data.places import Files, Folder, Source, open_source, unwrapped
from quickstudy.data.table import Inputs, Table
from quickstudy.data.targets import Label, class_name, in_order, missing, numbered, read_as, type_of
from quickstudy.errors import DataError, DataWarning, brief, few, one_line, shown

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("predict", "pred"), "predict"),
}
"""What the folders of a data set's splits are called, in lower case, and the stages that they are for."""
_BESIDE = frozenset(("images", "image", "imgs", "img", "data", "dataset", "set", "split", "seg", "photos", "pictures"))
"""Words that stand beside these: ``train_images``, ``Training Set``, and numbers as in ``train2017``."""


class SplitsError(DataError):
    """A folder was given as one of classes, and holds the splits of a data set.

    Args:
        source: the folder.
        splits: the folder of each stage.
    """

    def __init__(self, source: Source, splits: Mapping[str, str]) -> None:
        self.splits = splits
        named = ", ".join(f"'{Path(folder).name}'" for folder in splits.values())
        some = splits.get("train", next(iter(splits.values())))
        super().__init__(
            f"'{source}' is no folder of classes but the root of a data set, with the folders {named}: give one of "
            f"them, for instance '{some}'"
        )


def class_folders(path: str | os.PathLike[str], extensions: Collection[str], parts: Collection[str] = ()) -> Table:
    """Read ``path/CLASS/.../file``: the first folder's name is the class.

    An archive that wraps everything in one outer folder is entered.

    Args:
        path: a folder, an archive, or a folder inside an archive.
        extensions: lower-case endings of the files that are examples, such as ``".jpg"``; none: every file is.
        parts: endings of files of which all that lie in one folder are one example, and the folder is its name.

    Raises:
        SplitsError: the class folders are ``train``, ``test`` and the like, and hold folders of classes themselves.
        DataError: nothing is there, there are no class folders, or one of them is empty.
    """
    source = unwrapped(open_source(path))
    names, skipped = _examples(source, extensions, parts)
    folders = source.folders()
    loose = [name for name in names if "/" not in name]
    if not folders:
        found = f"it has {len(loose)} files such as '{loose[0]}'" if loose else "it is empty"
        raise DataError(
            f"'{source}' has no class folders; {found}. Put each class into a folder of its own: {source}/cat/1"
            f"{'.jpg' if '.jpg' in extensions else min(extensions, default='')}"
            f"{_parent_instead(source, extensions) if loose else ''}"
        )
    inside = [name for name in names if "/" in name]
    splits = _splits(folders, names)
    if not splits and len(folders) == 1:  # which may wrap the splits, as an archive's outer folder does
        (outer,) = folders
        below = [name.removeprefix(f"{outer}/") for name in inside]
        folders_below = {name.split("/")[0] for name in below if "/" in name}
        splits = {stage: f"{outer}/{folder}" for stage, folder in _splits(folders_below, below).items()}
        if not splits and len(folders_below) > 1 and all("/" in name for name in below):
            warnings.warn(
                f"'{source}' has one folder, '{outer}', taken for one class, and {len(folders_below)} in that: if "
                f"these are the classes, give '{source}/{outer}'",
                DataWarning,
                4,
            )
    if splits:
        raise SplitsError(source, {stage: f"{source}/{folder}" for stage, folder in splits.items()})
    if same := _same_below(inside):
        one = min(folders)
        warnings.warn(
            f"'{source}' has {len(folders)} folders, taken for classes, and in each the same folders, {shown(same)}: "
            f"if these are the classes, and the others parts of the data, give a part for each stage, '{source}/{one}'",
            DataWarning,
            4,
        )
    if loose:
        _warn(f"left out {len(loose)} files that lie outside every class folder of '{source}'", loose)
        skipped |= {f"'{source}/{name}'": "it lies outside every class folder" for name in loose}
    files = Files(source, inside)
    owners = np.array([name.split("/", 1)[0] for name in inside], dtype=np.dtypes.StringDType())
    empty = sorted(folders - set(owners.tolist()))
    if empty:
        raise DataError(
            f"{len(empty)} class folder{'s' * (len(empty) > 1)} of '{source}' without any example: {shown(empty)}. "
            f"Add files ending in {_endings(extensions)}, or remove the folder"
        )
    return replace(Table.build(files, owners), skipped=skipped)


def _splits(folders: Collection[str], names: Sequence[str]) -> dict[str, str]:
    """Return by stage the folders of splits, where folders are that and no classes.

    Those of training, validation and test hold folders of classes, and no example beside them; of a test folder without
    any the examples are to be predicted. A class may be called train: one such folder among others is a class.
    """
    words = {name: _split_word(name) for name in folders}
    named = sorted((name for name in folders if words[name]), key=lambda name: list(SPLITS).index(words[name]))
    if not named:
        return {}
    depths: dict[str, set[bool]] = {name: set() for name in named}
    for parts in (name.split("/", 2) for name in names):
        if parts[0] in depths:
            depths[parts[0]].add(len(parts) > 2)
    splits: dict[str, str] = {}
    for name in named:
        stage = SPLITS[words[name]]
        if stage == "test" and depths[name] == {False}:
            stage = "predict"
        if stage == "val" and stage in splits and words[name].startswith("eval"):
            stage = "test"
        splits.setdefault(stage, name)
    labelled = [name for stage, name in splits.items() if stage != "predict"]
    whole = bool(labelled) and all(depths[name] == {True} for name in labelled)
    return splits if whole and (len(splits) > 1 or len(folders) == 1) else {}


def _same_below(names: Sequence[str]) -> list[str]:
    """Return the folders that all class folders hold alike, two or more of each; none where they differ.

    >>> _same_below(["fold1/cat/1", "fold1/dog/1", "fold2/cat/2", "fold2/dog/2"]), _same_below(["cat/a/1", "dog/b/1"])
    (['cat', 'dog'], [])
    """
    pairs = {tuple(name.split("/", 2)[:-1]) for name in names}
    if not all(len(pair) == 2 for pair in pairs):
        return []
    outer, inner = ({pair[place] for pair in pairs} for place in (0, 1))
    return sorted(inner) if min(len(outer), len(inner)) > 1 and len(pairs) == len(outer) * len(inner) else []


def _split_word(folder: str) -> str:
    """Return the word of ``SPLITS`` that a folder is called by, if there is one.

    >>> _split_word("Training Set"), _split_word("train2017"), _split_word("testset"), _split_word("test bench")
    ('training', 'train', 'test', '')
    """
    words = [word for word in re.findall("[^\\W\\d_]+", folder.lower()) if word not in _BESIDE]
    found = [re.sub("(set|data)$", "", word) for word in words]
    return found[0] if len(found) == 1 and found[0] in SPLITS else ""


def _parent_instead(source: Source, extensions: Collection[str]) -> str:
    """Return the end of a message where other folders beside this one hold examples: it may be a class itself."""
    if isinstance(source, Folder):
        root = source.root.resolve()
        if any(path.parent != root and path.suffix.lower() in extensions for path in root.parent.glob("*/*")):
            return f"; or, if it is a class itself, give its parent folder '{root.parent}'"
    return ""


def any_files(path: str | os.PathLike[str], extensions: Collection[str], parts: Collection[str] = ()) -> Table:
    """Read every example below a folder or archive, without targets; see ``class_folders`` for the arguments.

    Raises:
        DataError: nothing is there, or no file has one of the extensions.
    """
    source = open_source(path)
    names, skipped = _examples(source, extensions, parts)
    if not names:
        raise DataError(f"'{source}' holds no file ending in {_endings(extensions)}")
    return Table(Files(source, names), skipped=skipped)


def files_in(path: str | os.PathLike[str], extensions: Collection[str]) -> Files:
    """Return the files below a folder or archive that have one of the extensions, whatever others lie there.

    Raises:
        DataError: nothing is there, or no file has one of them.
    """
    source = open_source(path)
    endings = tuple(extensions)
    names = [
        name
        for name in sorted(source.files())
        if name.lower().endswith(endings) and not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
    ]
    if not names:
        raise DataError(f"'{source}' holds no file ending in {_endings(extensions)}")
    return Files(source, names)


def folders_or_files(path: str | os.PathLike[str], extensions: Collection[str], parts: Collection[str] = ()) -> Table:
    """Read class folders; or, where examples lie beside them or there are none, every example without targets.

    Raises:
        SplitsError: all folders are called ``train``, ``test`` and the like, whatever they hold.
        DataError: nothing is there, or see ``class_folders``.
    """
    source = unwrapped(open_source(path))
    splits = {name: SPLITS[word] for name in sorted(source.folders()) if (word := _split_word(name))}
    if len(splits) == len(source.folders()) == len(set(splits.values())) > 1:
        raise SplitsError(source, {stage: f"{source}/{name}" for name, stage in splits.items()})
    beside = any("/" not in name and name.lower().endswith(tuple(extensions) or ("",)) for name in source.files())
    return (
        any_files(path, extensions, parts) if beside or not source.folders() else class_folders(path, extensions, parts)
    )


def folder_labels(inputs: Inputs, classes: Collection[Label]) -> list[Label | None] | None:
    """Return the label that each file's folders give it; None where they are no class folders.

    They are where a folder has the name of a class: then all folders of its depth are labels, also of other classes. A
    file that lies higher has none.

    Args:
        inputs: N of them.
        classes: that are known; where they are numbers, a folder's name that writes one is that number.
    """
    if not isinstance(inputs, Files) or not classes:
        return None
    label_type = type_of(next(iter(classes)))
    known, root = set(classes), read_as(class_name(Path(str(inputs.source)).name), label_type)
    folders = [class_name(name).split("/")[:-1] for name in inputs.names.tolist()]
    for depth in range(max(map(len, folders), default=0)):
        labels = [read_as(parts[depth], label_type) if len(parts) > depth else None for parts in folders]
        if not known.isdisjoint(labels):
            return labels
    return [root] * len(inputs) if root in known else None


def listed_files(
    paths: Any, root: str | os.PathLike[str] | None = None, exist: bool = True, folders: bool = False
) -> Files:
    """Make inputs of a list of paths, relative to ``root`` where one is given.

    Args:
        paths: strings or paths: a list, an array, a column, or what yields them one by one, as ``glob`` does.
        root: a folder.
        exist: whether all must exist.
        folders: whether a folder of files may be one input.

    Raises:
        DataError: a file does not exist; the message names the first and counts them.
    """
    paths = in_order(paths, "files")
    base = Path.cwd() / Path(root or "").expanduser()
    if not base.is_dir():
        raise DataError(f"there is no folder '{base}'")
    if isinstance(paths, (str, os.PathLike)):
        raise DataError(f"expected a list of files, not '{paths}': for one file give [{brief(str(paths))}]")
    gone = np.flatnonzero(missing(paths))
    lost = f", and it is missing in {numbered(gone)}" if len(gone) else ""
    for row, path in enumerate(paths):
        if not isinstance(path, (str, os.PathLike)) or row in gone[:1]:
            raise DataError(f"file {row} is {brief(path)}: a file must be a string or a path{lost}")
    names = [os.fspath(path) for path in paths]
    absent = (
        [name for name in names if not (base / name).is_file() and not (folders and (base / name).is_dir())]
        if exist
        else []
    )
    if absent:
        raise DataError(f"{len(absent)} of {len(names)} files do not exist, the first is '{base / absent[0]}'")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        _warn(f"{len(repeated)} files are listed more than once, so that one may be learned from and asked", repeated)
    return Files(Folder(base), names)


def _examples(source: Source, extensions: Collection[str], parts: Collection[str]) -> tuple[list[str], dict[str, str]]:
    """Return the names of the files, or folders, that are examples by their ending, and why others are none."""
    names = source.files()
    endings = tuple(extensions) or ("",)
    chosen = [name for name in names if name.lower().endswith(endings)]
    pieces = [name for name in names if name.lower().endswith(tuple(parts)) and "/" in name]
    left_out = sorted(set(names).difference(chosen, pieces))
    chosen = sorted({*chosen, *(name.rpartition("/")[0] for name in pieces)}) if pieces else chosen
    if left_out:
        _warn(f"left out {len(left_out)} files of '{source}' that do not end in {_endings(extensions)}", left_out)
    return chosen, {f"'{source}/{name}'": "its ending is that of no example" for name in left_out}


def _warn(what: str, names: list[str]) -> None:
    warnings.warn(f"{what}: {few(map(one_line, names), 3)}", DataWarning, stacklevel=5)


def _endings(extensions: Collection[str]) -> str:
    return ", ".join(sorted(extensions)) or "anything"
