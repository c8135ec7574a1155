"""Files of point clouds: what is read of each kind, and what is said of bad ones."""

from __future__ import annotations

import dataclasses
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from quickstudy.errors import DataError
from quickstudy.pointcloud import Cloud

POINTS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
COLOURS = np.random.default_rng(1).integers(0, 256, (20, 3)).astype(np.uint8)
WHOLE = Cloud(points=None, normalize=False)
CUBE = "8 6 0\n" + "".join(f"{x} {y} {z}\n" for x in (0, 1) for y in (0, 1) for z in (0, 1))
SIDES = ("0 1 3 2", "4 6 7 5", "0 4 5 1", "2 3 7 6", "0 2 6 4", "1 5 7 3")
OFF = f"OFF\n{CUBE}" + "".join(f"4 {side}\n" for side in SIDES)


def ply(form: str = "binary_little_endian", count: int = 20, colours: bool = True) -> bytes:
    order = ">" if "big" in form else "<"
    kinds = [(axis, f"{order}f4") for axis in "xyz"] + [(one, "u1") for one in ("red", "green", "blue") if colours]
    head = ["ply", f"format {form} 1.0", "comment made up", f"element vertex {count}"]
    head += [f"property {'float' if kind[-2:] == 'f4' else 'uchar'} {one}" for one, kind in kinds]
    rows = np.zeros(20, kinds)
    for place, axis in enumerate("xyz"):
        rows[axis] = POINTS[:, place]
    for place, one in enumerate(("red", "green", "blue")[: 3 * colours]):
        rows[one] = COLOURS[:, place]
    body = rows.tobytes()
    if form == "ascii":
        body = "\n".join(" ".join(repr(value.item()) for value in row) for row in rows).encode()
    return "\n".join([*head, "end_header", ""]).encode() + body


def lzf(content: bytes) -> bytes:
    """Pack by literal runs, and once by a reference to what repeats itself."""
    runs = [content[at : at + 32] for at in range(0, len(content), 32)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def pcd(form: str = "binary", points: NDArray[Any] = POINTS, count: int | None = None) -> bytes:
    head = "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\n"
    head += f"WIDTH {count or len(points)}\nHEIGHT 1\nPOINTS {count or len(points)}\nDATA {form}\n"
    rows = np.concatenate([points, np.arange(len(points))[:, None]], 1).astype("<f4")
    if form == "ascii":
        return head.encode() + "\n".join(" ".join(map(repr, row)) for row in rows.tolist()).encode()
    if form == "binary":
        return head.encode() + rows.tobytes()
    packed = lzf(rows.T.tobytes())
    return head.encode() + struct.pack("<II", len(packed), rows.nbytes) + packed


def saved(save: Any, *arrays: Any, **named: Any) -> bytes:
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def text(rows: NDArray[Any], between: str = " ", head: str = "") -> bytes:
    return (head + "\n".join(between.join(map(repr, row)) for row in rows.tolist())).encode()


KINDS = {
    "a.ply": (ply(), COLOURS / 255),
    "big.ply": (ply("binary_big_endian"), COLOURS / 255),
    "ascii.ply": (ply("ascii"), COLOURS / 255),
    "plain.ply": (ply(colours=False), None),
    "a.pcd": (pcd(), np.arange(20)[:, None]),
    "ascii.pcd": (pcd("ascii"), np.arange(20)[:, None]),
    "packed.pcd": (pcd("binary_compressed"), np.arange(20)[:, None]),
    "a.npy": (saved(np.save, POINTS), None),
    "a.npz": (saved(np.savez, points=POINTS, intensity=np.arange(20.0)), np.arange(20)[:, None]),
    "one.npz": (saved(np.savez_compressed, cloud=POINTS), None),
    "a.xyz": (text(POINTS), None),
    "counted.pts": (text(POINTS, head="20\n"), None),
    "headed.txt": (text(np.concatenate([POINTS, COLOURS], 1), ",", "x,y,z,r,g,b\n"), COLOURS / 255),
    "noted.txt": (text(POINTS, "\t", "# made up\n"), None),
    "velodyne.bin": (
        np.concatenate([POINTS, np.arange(20)[:, None]], 1).astype("<f4").tobytes(),
        np.arange(20)[:, None],
    ),
    "corners.obj": (b"".join(b"v %a %a %a\n" % tuple(row) for row in POINTS.tolist()), "corners"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_cloud_is_read_from_every_kind_of_file(name: str, tmp_path: Path) -> None:
    content, further = KINDS[name]
    (tmp_path / name).write_bytes(content)
    cloud = Cloud(points=None, normalize=False, surface=False) if isinstance(further, str) else WHOLE
    read = cloud.load(tmp_path / name)["points"].numpy()
    np.testing.assert_allclose(read[:, :3], POINTS, rtol=1e-6)
    wanted = np.empty((20, 0)) if further is None or isinstance(further, str) else further
    np.testing.assert_allclose(read[:, 3:], wanted, rtol=1e-6)
    if name.endswith((".ply", ".pcd", ".npy", ".npz")):  # which say what they are
        assert np.array_equal(cloud.load(content)["points"], read)


def test_what_lzf_packed_is_unpacked() -> None:
    from quickstudy.pointcloud.files import _lzf

    assert _lzf(b"\x02abc" + bytes([2 << 5, 2]) + b"\x00d", 8) == b"abcabcad"  # 4 bytes from 3 before, which overlap
    with pytest.raises(ValueError, match="what is not there"):
        _lzf(bytes([2 << 5, 2]), 4)


def test_points_are_spread_evenly_on_the_surface_of_a_mesh(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    (tmp_path / "cube.off").write_text(OFF)
    cloud = Cloud(points=6000, normalize=False)
    points = cloud.load(tmp_path / "cube.off")["points"].numpy()
    assert points.shape == (6000, 3)
    on = np.isclose(points, 0) | np.isclose(points, 1)
    assert on.any(1).all() and 0 <= points.min() <= points.max() <= 1
    shares = [np.isclose(points[:, axis], side).mean() for axis in range(3) for side in (0, 1)]
    assert max(abs(share - 1 / 6) for share in shares) < 4 * np.sqrt(5 / 36 / 6000)  # four deviations
    assert np.array_equal(points, cloud.load(tmp_path / "cube.off")["points"])
    mesh = trimesh.load(tmp_path / "cube.off")
    for name in ("cube.stl", "cube.obj", "cube.ply"):
        mesh.export(tmp_path / name)
        again = cloud.load(tmp_path / name)["points"].numpy()
        assert (np.isclose(again, 0) | np.isclose(again, 1)).any(1).all() and len(again) == 6000, name
    assert len(cloud.load(mesh)["points"]) == 6000
    assert len(Cloud(surface=False).load(tmp_path / "cube.off")["points"]) == 8


BAD = {
    "empty.off": (b"", "is empty: replace the file"),
    "faceless.off": (f"OFF\n{CUBE}".replace("8 6 0", "8 0 0").encode(), "is a mesh without faces.*set surface=False"),
    "cut.off": (OFF[:40].encode(), "is a damaged OFF file, or one cut short.*Replace it"),
    "beyond.off": (OFF.replace("4 0 1 3 2", "4 0 1 3 99").encode(), "is a damaged OFF file.*outside the range"),
    "flat.off": (b"OFF\n3 1 0\n0 0 0\n1 1 1\n2 2 2\n3 0 1 2\n", "is a mesh whose faces have no area"),
    "text.off": (b"hello", "is no OFF file: it does not begin with OFF"),
    "text.stl": (b"hello", "holds no triangles and no points"),
    "cut.ply": (ply()[:-100], "is cut short: it claims 20 points, and has 13. Replace the file"),
    "ascii.ply": (ply("ascii", 30), "is cut short: it claims 30 points, and has 20"),
    "head.ply": (ply()[:60], "has no whole header of PLY"),
    "other.ply": (ply().replace(b"float x", b"float u"), "is a PLY file without points"),
    "many.ply": (ply(count=10**9), "has 1,000,000,000 points; more than 5,000,000 are refused.*max_points="),
    "cut.pcd": (pcd()[:-50], "is cut short: it claims 20 points, and has 16"),
    "more.pcd": (pcd("ascii", count=30), "is cut short: it claims 30 points, and has 20"),
    "packed.pcd": (pcd("binary_compressed")[:-50], "is cut short: it claims 20 points"),
    "head.pcd": (pcd()[:70], "has no whole header of PCD"),
    "fields.pcd": (pcd().replace(b"x y z", b"u v w"), "has the fields u, v, w, intensity, and points have x, y, z"),
    "head.xyz": (b"x y z\n", "has a header and no points"),
    "row.xyz": (b"1 2 3\n1 2\n3 4 5\n", "has 3 numbers in its first row, and in row 2 '1 2'"),
    "two.xyz": (b"1 2\n3 4\n5 6\n", "has 2 numbers in each row, where points have x, y, z"),
    "one.xyz": (b"1 2 3\n", "has 1 points; a cloud has 3 at least. Leave it out"),
    "same.xyz": (b"1 2 3\n" * 5, "has 5 points, all in one place"),
    "nan.xyz": (b"1 2 3\nnan 1 2\n3 4 5\n4 4 4\n", "has 1 points that are no finite numbers, the first in row 1"),
    "count.pts": (b"9\n1 2 3\n2 3 4\n3 4 5\n", "is cut short: it claims 9 points, and has 3"),
    "flat.npy": (saved(np.save, POINTS[0]), "is ndarray of float32 and shape .3,.: points are numbers in rows"),
    "turned.npy": (saved(np.save, np.zeros((3, 100))), "has 100 numbers in each row.*points.T"),
    "cut.npy": (saved(np.save, POINTS)[:-9], "is cut short: save its points again"),
    "names.npz": (saved(np.savez, a=POINTS, b=POINTS), "holds a, b, and no array 'points': name it so"),
    "odd.bin": (b"hello" * 5, "is no file of KITTI's.*it has 25 bytes, and 16 are a point"),
    "wrong.bin": (b"\xff" * 160, "is no file of KITTI's.*its numbers are none of that kind"),
    "a.las": (
        b"LASF" + bytes(400),
        "is a LAS file, which is not read: convert it, pdal translate .*pip install 'laspy.*arrays",
    ),
    "what": (b"\x00\x01\x02" * 9, "is no point cloud that is read: save it as one of bin, npy"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_what_to_do(name: str, tmp_path: Path) -> None:
    content, told = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"(?s){name}' ({told})"):
        Cloud().load(tmp_path / name)


def test_what_a_depth_camera_did_not_measure_is_left_out() -> None:
    """PCD says so by NaN; elsewhere it is a mistake."""
    points = np.where(np.arange(20)[:, None] % 4 == 0, np.nan, POINTS)
    np.testing.assert_allclose(WHOLE.load(pcd(points=points))["points"][:, :3], POINTS[np.arange(20) % 4 > 0])


def test_clouds_of_other_channels_are_named(tmp_path: Path) -> None:
    for name in ("a.ply", "plain.ply"):
        (tmp_path / name).write_bytes(KINDS[name][0])
    cloud = Cloud(points=8).fitted([tmp_path / "a.ply", tmp_path / "plain.ply"])
    assert cloud == Cloud(points=8, channels=3) and cloud.for_backbone() == {"channels": 3}
    with pytest.raises(DataError, match=r"plain.ply' has 0 numbers .* and 3 are wanted.*Set channels=0"):
        cloud.load(tmp_path / "plain.ply")
    with pytest.raises(DataError, match=r"a.pcd' has 1 numbers .*\(intensity\), and 3 are wanted"):
        (tmp_path / "a.pcd").write_bytes(KINDS["a.pcd"][0])
        cloud.load(tmp_path / "a.pcd")
    assert Cloud(channels=0).load(tmp_path / "a.ply")["points"].shape == (20, 3)


def test_colours_are_shares_in_every_kind_of_file(tmp_path: Path) -> None:
    scan = "x y z red green blue\n" + "\n".join(f"{at} 0 1 200 100 0" for at in range(5))
    table = np.array([[at, 0, 1] for at in range(5)], np.float32)
    colours = {one: np.full(5, level, np.uint8) for one, level in (("red", 200), ("green", 100), ("blue", 0))}
    wanted = torch.tensor([200, 100, 0]) / 255
    (tmp_path / "a.xyz").write_text(scan)
    for item in (tmp_path / "a.xyz", saved(np.savez, points=table, **colours)):
        torch.testing.assert_close(WHOLE.load(item)["points"][0, 3:], wanted)
    with pytest.raises(DataError, match="has 'intensity' of <U1"):
        WHOLE.load(saved(np.savez, points=table, intensity=np.array(["a"] * 5)))


def test_packed_colours_of_pcd_are_red_green_blue() -> None:
    head = "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\nWIDTH 3\nHEIGHT 1\n"
    body = "".join(f"{at} 0 0 {0xFF6400}\n" for at in range(3))
    found = WHOLE.load(f"{head}POINTS 3\nDATA ascii\n{body}".encode())["points"][0, 3:]
    torch.testing.assert_close(found, torch.tensor([255.0, 100, 0]) / 255)


def test_features_that_the_first_cloud_lacks_are_not_left_out_unsaid() -> None:
    plain, coloured = [POINTS] * 5, np.concatenate([POINTS, COLOURS], 1)
    assert WHOLE.fitted(plain).channels == 0 and WHOLE.fitted([coloured, *plain]).channels == 3
    for row in (1, 2, 5):
        with pytest.raises(DataError, match=f"no numbers beside x, y, z, and number {row + 1} has 3.* channels=0"):
            WHOLE.fitted([*plain[:row], coloured, *plain[row:]])
    assert dataclasses.replace(WHOLE, channels=0).fitted([*plain, coloured]).channels == 0


def test_a_mapping_is_told_to_be_no_cloud() -> None:
    for given in ({"points": [1]}, [{"points": POINTS}]):
        with pytest.raises(DataError, match=r"one cloud is its points alone.* give its 'points'"):
            WHOLE.load(WHOLE.listed(given)[0])


def test_normals_are_no_features_where_nobody_names_them() -> None:
    normals = np.random.default_rng(0).normal(size=(20, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    assert WHOLE.load(np.concatenate([POINTS, normals], 1))["points"].shape == (20, 3)
    assert WHOLE.load(np.concatenate([POINTS, COLOURS], 1))["points"].shape == (20, 6)


@pytest.mark.parametrize("count", [7, 32])
def test_rings_of_nuscenes_are_no_points(count: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = np.concatenate([generator.normal(size=(count, 4)), generator.integers(0, 32, (count, 1))], 1)
    (tmp_path / "a.bin").write_bytes(rows.astype("<f4").tobytes())
    found = WHOLE.load(tmp_path / "a.bin")["points"]
    torch.testing.assert_close(found, torch.from_numpy(rows[:, :4].astype(np.float32)))


def test_a_surface_is_drawn_by_its_areas() -> None:
    """Of two triangles one has 99 parts of 100."""
    corners = "0 0 0\n9 0 0\n0 11 0\n100 0 0\n101 0 0\n100 1 0\n"
    points = Cloud(points=1000, normalize=False).load(f"OFF\n6 2 0\n{corners}3 0 1 2\n3 3 4 5\n".encode())["points"]
    assert 0 < int((points[:, 0] > 50).sum()) < 30


@pytest.mark.parametrize(
    ("points", "options", "told"),
    [
        (np.concatenate([POINTS[:5], np.zeros((100_000, 3))]), {}, "100005 points, and the 1024 .* in one place"),
        (POINTS * 1e30, {}, "has a coordinate of .*e.30"),
        (POINTS * 1e30, {"normalize": False}, "has a coordinate of .*e.30"),
        (POINTS + np.array([5e5, 5.4e6, 0]), {"normalize": False}, "so far from 0 that .* rounded to 0.5: take one"),
        (
            np.random.default_rng(0).uniform(0, 20_000, (500, 3)),
            {"normalize": False, "tile": 8.0},
            "500 points is .* tiles of side 8, most of one point: is tile= in the units",
        ),
    ],
)
def test_clouds_that_would_become_nonsense_are_named(points: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        Cloud(**options).load(points)
