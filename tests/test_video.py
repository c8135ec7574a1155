"""Videos as a domain: how they are read, the doors of their data, and the tasks."""

from __future__ import annotations

import io
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from quickstudy import Predictor
from quickstudy.algorithms.maml import MAML
from quickstudy.cli import main
from quickstudy.data.likeness import near_pairs
from quickstudy.data.samples import TRANSFORMS
from quickstudy.datasets.motions import _clips, _line, motions
from quickstudy.errors import ConfigError, DataError, DataWarning
from quickstudy.ladder.examples import encoders_of
from quickstudy.modality.thumbnails import LARGE_TILE, film_strip
from quickstudy.nets import Encoder, build_encoder
from quickstudy.nets.conv4 import Conv4
from quickstudy.nets.registry import BACKBONES
from quickstudy.testing import check_domain, check_modality
from quickstudy.video import Video, VideoClassificationData, VideoClassifier
from quickstudy.video.modality import Film
from quickstudy.video.nets import C3D


def moving(down: bool, seed: int = 0, frames: int = 8) -> NDArray[np.uint8]:
    """Return frames ``[T, 24, 32, 3]`` of a square that moves down or to the right."""
    pixels = np.random.default_rng(seed).integers(0, 40, (frames, 24, 32, 3), np.uint8)
    for number, frame in enumerate(pixels):
        top, left = (2 * number, 10) if down else (8, 3 * number)
        frame[top : top + 8, left : left + 8] += 180
    return pixels


def write(path: Path, frames: NDArray[np.uint8], rate: int = 8) -> str:
    """Write a video, or a folder of frames where the name has no ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.suffix:
        path.mkdir()
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(path / f"{number}.png")
        return str(path)
    codec = {".webm": "libvpx", ".gif": "gif"}.get(path.suffix, "mpeg4")
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate, width=frames.shape[2], height=frames.shape[1])
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
    return str(path)


def videos(folder: Path, each: int = 4) -> tuple[list[str], list[str]]:
    """Write videos of several lengths and kinds; return them and what they show."""
    files, labels = [], []
    for name in ("down", "right"):
        for number in range(each):
            ending = (".mp4", ".avi", ".webm", ".gif")[number % 4]
            files.append(write(folder / name / f"{number}{ending}", moving(name == "down", number, 8 + number)))
            labels.append(name)
    return files, labels


@pytest.mark.dear("video", "modality", "testing")
def test_videos_conform(tmp_path: Path) -> None:
    files, labels = videos(tmp_path)
    check_domain(
        VideoClassificationData, VideoClassifier, files, labels, backbone=C3D(hidden=4), frames=4, image_size=16
    )


@pytest.mark.dear("video", "modality", "testing")
def test_reading_conforms(tmp_path: Path) -> None:
    files, _ = videos(tmp_path, 3)
    bad = [b"RIFF", np.zeros((4, 9, 9)), np.full((4, 16, 16, 3), np.nan), np.array(["a"])]
    check_modality(Video(frames=4, image_size=16), files, bad=bad, backbone=C3D(hidden=4), exports=False)


def counted(length: int) -> Tensor:
    """Return a video ``[T, 3, 8, 8]`` whose frames are as bright as their number."""
    return torch.arange(length, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8)


def numbers(clip: Tensor) -> list[int]:
    """Return of a clip ``[C, T, H, W]`` which frames it has."""
    return [int(number) for number in clip[0, :, 0, 0]]


@pytest.mark.parametrize(
    ("options", "length", "wanted"),
    [
        ({"frames": 4}, 4, [0, 1, 2, 3]),
        ({"frames": 4}, 16, [2, 6, 10, 14]),  # the middle of each part
        ({"frames": 4}, 2, [0, 0, 1, 1]),
        ({"frames": 4, "stride": 2}, 17, [5, 7, 9, 11]),  # of the middle
        ({"frames": 4, "stride": 2}, 5, [0, 2, 4, 4]),  # the last stands still
        ({"frames": 4, "clips": 2}, 16, [[1, 5, 9, 13], [3, 7, 11, 15]]),
        ({"frames": 2, "clips": 3, "stride": 1}, 6, [[0, 1], [2, 3], [4, 5]]),
        ({"frames": 2, "clips": 3}, 2, [[0, 1]] * 3),  # there are no others
    ],
)
def test_which_frames_are_taken(options: dict[str, Any], length: int, wanted: Any) -> None:
    read = Video(**options).load(counted(length))
    found = [numbers(clip) for clip in read["windows"]] if isinstance(read, dict) else numbers(read)
    assert found == wanted


def test_frames_are_those_that_are_shown_at_their_time(tmp_path: Path) -> None:
    """Of files in which frames lie in another order, or at odd times, and far apart."""
    pixels = np.broadcast_to(np.arange(0, 240, 2, dtype=np.uint8)[:, None, None, None], (120, 16, 16, 3))
    for ending in (".mp4", ".avi", ".webm"):
        file = write(tmp_path / f"a{ending}", pixels, 30)
        every = Video(frames=120).load(file)[0, :, 8, 8].float()
        assert (every - torch.arange(0, 240, 2)).abs().max() <= 6, ending  # of what is compressed
        few = Video(frames=3).load(file)[0, :, 8, 8].float()
        assert torch.equal(few, every[[20, 60, 100]]), ending
        slow = Video(frames=4, fps=1).load(file)[0, :, 8, 8].float()
        assert torch.equal(slow, every[[15, 45, 75, 105]]), ending  # the middle of each second
    odd = Video(frames=4, fps=1)._numbers(Film("a", 4, list, np.array([0.0, 0.1, 0.2, 3.0]), 4.0), 1)
    assert odd.tolist() == [[2, 2, 2, 3]]
    long = Video(frames=4, fps=1)._numbers(Film("a", 2, list, np.array([0.0, 1e15]), 2e15), 1)
    assert long.tolist() == [[0, 0, 1, 1]]  # without a list of all moments


def coded(path: Path, frames: NDArray[np.uint8]) -> str:
    """Write frames of which some are told by later ones, and each twelfth by itself."""
    codec = "mpeg4" if path.suffix == ".avi" else "mpeg2video"
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, 25, {"g": "12", "bf": "2"}, width=frames.shape[2], height=frames.shape[1])
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
    return str(path)


@pytest.mark.parametrize("ending", [".ts", ".mpg", ".avi"])
def test_where_no_frame_is_found_at_once_the_right_one_is_found_all_the_same(ending: str, tmp_path: Path) -> None:
    """Files without an index were read from behind the frame that was wanted."""
    pixels = np.broadcast_to(np.arange(0, 240, 1, dtype=np.uint8)[:, None, None, None], (240, 32, 32, 3))
    file = coded(tmp_path / f"a{ending}", pixels)
    with av.open(file) as container:
        every = [frame.to_ndarray(format="rgb24")[8, 8, 0] for frame in container.decode(video=0)]
    assert Video(frames=6).load(file)[0, :, 8, 8].tolist() == [every[number] for number in (20, 60, 100, 140, 180, 220)]


def test_a_video_in_which_parts_lack_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 32, 32, 3), np.uint8)
    content = Path(coded(tmp_path / "a.mpg", noise)).read_bytes()
    third = len(content) // 3
    with pytest.raises(DataError, match=r"is damaged near frame \d+: parts of it lack"):
        Video().load(content[:third] + bytes(third) + content[2 * third :])
    with pytest.raises(DataError, match="is cut short: its last frame is there in part"):
        Video(frames=1).load(content[: 2 * third])
    content = Path(write(tmp_path / "a.gif", noise)).read_bytes()
    with pytest.raises(DataError, match="is cut short: its end mark is not there"):
        Video().load(content[: len(content) // 2])
    content = Path(write(tmp_path / "a.avi", noise)).read_bytes()
    with pytest.raises(DataError, match=r"is cut short: it claims 60 frames, and has \d\d\."):
        Video().load(content[: len(content) // 2])


def test_a_stranger_has_so_many_pixels_decoded_and_no_more(tmp_path: Path) -> None:
    file = write(tmp_path / "a.gif", moving(True, 0, 120))
    assert Video(max_decoded=32 * 24 * 118).load(file).shape == (3, 16, 24, 32)  # all up to the last that is shown
    with pytest.raises(DataError, match="is too long for its 32x24 pixels: more than 76,800 would be decoded"):
        Video().within(32 * 24).load(file)


def test_a_folder_of_pictures_is_a_video(tmp_path: Path) -> None:
    for name in ("down", "right"):
        for number in range(2):
            write(tmp_path / "all" / name / f"clip{number}", moving(name == "down", number, 12))
    write(tmp_path / "all" / "right" / "2.gif", moving(False, 2))
    data = VideoClassificationData.from_folders(tmp_path / "all", frames=12, image_size=(24, 32))
    table = data.table("train")
    assert table is not None and table.classes == ("down", "right") and len(table) == 5
    assert [Path(str(item)).name for item in table.inputs] == ["clip0", "clip1", "2.gif", "clip0", "clip1"]
    reader = data.modality
    frames = torch.from_numpy(moving(True, 0, 12)).permute(3, 0, 1, 2)
    assert torch.equal(reader.load(tmp_path / "all" / "down" / "clip0"), frames)  # 10.png comes after 9.png
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in (tmp_path / "all").rglob("*.*"):
            archive.write(file, file.relative_to(tmp_path))
    packed = VideoClassificationData.from_folders(tmp_path / "all.zip").table("train")
    assert packed is not None and len(packed) == 5 and torch.equal(reader.load(packed.inputs[0]), frames)
    rows = pd.DataFrame({"clip": ["down/clip0", "right/2.gif"], "what": ["down", "right"]})
    framed = VideoClassificationData.from_data_frame(
        "clip", "what", train_data_frame=rows, train_images_root=tmp_path / "all"
    )
    assert len(framed.table("train") or ()) == 2


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path: Path) -> None:
    """So that what a table takes is the names of its files."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"{number}.mp4").touch()
    data = VideoClassificationData.from_folders(tmp_path)
    assert len(data.table("train") or ()) == 6
    with pytest.raises(DataError, match=r"0.mp4' is empty"):
        data.example()


def test_training_is_shown_one_of_several_clips_and_all_else_the_same() -> None:
    film = counted(16)
    reader = Video(frames=4, image_size=8)
    loaded, draw = reader.to_draw_from()(film), reader.draws()
    assert loaded["windows"].shape == (4, 3, 4, 8, 8)
    drawn = {tuple(numbers(draw(loaded))) for _ in range(64)}
    assert drawn == {(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)}
    assert reader.to_draw_from()(counted(4))["windows"].shape[0] == 1  # there is no other
    several = Video(frames=4, image_size=8, clips=2)
    assert several.draws()(several.to_draw_from()(film))["windows"].shape == (1, 3, 4, 8, 8)
    films, labels = [film, film + 1] * 2, ["a", "b"] * 2
    pairs = list(zip(films, labels, strict=True))
    data = VideoClassificationData.from_datasets(pairs, pairs, frames=4, image_size=8)
    shapes = [tuple(next(iter(data.batch_loader(stage)))[0].shape) for stage in ("train", "val")]
    assert shapes == [(4, 3, 4, 8, 8)] * 2
    clips = torch.stack([one[:4].transpose(0, 1) for one in films])
    fed = VideoClassificationData.from_tensors(clips, labels)
    assert fed.load_options == {"image_size": (8, 8), "frames": 4}
    assert torch.equal(next(iter(fed.batch_loader("train")))[0].sort(0).values, clips.sort(0).values)


@pytest.mark.parametrize("frames", [3, 4])
def test_clips_are_normalised_by_channel(frames: int) -> None:
    """Of three frames a mean of three channels would fit either axis."""
    encoder = Encoder(C3D(hidden=2), mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0)).double()
    clips = torch.randint(0, 256, (2, 3, frames, 8, 8), dtype=torch.uint8)
    wanted = torch.stack([(clips[:, c].double() / 255 - 0.1 * (c + 1)) / 2**c for c in range(3)], 1)
    torch.testing.assert_close(encoder.prepared(clips), wanted, atol=1e-6, rtol=1e-6)
    assert encoder.prepared(clips).is_contiguous(memory_format=torch.channels_last_3d)
    first = next(module for module in encoder.modules() if isinstance(module, nn.Conv3d))
    assert first.weight.is_contiguous(memory_format=torch.channels_last_3d)


def test_tasks_of_3d_convolutions_are_adapted_one_at_a_time_unless_asked() -> None:
    device = torch.device("cuda")
    assert MAML()._one_by_one(Encoder(C3D(hidden=2)), device)
    assert not MAML(task_chunk=2)._one_by_one(Encoder(C3D(hidden=2)), device)
    assert not MAML()._one_by_one(Encoder(Conv4(hidden=2)), device)


@pytest.mark.parametrize("name", [name for name in TRANSFORMS.names() if name.startswith("video_")])
def test_all_frames_are_changed_alike(name: str) -> None:
    clip = torch.randint(0, 256, (3, 1, 32, 32), dtype=torch.uint8).expand(-1, 4, -1, -1)
    torch.manual_seed(0)
    changed = [TRANSFORMS[name](clip) for _ in range(4)]
    assert all(torch.equal(one, one[:, :1].expand(-1, 4, -1, -1)) for one in changed)
    assert any(not torch.equal(one, clip) for one in changed) and changed[0].shape == clip.shape
    assert TRANSFORMS[name]({"windows": clip[None].float() / 255})["windows"].shape == (1, 3, 4, 32, 32)


def test_a_network_of_pictures_sees_every_frame(tmp_path: Path) -> None:
    options = {"in_channels": 1, "hidden": 2}
    encoder = build_encoder("conv4", options, domain="video").double().eval()
    clips = torch.rand(2, 1, 3, 16, 16, dtype=torch.float64)
    alone = Encoder(encoder.backbone.network).double().eval()
    wanted = torch.stack([alone(clips[:, :, frame]) for frame in range(3)]).mean(0)
    torch.testing.assert_close(encoder(clips), wanted)
    assert encoder.made_by == ("frames", {"of": "conv4", "options": options, "pooling": "mean"})
    assert encoder.reads == {"name": "video", "options": {}} and not encoder.trained
    again = build_encoder(*encoder.made_by, pretrained=False)
    again.load_state_dict(encoder.state_dict())
    with pytest.raises(ConfigError, match="needs a network that says how many features it makes"):
        build_encoder("conv4", {**options, "pooling": "attention"}, domain="video")
    attentive = build_encoder("resnet10t", {"pooling": "attention"}, pretrained=False, domain="video").eval()
    clips = torch.randint(0, 256, (2, 3, 3, 32, 32), dtype=torch.uint8)
    frames = [attentive.backbone.network(attentive.prepared(clips)[:, :, frame]) for frame in range(3)]
    torch.testing.assert_close(attentive(clips), torch.stack(frames).mean(0), atol=1e-4, rtol=1e-4)


def test_who_says_nothing_else_reads_pictures_and_is_put_over_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES._entries, "mine", type("Mine", (Conv4,), {"__module__": "mine"}))
    assert build_encoder("mine", {"hidden": 2}, domain="video").made_by == (
        "frames",
        {"of": "mine", "options": {"hidden": 2}, "pooling": "mean"},
    )
    with pytest.raises(ConfigError, match="'gin' is one of the domain 'graph', and frames of videos are pictures"):
        build_encoder("gin", {"features": 2}, domain="video")


def test_frames_are_pictures_of_any_kind(tmp_path: Path) -> None:
    for number, frame in enumerate(moving(True)):
        Image.fromarray(frame).save(tmp_path / f"{number}.jfif", "JPEG")
    assert Video(frames=4).load(tmp_path).shape == (3, 4, 24, 32)
    assert ".gif" not in Video.parts  # which are videos


def test_what_may_be_a_clip_or_frames_is_told() -> None:
    with pytest.warns(DataWarning, match=r"shape \(3, 3, 24, 32\) is a clip .* or frames .* Give frames as"):
        assert Video().load(np.zeros((3, 3, 24, 32), np.uint8)).shape == (3, 3, 24, 32)


def test_small_networks_of_clips_and_names_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = torch.rand(2, 3, 4, 16, 16)
    assert build_encoder("r2plus1d", {"hidden": 2}, domain="video")(clips).shape == (2, 8)
    with pytest.raises(ConfigError, match="at least 4 frames of 8x8 pixels are needed"):
        build_encoder("c3d")(clips[:, :, :3])
    assert "swin3d_t" in BACKBONES.names()
    models = pytest.importorskip("torchvision.models.video")

    def offline(*_: Any, **__: Any) -> Any:
        raise OSError("no network")

    with torch.device("meta"):
        assert models.r3d_18(weights=None).fc.in_features == 512
    monkeypatch.setattr("torchvision.models.get_model", offline)
    with pytest.raises(ConfigError, match=r"weights of 'r3d_18' could not be loaded: no network. Without a network"):
        build_encoder("r3d_18")


BAD = {
    "empty.mp4": (b"", "is empty: replace the file"),
    "text.mp4": (b"hello, this is a text" * 9, "is no video, or none that is read: save it as mp4, webm"),
    "list.mp4": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "is no video, or none that is read"),
    "picture.mp4": (b"\x89PNG\r\n\x1a\n" + bytes(60), "is a picture .PNG., and no video: put the pictures of one"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_video_is_named_with_what_to_do(name: str, tmp_path: Path) -> None:
    content, told = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}' {told}"):
        Video().load(tmp_path / name)


def test_a_video_that_is_cut_or_has_none_is_named(tmp_path: Path) -> None:
    for ending in (".mp4", ".avi", ".webm"):
        content = Path(write(tmp_path / f"a{ending}", moving(True, 0, 40))).read_bytes()
        with pytest.raises(DataError, match=r"is cut short|is a damaged video, or one cut short|has no frames"):
            Video().load(content[: len(content) // 2])
    with av.open(tmp_path / "sound.mp4", "w") as container:
        stream = container.add_stream("aac", 8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(DataError, match=r"sound.mp4' has no video, but audio alone: leave it out"):
        Video().load(tmp_path / "sound.mp4")
    with pytest.raises(DataError, match="is a folder without pictures"):
        Video().load(tmp_path)
    one = write(tmp_path / "one.mp4", moving(True, 0, 1))
    with pytest.warns(DataWarning, match="one.mp4' has one frame, which is all that is seen of it"):
        assert Video(frames=4).load(one).shape == (3, 4, 24, 32)
    with pytest.raises(DataError, match="claims frames of 32x24 pixels; more than 100 are refused"):
        Video().within(100).load(one)


def test_frames_are_turned_as_the_camera_says(tmp_path: Path) -> None:
    file = Path(write(tmp_path / "a.mp4", moving(True)))
    content, upright = file.read_bytes(), Video(frames=2).load(file)
    one = (1 << 16).to_bytes(4, "big")
    as_it_is = one + bytes(12) + one + bytes(12) + (1 << 30).to_bytes(4, "big")
    minus = ((1 << 32) - (1 << 16)).to_bytes(4, "big")
    turned = bytes(4) + one + bytes(4) + minus + bytes(16) + bytes(4) + (1 << 30).to_bytes(4, "big")
    at = content.index(as_it_is, content.index(b"tkhd"))
    rotated = Video(frames=2).load(content[:at] + turned[:36] + content[at + 36 :])
    assert rotated.shape == (3, 2, 32, 24)
    assert torch.equal(rotated, upright.rot90(-1, (2, 3)))  # a quarter clockwise


def test_near_copies_are_known_and_other_motions_are_not(tmp_path: Path) -> None:
    reader = Video()
    one = write(tmp_path / "a.mp4", moving(True, 0, 16))
    copy = write(tmp_path / "b.webm", moving(True, 0, 16).repeat(2, 1).repeat(2, 2))
    other = write(tmp_path / "c.mp4", moving(True, 0, 16)[::-1].copy())
    sketches = [reader.sketch(Path(file)) for file in (one, copy, other)]
    assert near_pairs(sketches).tolist() == [[0, 1]]
    assert reader.show(one, reader.load(one)).startswith(b"\xff\xd8")


def test_motions_have_opposites_and_splits_share_nothing() -> None:
    splits = motions(examples=3)
    names = [table.classes for table in splits]
    assert [len(some) for some in names] == [16, 6, 10] and len(set().union(*names)) == 32
    for table in splits:
        assert isinstance(table.inputs, Tensor) and table.inputs.shape[1:] == (1, 16, 32, 32)
        assert table.inputs.flatten(1).amax(1).min() > 100  # it is always there to be seen
    moved = _clips(partial(_line, 0), torch.full((1, 1, 28, 28), 255.0), 4, torch.Generator().manual_seed(0))
    columns = (moved.float().sum((1, 3)) * torch.arange(32)).sum(2) / moved.float().sum((1, 3, 4))
    assert (columns.diff(dim=1) > 0).float().mean() > 0.8  # to the right, but where it has left the frame


def test_a_backbone_of_pictures_is_taken_by_name_wherever_one_is_named(tmp_path: Path) -> None:
    for name in ("down", "right"):
        for number in range(2):
            write(tmp_path / "few" / name / f"{number}.mp4", moving(name == "down", number))
    assert encoders_of(["conv4"], "video")["conv4"].made_by == (
        "frames",
        {"of": "conv4", "options": {}, "pooling": "mean"},
    )
    command = ["adapt", "conv4", "--support", str(tmp_path / "few"), "--frames", "4", "--image_size", "16"]
    assert main([*command, "--out", str(tmp_path / "mine")]) == 0
    kept = Predictor.load(tmp_path / "mine")
    assert kept.modality == Video(frames=4, image_size=16) and len(kept.predict(tmp_path / "few/down/0.mp4")) == 1


def test_frames_fill_their_places_in_what_is_shown() -> None:
    frames = torch.full((16, 3, 8, 16), 40, dtype=torch.uint8)
    sheet = np.asarray(Image.open(io.BytesIO(film_strip(frames))).convert("L")).astype(int)
    assert sheet.shape == (200, 200)
    assert abs(sheet[34, 4:64] - 40).max() < 16 and (sheet[[0, 8, 60], 30] > 240).all(), "wide frames, on white"
    clips = torch.randint(0, 256, (2, 3, 4, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seen = Predictor.from_backbone("c3d", clips, ["a", "b"]).explain(clips[0], 2)
    assert seen.width > 3 * LARGE_TILE and seen.height > LARGE_TILE
