"""What an input is: as a value, by its name in a file, and in every form that ``load`` takes."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy.data.table import Inputs, Table
from quickstudy.errors import ConfigError, DataError, DataWarning
from quickstudy.image import ImageClassificationData, ImageClassifier, Picture, load_image
from quickstudy.modality import MODALITIES, Code, Modality, Tensors, Values, as_modality, modality_of
from quickstudy.nets import build_encoder


@dataclass(frozen=True)
class Letters(Modality):
    """Texts as the places of their letters in those that training knew."""

    called = "texts"
    learned = ("letters",)
    letters: tuple[str, ...] = ()

    def fitted(self, inputs: Inputs) -> Self:
        if self.letters:
            return self
        return self.with_options({"letters": sorted({letter for row in range(len(inputs)) for letter in inputs[row]})})

    def load(self, item: Any) -> dict[str, torch.Tensor]:
        ids = torch.tensor([self.letters.index(letter) for letter in item])
        return {"ids": ids, "mask": torch.ones(len(ids))}


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(MODALITIES._entries, "letters", Letters)
    return None


def test_a_modality_is_told_by_any_form_of_load() -> None:
    assert as_modality(load_image) == Picture()
    assert as_modality(partial(load_image, image_size=np.int64(8), image_mode="L")) == Picture(8, "L")
    assert as_modality(torch.as_tensor) == Tensors()
    own = partial(round, ndigits=1)
    assert as_modality(own) == Code(round, {"ndigits": 1})
    assert as_modality(own)(1.25) == own(1.25)
    given = Picture(3)
    assert as_modality(given) is given
    behind = partial(int, "11")  # whose first argument is not the item
    assert as_modality(behind).load(2) == 3


def test_a_picture_reads_as_load_image_does_and_refuses_what_it_refuses() -> None:
    image = Image.new("RGB", (9, 5), "red")
    for options in ({}, {"image_size": 4}, {"image_size": [2, 3], "image_mode": "L"}):
        assert torch.equal(Picture().with_options(options).load(image), partial(load_image, **options)(image))  # type: ignore[arg-type]
    for options, told in (
        ({"image_size": 0}, "image_size=0"),
        ({"image_mode": "rgb"}, "image_mode='rgb'"),
        ({"image_depth": 9}, "image_depth=9"),
        ({"image_sise": 9}, "Picture has no option 'image_sise'; did you mean 'image_size'"),
    ):
        with pytest.raises(ConfigError, match=told):
            Picture().with_options(options)


@pytest.mark.parametrize(
    "modality", [Picture(), Picture((3, 4), "L", 100, 12), Tensors(), Letters(("a", "b"))], ids=lambda one: str(one)
)
def test_a_file_and_another_process_hold_it(modality: Modality, letters: None) -> None:
    described = json.loads(json.dumps(modality.described()))
    assert modality_of(described, "pets") == modality == pickle.loads(pickle.dumps(modality))
    assert hash(modality_of(described, "pets")) == hash(modality)


def test_what_older_files_say_of_pictures_is_understood() -> None:
    assert modality_of({"name": "image", "options": {}}, "pets") == Picture()
    assert modality_of({"name": "image", "options": {"image_size": [3, 4]}}, "pets") == Picture((3, 4))
    assert modality_of(None, "pets") == Tensors()
    assert Picture(84).options == {"image_size": 84, "image_mode": "RGB"}


def test_a_file_imports_nothing() -> None:
    for name in ("os", "quickstudy.image.modality", "imgae"):
        with pytest.raises(ConfigError, match=f"unknown modality '{name}'"):
            modality_of({"name": name, "options": {}}, "pets")
    assert Code(round).described() == {"name": None, "options": {}}
    with pytest.raises(ConfigError, match="loads its inputs by code"):
        modality_of(Code(round).described(), "pets")


def test_what_is_learned_follows_from_the_inputs_alone(letters: None) -> None:
    learned = Letters().fitted(["ba", "cab"])
    assert learned == Letters(("a", "b", "c")) == learned.fitted(["xyz"])
    assert learned.load("cb")["ids"].tolist() == [2, 1]
    assert Picture(8).fitted([]) == Picture(8)


def test_pictures_show_travel_and_are_made_up() -> None:
    picture = Picture(16)
    example = picture.load(Image.new("RGB", (200, 100), "red"))
    small = Image.open(io.BytesIO(picture.show(None, example)))
    assert (small.size, small.format, picture.shown_as) == ((16, 16), "JPEG", "image/jpeg")
    content = io.BytesIO()
    Image.new("L", (20, 10)).save(content, "PNG")
    sent = picture.from_wire(content.getvalue(), "photos/a.png")
    assert str(sent) == "a.png"
    assert picture.load(sent).shape == (3, 16, 16)
    with pytest.raises(DataError, match=r"'a.png' claims 20x10 pixels; more than 100"):
        picture.within(100).load(sent)
    generator = torch.Generator().manual_seed(0)
    made = picture.made_up(4, generator)
    assert (made.shape, made.dtype) == ((4, 3, 16, 16), torch.uint8)
    assert made[3].float().mean() > 4 * made[0].float().mean() > 0
    like = Tensors().made_up(2, generator, {"a": torch.zeros(5, 7)})
    assert like["a"].shape == (2, 7)
    with pytest.raises(ConfigError, match="the shape of its pictures is not known"):
        Picture().made_up(2, generator)


def test_numbers_are_taken_as_those_of_pictures_where_the_network_begins_so() -> None:
    sees, sees_not = build_encoder("conv4"), build_encoder(torch.nn.Linear(3, 2))
    last = torch.randint(0, 255, (2, 8, 8, 3)).long()
    for modality in (Tensors(), Picture(), Code(torch.as_tensor)):
        values = modality.values(sees)
        found = values.listed(last)
        assert values.called == "pictures"
        assert values.loaded(torch.stack(found) if isinstance(found, list) else found).dtype == torch.uint8
        assert type(modality.values(sees_not)) is Values
        assert modality.values(sees_not).listed(last) is last
    assert type(Letters().values(sees)) is Values
    assert Picture().values(sees).scale([], torch.rand(2, 3, 8, 8)) == "uint8"
    assert Tensors().values(sees).scale([], torch.rand(2, 3, 8, 8)) == "0..1"
    parts = [lambda: torch.rand(2, 3, 8, 8), lambda: torch.full((2, 3, 8, 8), 200.0)]
    assert Code(round).values(sees).scale_of_call([0, 1], parts, "uint8") == "0..255"
    assert Code(round).values(sees_not).scale_of_call([0, 1], parts, "uint8") == ""
    values, floats = Tensors().values(sees), torch.rand(2, 3, 8, 8)
    assert torch.equal(values.as_taught(floats, "uint8", "0..1", "one"), (floats * 255).round().byte())
    with pytest.warns(DataWarning, match="one is float32 of .* learned from uint8 pictures, which it scales itself"):
        values.as_taught(floats - 2, "uint8", "other", "one")
    loud = torch.full((2, 3, 8, 8), 1.3)
    assert torch.equal(values.as_taught(loud, "0..1", "", "one"), loud / 255)
    assert Letters().values(sees).as_taught(loud, "0..1", "", "one") is loud  # as a spectrogram, whose peaks differ
    black = torch.ones(2, 3, 8, 8, dtype=torch.uint8)
    assert values.dark(black).endswith("255, or give pictures > 0")
    assert not values.dark(2 * black)
    for other in (values, Letters().values(sees_not)):
        tree = {"ids": floats}
        assert other.loaded(tree) is tree
        assert other.as_taught(tree, "uint8", "", "one") is tree
        assert other.scale([], tree) == other.dark(tree) == ""


def test_a_function_in_place_of_a_domain_s_takes_the_options_of_the_data() -> None:
    asked: list[dict[str, Any]] = []

    def half(item: Any, **options: Any) -> torch.Tensor:
        asked.append(options)
        return load_image(item, **options) // 2

    class Data(ImageClassificationData):
        load = staticmethod(half)

    class Smaller(Data):
        default_load_options: ClassVar[dict[str, Any]] = {"image_size": 8}

    class Model(ImageClassifier):
        load = staticmethod(half)

    pictures, expected = [Image.new("L", (9, 9), 200)], {"image_size": 224, "image_mode": "RGB"}
    assert Data(Table.build(pictures, ["a"])).load_options == expected
    (batch, _), *_ = Smaller(Table.build(pictures, ["a"])).train_dataloader()
    assert (batch.shape, batch.max()) == ((1, 3, 8, 8), 100)
    model, pictures = Model(backbone="conv4", training_strategy="nearest_centroid"), [pictures[0].resize((32, 32))]
    assert model.adapt(pictures, ["a"]).get_params()["load"](pictures[0]).shape == (3, 32, 32)
    assert asked[-1] == {}
    model.load_options = {"image_size": 16}
    assert model.adapt(pictures, ["a"]).get_params()["load"](pictures[0]).shape == (3, 16, 16)
