"""Embeddings are computed once, kept in files, and found again by what was embedded."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quickstudy.cli import main
from quickstudy.errors import ConfigError, DataWarning
from quickstudy.image.modality import Picture
from quickstudy.learning import embeddings as module
from quickstudy.learning.embedding_store import KEY, located, segments_of, stored
from quickstudy.learning.embeddings import embeddings, identity_of
from quickstudy.modality import Code, Tensors
from quickstudy.nets import Encoder


class Counting(nn.Module):
    """Features of three numbers, or of their sum; counts what passes."""

    def __init__(self, seed: int = 0, pooling: str = "none") -> None:
        super().__init__()
        self.pooling, self.counted = pooling, deque[int]()  # which no identity tells, as it is no plain value
        torch.manual_seed(seed)
        self.linear = nn.Linear(3, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        self.counted.append(len(inputs))
        return self.linear(inputs if self.pooling == "none" else inputs.sum(1, keepdim=True).expand(-1, 3))


INPUTS = torch.arange(30.0).view(10, 3)


def counted(encoder: Encoder) -> int:
    """Return how many inputs passed since this was asked last."""
    passed = sum(encoder.backbone.counted)
    encoder.backbone.counted.clear()
    return passed


def test_only_what_is_new_is_computed_and_all_is_mapped_where_it_lies_together(tmp_path: Path) -> None:
    encoder = Encoder(Counting()).train()
    expected = encoder(INPUTS).detach().numpy()
    counted(encoder)

    def ask(inputs: Any, at_once: int = 4) -> Any:
        return embeddings(encoder, Tensors(), inputs, folder=tmp_path, at_once=at_once)

    assert np.array_equal(ask(INPUTS[:6]), expected[:6]) and counted(encoder) == 6 and encoder.training
    again = ask(INPUTS[1:5].clone())
    assert np.array_equal(again, expected[1:5]) and counted(encoder) == 0
    assert isinstance(again, np.memmap), "rows that lie together are no copy"
    again[:] = 0  # which torch.from_numpy may do, and no file has
    assert np.array_equal(ask(list(INPUTS.flip(0))), expected[::-1]) and counted(encoder) == 4
    twice = torch.cat([INPUTS, INPUTS[:2], 9 + INPUTS[-1:], 9 + INPUTS[-1:]])
    assert np.array_equal(ask(twice)[:12], np.concatenate([expected, expected[:2]])) and counted(encoder) == 1
    assert ask(INPUTS[:0]).shape == (0, 0)


def times(factor: float) -> nn.Module:
    class Times(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs * factor

    return Times()


def test_an_identity_is_of_all_that_an_embedding_depends_on_and_of_nothing_else() -> None:
    encoder, picture = Encoder(Counting()), Picture(image_size=8)
    same = identity_of(encoder, picture)
    encoder.train(), encoder(INPUTS)
    assert same == identity_of(Encoder(Counting()), Picture(image_size=8))
    others = [
        identity_of(Encoder(Counting(1)), picture),
        identity_of(Encoder(Counting(pooling="sum")), picture),
        identity_of(Encoder(Counting()).double(), picture),
        identity_of(Encoder(Counting(), [0.5], [0.5]), picture),
        identity_of(encoder, Picture(image_size=9)),
        identity_of(encoder, Tensors()),
        identity_of(encoder, picture, ["0..255"]),
    ]
    with torch.autocast("cpu", torch.bfloat16):
        others.append(identity_of(encoder, picture))
    assert None not in others and len({same, *others}) == 9
    assert identity_of(encoder, Code(torch.as_tensor)) is None, "code of one's own cannot be told"
    hooked = Encoder(Counting())
    hooked.backbone.register_forward_hook(lambda *_: None)
    assert identity_of(hooked, picture) is None
    norm = nn.BatchNorm1d(3, track_running_stats=False)
    assert identity_of(Encoder(norm), picture) is None, "it depends on the other inputs"
    assert identity_of(Encoder(times(2.0)), picture) is None, "it knows what nothing of it tells"


def test_files_are_told_by_all_they_hold_and_texts_are_no_files(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    large = bytearray(3 << 16)
    for name in ("a.bin", "b.bin", "copy.bin"):
        large[20_000] = name == "b.bin"  # where a glance does not look
        Path(name).write_bytes(large)
    a, b, copy = module.keys_of(Tensors(), ["a.bin", "b.bin", "copy.bin"], 3)
    assert a == copy != b
    from quickstudy.text.modality import Text

    a, copy = module.keys_of(Text(), ["a.bin", "copy.bin"], 2)
    assert a != copy
    rows = [{"file": "a.bin", "age": 3}]
    (before,) = module.keys_of(Tensors(), rows, 1)
    Path("a.bin").write_bytes(b"other")
    assert before != module.keys_of(Tensors(), rows, 1)[0]
    assert module.keys_of(Tensors(), ["a.bin", object()], 2) is None


@pytest.mark.parametrize("place", [10, 70, -3], ids=["head", "keys", "features"])
def test_a_damaged_segment_is_noticed_and_made_anew(tmp_path: Path, place: int) -> None:
    encoder = Encoder(Counting())
    expected = embeddings(encoder, Tensors(), INPUTS, folder=tmp_path).copy()
    (file,) = tmp_path.glob("*/*.embeddings")
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    file.with_name(".other.embeddings.1234.part").write_bytes(content[:50])  # of a process that was killed
    counted(encoder)
    with pytest.warns(DataWarning, match="damaged"):
        assert np.array_equal(embeddings(encoder, Tensors(), INPUTS, folder=tmp_path), expected)
    assert counted(encoder) == 10 and not file.exists()
    assert np.array_equal(embeddings(encoder, Tensors(), INPUTS, folder=tmp_path), expected)
    assert counted(encoder) == 0


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").touch()
    encoder = Encoder(Counting())
    monkeypatch.setattr(module, "_SEGMENT", 1)  # so that there are several
    with pytest.warns(DataWarning, match="QUICKSTUDY_CACHE") as told:
        found = embeddings(encoder, Tensors(), INPUTS, folder=tmp_path / "file", at_once=4)
    assert len(told) == 1 and np.array_equal(found, encoder(INPUTS).detach().numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(embeddings(encoder, Tensors(), INPUTS, keep=False), found)


def test_a_large_set_comes_from_one_file_and_what_was_computed_before_an_error_is_kept(
    tmp_path: Path, monkeypatch: Any
) -> None:
    encoder = Encoder(Counting())
    monkeypatch.setattr(module, "_SEGMENT", 1)
    monkeypatch.setattr(module, "_COPIED", 1)
    inputs = torch.arange(120.0).view(40, 3)
    bad = [*inputs[:33], torch.zeros(2), *inputs[34:]]
    with pytest.raises(ValueError, match="input 33"):
        embeddings(encoder, Tensors(), bad, folder=tmp_path, at_once=10)
    assert counted(encoder) == 30
    found = embeddings(encoder, Tensors(), inputs, folder=tmp_path, at_once=10)
    assert counted(encoder) == 10 and isinstance(found, np.memmap)
    assert np.array_equal(found, encoder(inputs).detach().numpy())
    (kept,) = stored(tmp_path)
    assert len(list(tmp_path.glob("*/*.embeddings"))) == 1 and kept.embeddings == 40


def test_the_command_shows_what_is_kept_and_clears_it(tmp_path: Path, capsys: Any) -> None:
    for seed in range(2):
        encoder = Encoder(Counting(seed))
        encoder.made_by = f"net{seed}", {}
        embeddings(encoder, Picture(image_size=8), INPUTS[: 1 + seed].byte(), folder=tmp_path)
    os.utime(stored(tmp_path)[0].folder / "about.json", (0, 0))
    old = stored(tmp_path)[1].about["backbone"]

    def asked(*words: str) -> str:
        assert main(["cache", "--folder", str(tmp_path), *words]) == 0
        return str(capsys.readouterr().out)

    shown = asked()
    assert re.search(r"(?m)^\w{8}  net1 +pictures, image_size=8, image_mode=RGB +2 +0.0  \d{4}-", shown)
    assert re.search(r"(?m)^3 embeddings, 0.0 MB, in", shown)
    assert old in asked("--older_than", "30") and "1970" in asked("--encoder", old)
    assert main(["cache", "--folder", str(tmp_path), "--encoder", "net3"]) == 2
    assert "did you mean 'net" in capsys.readouterr().err
    assert "removed" in asked("--older_than", "30", "--clear") and old not in asked()
    assert "removed" in asked("--clear") and "0 embeddings" in asked() and not list(tmp_path.iterdir())


def test_what_was_used_longest_ago_makes_room(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    encoders = [Encoder(Counting(seed)) for seed in range(2)]

    def ask(number: int, rows: Any, limit: str) -> int:
        monkeypatch.setenv("QUICKSTUDY_CACHE_SIZE", limit)
        embeddings(encoders[number], Tensors(), INPUTS[rows], folder=tmp_path)
        return counted(encoders[number])

    for age, (number, rows) in enumerate([(0, slice(0, 3)), (0, slice(3, 6)), (1, slice(0, 3))]):
        before = set(tmp_path.glob("*/*.embeddings"))
        assert ask(number, rows, "1GB") == 3
        (made,) = {*tmp_path.glob("*/*.embeddings")} - before
        os.utime(made, (age, age))
    size = made.stat().st_size
    assert ask(0, slice(0, 3), f"{3 * size}") == 0  # nothing goes, and this was used last
    assert ask(1, slice(6, 9), f"{3 * size}") == 3
    assert len(list(tmp_path.glob("*/*.embeddings"))) == 3
    assert ask(0, slice(0, 3), "1GB") == ask(1, slice(0, 3), "1GB") == 0 and ask(0, slice(3, 6), "1GB") == 3
    assert ask(1, slice(0, 9), "0") == 3 and ask(1, slice(0, 9), "1GB") == 0  # what a call uses stays
    assert main(["cache", "--folder", str(tmp_path)]) == 0 and "at most 1,074 MB" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="QUICKSTUDY_CACHE_SIZE='much' is no size"):
        ask(0, slice(0, 3), "much")


def test_inputs_of_several_sizes_are_kept_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder without weights makes as many numbers as an input has."""
    monkeypatch.setattr(module, "_MANY", 2)
    encoder, made = Encoder(nn.Flatten()).eval(), [torch.full((1, 1 + n % 2), float(n)) for n in range(12)]
    for _ in range(2):
        for inputs in made:
            assert np.array_equal(embeddings(encoder, Tensors(), inputs, folder=tmp_path), inputs.numpy())


def test_many_small_segments_become_one_which_another_process_finds(tmp_path: Path, monkeypatch: Any) -> None:
    encoder = Encoder(Counting())
    expected = encoder(INPUTS).detach().numpy()
    embeddings(encoder, Tensors(), INPUTS[:2], folder=tmp_path)
    embeddings(encoder, Tensors(), INPUTS[4:5], folder=tmp_path)
    old, place = segments_of(next(tmp_path.iterdir())), next(tmp_path.iterdir())
    monkeypatch.setattr(module, "_MANY", 2)
    embeddings(encoder, Tensors(), INPUTS[8:9], folder=tmp_path)
    (one,) = segments_of(place)
    assert len(one.keys) == 4 and counted(encoder) == 14
    listed = iter([old])
    monkeypatch.setattr(module, "segments_of", lambda folder: next(listed, None) or segments_of(folder))
    found = embeddings(encoder, Tensors(), INPUTS[:2], folder=tmp_path)  # which had listed them before
    assert np.array_equal(found, expected[:2]) and counted(encoder) == 0


WRITES = """
import sys, numpy as np
from pathlib import Path
from quickstudy.learning.embedding_store import KEY, written, segments_of, located, gathered, merged
folder, own = Path(sys.argv[1]), int(sys.argv[2])
for turn in range(20):
    numbers = np.arange(100 * own + 5 * turn, 100 * own + 5 * turn + 5)
    segments = [*segments_of(folder), written(folder, {}, numbers.astype(KEY), [numbers[:, None].astype(np.float32)])]
    assert np.array_equal(gathered(segments, *located(segments, numbers.astype(KEY)))[:, 0], numbers)
    if turn % 5 == 4:
        keys = np.arange(100 * own, 100 * own + 5 * turn + 5).astype(KEY)
        segments = segments_of(folder)
        merged(folder, {}, segments, keys)
assert "torch" not in sys.modules
"""


def test_processes_write_and_put_together_at_once(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-W", "error", "-c", WRITES, tmp_path, str(own)]) for own in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    segments, numbers = segments_of(tmp_path), np.arange(300)
    which, rows = located(segments, numbers.astype(KEY))
    assert len(segments) == 3 and (which >= 0).all()
    assert [float(segments[a].features[b, 0]) for a, b in zip(which, rows, strict=True)] == numbers.tolist()
