"""Files of point clouds and meshes: what they hold, or what is wrong with them.

Shapes: P points, M triangles.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.archives import MAX_FILE_BYTES
from quickstudy.errors import DataError, brief, few, first_line, one_line, require

READ = frozenset((".off", ".obj", ".ply", ".stl", ".pcd", ".xyz", ".txt", ".pts", ".npz", ".npy", ".bin"))
EXTENSIONS = READ | {".las", ".laz"}
"""Of files that are found; LAS is refused by name, with what to type."""
FEATURES = ("red", "green", "blue", "intensity")
"""What files say of a point beside where it is, in the order in which they come, those that are there.

Normals are none, as they would have to turn with the points."""
COLOURS = FEATURES[:3]
_ALSO = {"r": "red", "g": "green", "b": "blue", "diffuse_red": "red", "diffuse_green": "green", "diffuse_blue": "blue"}
_ALSO |= {"i": "intensity", "reflectance": "intensity", "scalar_intensity": "intensity", "remission": "intensity"}
_WIDEST = 64
"""Numbers of a point."""
FAR = 1e12
"""What no coordinate reaches that was read rightly."""


class Scan(NamedTuple):
    """What a file holds, before points are drawn from it."""

    name: str
    """Of the file, for messages."""
    points: NDArray[np.float64]
    """``[P, 3]``"""
    columns: dict[str, NDArray[Any]]
    """Further numbers by name, ``[P]`` each; those that have no names by their places: ``"3"``, ``"4"``."""
    faces: NDArray[np.int64] | None = None
    """``[M, 3]``: the triangles of a mesh, by the numbers of their corners."""

    @property
    def feature_names(self) -> list[str]:
        """What is said of points beside where they are, in its order."""
        return [name for name in FEATURES if name in self.columns] or [
            name for name in self.columns if name.isdecimal()
        ]

    def select(self, rows: NDArray[Any]) -> Scan:
        """Return some of the points alone."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return self._replace(points=self.points[rows], columns=columns, faces=None)


def read(content: bytes, name: str, ending: str, most: int) -> Scan:
    """Return what a file holds.

    Args:
        content: of the file.
        name: of it, for messages.
        ending: of its name, with its dot, in lower case; nothing where that is not known.
        most: points; a file that has more is refused, before they are read where it says how many they are.

    Raises:
        DataError: it is empty, cut short, or holds no points; the message names it.
    """
    if not content.strip():
        raise DataError(f"{name} is empty: replace the file, or leave it out")
    if content.startswith(b"LASF") or ending in EXTENSIONS - READ:
        raise DataError(
            f"{name} is a LAS file, which is not read: convert it, pdal translate scan.las scan.ply; or pip install "
            "'laspy[lazrs]' and give arrays, scan = laspy.read('scan.las'); numpy.stack([scan.x, scan.y, scan.z], 1)"
        )
    kind = _kind_of(content, ending)
    if kind is None:
        known = few(sorted(one[1:] for one in READ), len(READ))
        raise DataError(f"{name} is no point cloud that is read: save it as one of {known}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numpy and trimesh: what is wrong is told below
            scan = _READERS[kind](content, name, most)
    except DataError:
        raise
    except Exception as error:  # a damaged file raises one of a dozen errors
        raise DataError(
            f"{name} is a damaged {kind} file, or one cut short: {first_line(error)}. Replace it"
        ) from error
    check_count(len(scan.points), name, most)
    return scan._replace(columns=_in_shares(scan.columns, name))


def _in_shares(columns: dict[str, NDArray[Any]], name: str) -> dict[str, NDArray[Any]]:
    """Return columns whose colours are from 0 to 1, however the file has them."""
    colours = [one for one in COLOURS if one in columns]
    for one in (*colours, *(each for each in ("intensity",) if each in columns)):
        if columns[one].dtype.kind not in "biuf":
            raise DataError(f"{name} has '{one}' of {columns[one].dtype}: give numbers, or leave it out")
    highest = max((float(columns[one].max(initial=0)) for one in colours), default=0)
    kinds = {columns[one].dtype for one in colours}
    most = 1 if highest <= 1 and not kinds & {np.dtype("u1"), np.dtype("u2")} else 255
    most = 65535 if highest > 255 or kinds == {np.dtype("u2")} else most
    return columns if most == 1 else {**columns, **{one: columns[one] / most for one in colours}}


def check_count(count: int, name: str, most: int) -> None:
    """Raise an error where there are too many points.

    Raises:
        DataError: there are more than ``most``.
    """
    if count > most:
        raise DataError(
            f"{name} has {count:,} points; more than {most:,} are refused: keep some of them, or cut it into parts",
            f", or set max_points={count} of the data",
        )


def of_rows(numbers: NDArray[Any], name: str, names: Sequence[str] = ()) -> Scan:
    """Return points of an array ``[P, 3 + F]``.

    Args:
        numbers: x, y, z first, where there are no names.
        name: of what holds them, for messages.
        names: of the columns, where they are known.

    Raises:
        DataError: it has another shape, or holds no numbers.
    """
    if numbers.dtype.kind not in "iuf" or numbers.ndim != 2:
        raise DataError(f"{name} is {brief(numbers)}: points are numbers in rows, [P, 3] or more columns")
    wide = numbers.shape[1]
    if wide < 3 or wide > _WIDEST:
        turned = ": turn it, points.T" if numbers.shape[0] in range(3, _WIDEST) and wide > _WIDEST else ""
        raise DataError(f"{name} has {wide} numbers in each row, where points have x, y, z and few others{turned}")
    told = [_ALSO.get(one, one) for one in (word.strip().lower() for word in names)]
    if {"x", "y", "z"} <= set(told) and len(told) == wide:
        columns = {one: numbers[:, place] for place, one in enumerate(told)}
        points = np.stack([columns.pop(axis) for axis in "xyz"], 1)
    else:
        points, columns = numbers[:, :3], {str(place): numbers[:, place] for place in range(3, wide)}
        if wide >= 6 and _are_normals(numbers[:, 3:6]):
            columns = {_NORMALS.get(one, one): column for one, column in columns.items()}
    return Scan(name, points.astype(np.float64), columns)


_NORMALS = {"3": "nx", "4": "ny", "5": "nz"}


def _are_normals(numbers: NDArray[Any]) -> bool:
    """Whether rows of three are directions: each 1 long, and some against an axis."""
    lengths = np.square(numbers.astype(np.float64)).sum(1)
    return len(numbers) > 2 and bool((np.abs(lengths - 1) < 0.01).all()) and bool((numbers < 0).any())


def _kind_of(content: bytes, ending: str) -> str | None:
    begins = content[:512].lstrip()
    for start, kind in ((b"ply", "PLY"), (b"\x93NUMPY", "NPY"), (b"PK\x03\x04", "NPZ")):
        if content.startswith(start):
            return kind
    if begins.startswith(b"# .PCD") or (ending == ".pcd" and b"FIELDS" in content[:2048]):
        return "PCD"
    if begins[:4] in (b"OFF\n", b"OFF\r", b"OFF ", b"COFF"):
        return "OFF"
    named = {".off": "OFF", ".obj": "OBJ", ".stl": "STL", ".ply": "PLY", ".pcd": "PCD", ".bin": "KITTI"}
    named |= {".npz": "NPZ", ".npy": "NPY"}
    if ending in named:
        return named[ending]
    if begins.startswith(b"solid") or (len(content) >= 84 and len(content) == 84 + 50 * _uint32(content, 80)):
        return "STL"
    if ending in EXTENSIONS or _in_words(content):
        return "OBJ" if not ending and b"\nf " in content and b"v " in content else "text"
    return None


def _uint32(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 4], "little")


def _in_words(content: bytes) -> bool:
    return all(byte in _PRINTED for byte in content[:512])


_PRINTED = frozenset(b"0123456789+-.eE,; \t\r\n#/naif")


# ---- meshes


def _mesh(kind: str) -> Callable[[bytes, str, int], Scan]:
    def read_mesh(content: bytes, name: str, most: int) -> Scan:
        if kind == "OFF" and not content.lstrip()[:4].upper().lstrip(b"CN").startswith(b"OFF"):
            raise DataError(f"{name} is no OFF file: it does not begin with OFF. Replace it")
        trimesh: Any = require("trimesh", extra="pointcloud")
        options = {"skip_materials": True} if kind == "OBJ" else {}
        found = trimesh.load(io.BytesIO(content), file_type=kind.lower(), process=False, **options)
        if hasattr(found, "geometry"):  # a scene of several parts
            if not found.geometry:
                raise DataError(f"{name} holds no triangles and no points: it is no {kind} file, or empty. Replace it")
            found = found.to_mesh()
        corners = np.asarray(found.vertices, np.float64)
        faces = np.asarray(getattr(found, "faces", np.empty((0, 3))), np.int64).reshape(-1, 3)
        if len(faces) and not 0 <= faces.min() <= faces.max() < len(corners):
            raise DataError(f"{name} is damaged: a face names corner {faces.max()} of {len(corners)}. Replace it")
        return Scan(name, corners, {}, faces)

    return read_mesh


# ---- PLY

_PLY_TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"}
_PLY_TYPES |= {"double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4"}
_PLY_TYPES |= {"uint32": "u4", "float32": "f4", "float64": "f8"}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}


class _Element(NamedTuple):
    name: str
    size: int
    types: dict[str, str]
    """By property, of numpy; of a list the type of its length, and that of its values."""


def _ply(content: bytes, name: str, most: int) -> Scan:
    head, found, rest = content.partition(b"end_header")
    words = [line.split() for line in head.decode("ascii", "replace").splitlines()]
    form = next((line[1] for line in words if line[:1] == ["format"] and len(line) > 1), "")
    if not content.startswith(b"ply") or not found or form not in _ORDERS:
        raise DataError(f"{name} has no whole header of PLY, from ply to end_header: it is damaged. Replace it")
    elements: list[_Element] = []
    for line in words:
        if line[:1] == ["element"]:
            elements.append(_Element(line[1], int(line[2]), {}))
        elif line[:1] == ["property"]:
            types = [_PLY_TYPES[word] for word in line[1:-1] if word != "list"]
            elements[-1].types[line[-1]] = " ".join(types)
    body = rest[rest.index(b"\n") + 1 :]
    vertex = next((one for one in elements if one.name == "vertex"), None)
    if vertex is None or not {"x", "y", "z"} <= vertex.types.keys():
        raise DataError(f"{name} is a PLY file without points: it has no vertex of x, y, z. Replace it")
    check_count(vertex.size, name, most)
    columns = _ply_columns(elements, vertex, form, body, name)
    points = np.stack([columns.pop(axis) for axis in "xyz"], 1).astype(np.float64)
    scan = Scan(name, points, {_ALSO.get(one, one): column for one, column in columns.items()})
    kinds = {_ALSO.get(one, one): kind for one, kind in vertex.types.items()}
    scan.columns.update({one: scan.columns[one].astype(kinds[one]) for one in COLOURS if one in scan.columns})
    if any(one.name == "face" and one.size for one in elements):
        return scan._replace(faces=_mesh("PLY")(content, name, most).faces)
    return scan


def _ply_columns(
    elements: list[_Element], vertex: _Element, form: str, body: bytes, name: str
) -> dict[str, NDArray[Any]]:
    before = elements[: elements.index(vertex)]
    if any(" " in kind for one in (*before, vertex) for kind in one.types.values()):
        raise DataError(f"{name} is a PLY file whose vertices hold lists, or follow such: save it with vertices first")
    if form == "ascii":
        lines = body.split(b"\n")
        lines = [line for line in lines if line.strip()][sum(one.size for one in before) :][: vertex.size]
        if len(lines) < vertex.size:
            raise _cut(name, vertex.size, len(lines))
        table = np.array([line.split()[: len(vertex.types)] for line in lines], np.float64)
        table = table.reshape(-1, len(vertex.types))
        return dict(zip(vertex.types, table.T, strict=True))
    order = _ORDERS[form]
    layout = [np.dtype([(one, order + kind) for one, kind in element.types.items()]) for element in (*before, vertex)]
    start = sum(kind.itemsize * one.size for kind, one in zip(layout, before, strict=False))
    present = (len(body) - start) // layout[-1].itemsize
    if present < vertex.size:
        raise _cut(name, vertex.size, max(present, 0))
    rows = np.frombuffer(body, layout[-1], vertex.size, start)
    return {one: rows[one] for one in vertex.types}


def _cut(name: str, claimed: int, present: int) -> DataError:
    return DataError(f"{name} is cut short: it claims {claimed:,} points, and has {present:,}. Replace the file")


# ---- PCD

_PCD_KINDS = {"F": "f", "U": "u", "I": "i"}


def _pcd(content: bytes, name: str, most: int) -> Scan:
    head: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in head:
        end = content.find(b"\n", at)
        if end < 0:
            raise DataError(f"{name} has no whole header of PCD, from VERSION to DATA: it is damaged. Replace it")
        words = content[at:end].decode("ascii", "replace").split("#")[0].split()
        head |= {words[0].upper(): words[1:]} if words else {}
        at = end + 1
    fields, form = [one.lower() for one in head["FIELDS"]], head["DATA"][0].lower()
    count = int(head["POINTS"][0]) if "POINTS" in head else int(head["WIDTH"][0]) * int(head["HEIGHT"][0])
    times = [int(one) for one in head.get("COUNT", ["1"] * len(fields))]
    sizes = map(int, head["SIZE"])
    kinds = [np.dtype(f"<{_PCD_KINDS[kind]}{size}") for kind, size in zip(head["TYPE"], sizes, strict=True)]
    check_count(count, name, most)
    if not {"x", "y", "z"} <= set(fields):
        raise DataError(f"{name} has the fields {', '.join(fields)}, and points have x, y, z. Replace it")
    body, columns = content[at:], dict[str, NDArray[Any]]()
    if form == "ascii":
        lines = [line.split() for line in body.splitlines() if line.strip()][:count]
        lines = lines if not lines or len(lines[-1]) == sum(times) else lines[:-1]
        table = np.array(lines, np.float64).reshape(len(lines), -1)
        starts = np.cumsum([0, *times])
        columns |= {one: table[:, at].astype(kind) for one, kind, at in zip(fields, kinds, starts, strict=False)}
    else:
        wide = [kind.itemsize * many for kind, many in zip(kinds, times, strict=True)]
        if form == "binary_compressed":  # field by field
            packed, whole = _uint32(body, 0), _uint32(body, 4)
            if whole != sum(wide) * count or len(body) < 8 + packed:
                raise _cut(name, count, 0)
            body = _lzf(body[8 : 8 + packed], whole)
            for one, kind, each, many in zip(fields, kinds, wide, times, strict=True):
                columns[one] = np.frombuffer(body, kind, count * many)[::many]
                body = body[count * each :]
        else:
            present = min(len(body) // sum(wide), count)
            rows = np.frombuffer(body, np.uint8, present * sum(wide)).reshape(present, sum(wide))
            starts = np.cumsum([0, *wide])
            for one, kind, start in zip(fields, kinds, starts, strict=False):
                columns[one] = rows[:, start : start + kind.itemsize].copy().view(kind)[:, 0]
    if (present := len(columns["x"])) < count:
        raise _cut(name, count, present)
    points = np.stack([columns.pop(axis) for axis in "xyz"], 1).astype(np.float64)
    colour = columns.pop("rgb", columns.pop("rgba", None))
    if colour is not None:
        whole_numbers = colour.astype("<f4").view("<u4") if colour.dtype.kind == "f" else colour.astype(np.uint32)
        columns |= {one: (whole_numbers >> shift & 255) / 255 for one, shift in zip(COLOURS, (16, 8, 0), strict=True)}
    scan = Scan(name, points, {_ALSO.get(one, one.removesuffix("_")): column for one, column in columns.items()})
    return scan.select(np.flatnonzero(np.isfinite(points).all(1)))  # by which the format says that nothing was measured


def _lzf(packed: bytes, size: int) -> bytes:
    """Return what was packed by LibLZF."""
    made, at = bytearray(), 0
    while at < len(packed):
        control = packed[at]
        at += 1
        if control < 32:  # so many bytes as they are, and one more
            made += packed[at : at + control + 1]
            at += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += packed[at]
            at += 1
        start = len(made) - ((control & 31) << 8) - packed[at] - 1
        at += 1
        if start < 0:
            raise ValueError("a part of it refers to what is not there")
        again, many = made[start : start + length + 2], length + 2
        made += (again * -(-many // len(again)))[:many]  # which repeats itself where it reaches beyond the end
        if len(made) > size:
            break
    if len(made) != size:
        raise ValueError(f"{size:,} bytes were packed, and {len(made):,} are found")
    return bytes(made)


# ---- numbers


def _text(content: bytes, name: str, most: int) -> Scan:
    lines = content.decode("utf-8-sig", "replace").splitlines()
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith(("#", "//"))]
    names: list[str] = []
    between = next((mark for mark in (",", ";", "\t") if lines and mark in lines[0]), None)

    def split(line: str) -> list[str]:
        return [word.strip() for word in line.split(between)] if between else line.split()

    if lines and not _numbers(split(lines[0])):
        names = split(lines[0])
        lines = lines[1:]
    elif len(lines) > 1 and len(split(lines[0])) == 1 and len(split(lines[1])) > 1:
        claimed, lines = int(float(lines[0])), lines[1:]  # how many they are, as some write first
        if claimed > len(lines):
            raise _cut(name, claimed, len(lines))
    if not lines:
        raise DataError(f"{name} has a header and no points: replace the file, or leave it out")
    check_count(len(lines), name, most)
    try:
        table = np.loadtxt(lines, np.float64, delimiter=between, ndmin=2)
    except ValueError:
        wide = len(split(lines[0]))
        for number, line in enumerate(lines, 1):
            if not _numbers(split(line)) or len(split(line)) != wide:
                raise DataError(
                    f"{name} has {wide} numbers in its first row, and in row {number} '{one_line(line, 60)}': replace "
                    "it, or remove this row"
                ) from None
        raise
    return of_rows(table, name, names)


def _numbers(words: Sequence[str]) -> bool:
    try:
        return bool([float(word) for word in words])
    except ValueError:
        return False


def _npy(content: bytes, name: str, most: int) -> Scan:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = head(file)
    check_count(shape[0] if shape else 0, name, most)
    if kind.hasobject or int(np.prod(shape)) * kind.itemsize > len(content) - file.tell():
        what = "holds objects, which are not read" if kind.hasobject else "is cut short"
        raise DataError(f"{name} {what}: save its points again, numpy.save(file, points.astype('float32'))")
    file.seek(0)
    return of_rows(np.load(file, allow_pickle=False), name)


def _npz(content: bytes, name: str, most: int) -> Scan:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(one.file_size for one in archive.infolist()) > MAX_FILE_BYTES:
            raise DataError(f"{name} holds more than {MAX_FILE_BYTES:,} bytes, which are refused")
        parts = [one.removesuffix(".npy") for one in archive.namelist()]
        key = next((one for one in ("points", "xyz", "pos", *(parts if len(parts) == 1 else ())) if one in parts), None)
        if key is None:
            raise DataError(f"{name} holds {few(parts) or 'nothing'}, and no array 'points': name it so")
        scan = _npy(archive.read(f"{key}.npy"), name, most)
        for part in set(parts) - {key}:
            column = np.load(io.BytesIO(archive.read(f"{part}.npy")), allow_pickle=False)
            if column.shape == (len(scan.points),):
                scan.columns[_ALSO.get(part, part)] = column
    return scan


def _kitti(content: bytes, name: str, most: int) -> Scan:
    if (found := _with_rings(content)) is not None:
        check_count(len(found), name, most)
        return of_rows(found, name, ("x", "y", "z", "intensity", "ring"))
    rows, rest = divmod(len(content), 16)
    check_count(rows, name, most)
    table = np.frombuffer(content[: 16 * rows], "<f4").reshape(-1, 4)
    sound = bool(np.isfinite(table).all()) and bool((np.abs(table) < FAR).all())
    if rest or not sound or _denormal(table):
        raise DataError(
            f"{name} is no file of KITTI's, x, y, z and intensity in float32: "
            + (f"it has {len(content):,} bytes, and 16 are a point" if rest else "its numbers are none of that kind")
            + ". If it is of another kind, read it by a program of your own and give arrays, from_arrays"
        )
    return of_rows(table, name, ("x", "y", "z", "intensity"))


def _with_rings(content: bytes) -> NDArray[Any] | None:
    """Return points of nuScenes, whose fifth number is that of a laser; None: it is no such file."""
    if len(content) % 20:
        return None
    rows = np.frombuffer(content, "<f4").reshape(-1, 5)
    rings = rows[:, 4]
    if not (np.isfinite(rows).all() and (rings == rings.round()).all() and (rings >= 0).all() and (rings < 1024).all()):
        return None
    fourth = rows.reshape(-1)[3::4]  # which KITTI has from 0 to 1
    return None if len(content) % 16 == 0 and ((fourth >= 0) & (fourth <= 1)).all() else rows


def _denormal(table: NDArray[Any]) -> bool:
    """Whether most numbers are so small that they are bytes of something else."""
    there = np.abs(table[table != 0])
    return len(there) > 0 and float(np.median(there)) < 1e-30


_READERS: dict[str, Callable[[bytes, str, int], Scan]] = {
    "OFF": _mesh("OFF"),
    "OBJ": _mesh("OBJ"),
    "STL": _mesh("STL"),
    "PLY": _ply,
    "PCD": _pcd,
    "NPY": _npy,
    "NPZ": _npz,
    "KITTI": _kitti,
    "text": _text,
}
