"""Requests and files that nobody meant: no crash, no answer of 500, nothing outside of the folder."""

from __future__ import annotations

import contextlib
import io
import os
import random
import resource
import tarfile
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from quickstudy import DataError, Predictor
from quickstudy.errors import DataWarning
from quickstudy.image import ImageClassificationData
from quickstudy.image.modality import load_image
from quickstudy.serve.app import build
from quickstudy.serve.service import Service
from serving import picture, save_model

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]


def follow_the_description(folder: Path, examples: int) -> None:
    """Ask every operation of the description so many things, right and wrong ones."""
    with Service(save_model(folder)) as service:
        described = schemathesis.openapi.from_asgi("/openapi.json", build(service))
        for operation in described.get_all_operations():

            @given(operation.ok().as_strategy())
            @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
            def ask(case: schemathesis.Case) -> None:
                case.call_and_validate(checks=CHECKS)

            ask()
        assert service.ready


def test_every_answer_is_one_that_the_description_names(tmp_path: Path) -> None:
    follow_the_description(tmp_path / "m", 30)


@pytest.mark.slow
def test_every_answer_is_one_that_the_description_names_at_length(tmp_path: Path) -> None:
    follow_the_description(tmp_path / "m", 2000)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_picture_or_an_error_in_words(content: bytes) -> None:
    _try(content)


@given(
    st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    st.integers(0, 400),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_damaged_picture_is_a_picture_or_an_error_in_words(
    kind: str, changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(_whole(kind))
    for place, value in changes:
        content[place % len(content)] = value
    _try(bytes(content[: len(content) - cut]))


@given(st.text(max_size=50))
@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_is_kept_as_it_is_or_refused(served: Service, name: str) -> None:
    try:
        served.teach(name, [load_image(picture("blue"), 16)]).result()
    except DataError:
        assert name in ("", "unknown", "red", "green")
        return
    assert name in served.classes().result()
    served.forget(name).result()
    assert set(served.classes().result()) == {"red", "green"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(save_model(tmp_path_factory.mktemp("named") / "m")) as service:
        yield service


def test_ten_thousand_classes(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m")
    predictor = Predictor.load(folder)
    inputs = [load_image(picture((number % 256, number // 256, 100)), 16) for number in range(10_000)]
    with pytest.warns(DataWarning, match="of two classes are nearly the same"):
        predictor.fit(inputs, [f"class {number}" for number in range(10_000)])
    predictor.save(folder)
    with Service(folder) as service:
        answer = service.predict(inputs[:2], count=3).result()
        assert [len(each.ranking) for each in answer] == [3, 3]
        service.teach("further", inputs[:3]).result()
        assert len(service.classes().result()) == 10_001


@pytest.mark.slow
def test_ten_minutes_of_damaged_pictures_and_archives(tmp_path: Path) -> None:
    chance, end = random.Random(0), time.monotonic() + 600
    kinds = [_whole(kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")]
    outside = tmp_path / "outside.txt"
    rounds = 0
    _try(kinds[0])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while time.monotonic() < end:
        _try(_mutated(chance.choice(kinds), chance))
        if rounds % 10 == 0:
            archive = tmp_path / chance.choice(["a.zip", "a.tar"])
            archive.write_bytes(_mutated(_archive(archive.suffix, chance), chance))
            with contextlib.suppress(DataError), warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # of names that are no pictures'
                table = ImageClassificationData.from_folders(train_folder=archive).table("train")
                assert table is not None
                for row in range(min(len(table), 5)):
                    load_image(table.inputs[row], 16)
        rounds += 1
    assert not outside.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) in (["a.tar", "a.zip"], ["a.tar"], ["a.zip"])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 1_000_000, f"{grown} KB more after {rounds} rounds"


def _try(content: bytes) -> None:
    try:
        loaded = load_image(content, 16, max_pixels=1_000_000)
    except DataError as error:
        assert str(error)
    else:
        assert loaded.shape == (3, 16, 16)


def _whole(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def _mutated(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.randrange(6)):
        place, kind = chance.randrange(len(changed)), chance.randrange(4)
        if kind == 0:
            changed[place] = chance.randrange(256)
        elif kind == 1:
            changed[place : place + 4] = chance.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
        elif kind == 2:
            del changed[place : place + chance.randrange(1, 20)]
        else:
            changed[place:place] = os.urandom(chance.randrange(1, 20))
        if not changed:
            return b""
    return bytes(changed)


def _archive(suffix: str, chance: random.Random) -> bytes:
    content = io.BytesIO()
    names = ["a/1.png", "a/2.png", "b/1.png", chance.choice(["../outside.txt", "/outside.txt", "b/2.png", "b/./3.png"])]
    if suffix == ".zip":
        with zipfile.ZipFile(content, "w") as made:
            for name in names:
                made.writestr(name, _whole("PNG"))
    else:
        with tarfile.open(fileobj=content, mode="w") as tar:
            for name in names:
                entry = tarfile.TarInfo(name)
                entry.size = len(_whole("PNG"))
                tar.addfile(entry, io.BytesIO(_whole("PNG")))
    return content.getvalue()
