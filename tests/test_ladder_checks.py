"""What a ladder looks at before it tells a number: repetitions, names, groups, too few, what an encoder has seen."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy.audio.modality import Sound
from quickstudy.data.likeness import joined, near_pairs
from quickstudy.data.origins import Origins
from quickstudy.data.scan import class_folders
from quickstudy.data.table import Table
from quickstudy.errors import DataWarning
from quickstudy.image.modality import IMAGE_EXTENSIONS, Picture
from quickstudy.learning.changes import Kept
from quickstudy.learning.checks import (
    few_asked,
    groups_apart,
    numbers_named,
    origins_of,
    repetitions,
    seen_by,
    together,
    twice_named,
)
from quickstudy.tabular.modality import Row
from quickstudy.text.modality import Text


def picture(seed: int) -> Image.Image:
    """Return blobs of colours, another for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((96, 96), Image.Resampling.BICUBIC)


def test_copies_of_pictures_are_found_whatever_their_size_format_and_brightness(tmp_path: Path) -> None:
    """One under another label is told of, one of the same class stays with it, and no other is taken for one."""
    for number in range(60):
        folder = tmp_path / ("cat" if number % 2 else "dog")
        folder.mkdir(exist_ok=True)
        picture(number).save(folder / f"{number:02}.png")
    picture(1).resize((50, 50)).save(tmp_path / "cat" / "99.jpg", quality=60)
    picture(2).point(lambda level: min(255, int(1.1 * level))).save(tmp_path / "cat" / "98.png")
    table = class_folders(tmp_path, IMAGE_EXTENSIONS)
    findings, first = repetitions({"train": table}, Picture(image_size=64))
    names = table.inputs.names.tolist()  # type: ignore[union-attr]
    copy, relabelled, one, two = (
        names.index(name) for name in ("cat/99.jpg", "cat/98.png", "cat/01.png", "dog/02.png")
    )
    assert [each.check for each in findings] == ["labels", "repeated"]
    assert findings[0].rows == ((relabelled, two),) and findings[1].rows == ((one, copy),)
    assert "98.png' (cat) and '" in findings[0].told and "02.png' (dog)" in findings[0].told
    assert sorted(np.flatnonzero(first != np.arange(62)).tolist()) == sorted([copy, two])
    found = together(first)
    assert found is not None and len(found.names) == 60 and found.codes[copy] == found.codes[one]


@pytest.mark.parametrize("domain", ["text", "tabular", "audio", "pixels"])
def test_each_domain_says_what_is_nearly_the_same(domain: str) -> None:
    """Of splits that share it, both are named; what differs in more than its writing is left alone."""
    noise = np.random.default_rng(0).normal(0, 0.1, (3, 8000))
    pixels = torch.from_numpy(np.stack([np.asarray(picture(each)).transpose(2, 0, 1) for each in range(3)]))
    inputs, again, modality = {
        "text": (["How do I top-up?", "I owe 5", "I owe -5"], "  how do i TOP up", Text()),
        "tabular": ([{"a": 1, "b": "x"}, {"a": 2, "b": "x"}, {"a": 1, "b": "y"}], {"b": "x", "a": "1.0"}, Row()),
        "audio": (list(noise), np.concatenate([np.zeros(80), noise[0], np.zeros(9)]), Sound(seconds=1.0)),
        "pixels": (pixels, None, Picture()),
    }[domain]
    other = pixels[:1] if domain == "pixels" else [again]
    tables = {"train": Table.build(inputs, ["a", "b", "b"]), "test": Table.build(other, ["a"])}
    findings, first = repetitions(tables, modality)  # type: ignore[arg-type]
    assert [each.check for each in findings] == ["splits"] and findings[0].rows == ((0, 3),)
    assert "of the train and the test data" in findings[0].told
    assert first.tolist() == [0, 1, 2, 0]


def test_what_cannot_be_read_is_like_nothing() -> None:
    """It is no copy of another that cannot be read."""
    broken = [io.BytesIO(b"no picture"), io.BytesIO(b"no picture")]
    findings, first = repetitions({"train": Table.build(broken, ["a", "b"])}, Picture())
    assert not findings and first.tolist() == [0, 1] and together(first) is None


def test_copies_among_many_are_found_without_a_comparison_of_all() -> None:
    """Each finds its own; and where all are the same, each is compared with a few, and all are joined."""
    generator = torch.Generator().manual_seed(0)
    many = torch.randint(0, 256, (2_000, 3, 16, 16), generator=generator, dtype=torch.uint8)
    pairs = near_pairs(list(torch.cat([many, many.flip(0)])))
    assert len(pairs) == 2_000 and (pairs.sum(1) == 3_999).all()
    same = near_pairs([many[0]] * 2_000)
    assert (joined(same, 2_000) == 0).all() and len(same) <= 16 * 2_000


def test_classes_of_several_names_are_told_of() -> None:
    """Case, blanks, dashes, accents in two forms and the plural are suspicious; signs and numbers are not."""
    names = ["Cat", "cat ", "cats", "polar_bear", "PolarBears", "cafe\u0301", "caf\u00e9", "buses", "bus"]
    (found,) = twice_named(names)
    assert found.told.startswith("4 classes") and "'Cat' and 'cat ' and 'cats'" in found.told
    assert "'polar_bear' and 'PolarBears'" in found.told and "'buses' and 'bus'" in found.told
    others = ["C", "C++", "C#", "-1", "1", "v1.0", "v10", "glass", "glasses case", "iris", "chess", "news", "new york"]
    assert twice_named(others) == []


def test_numbers_that_are_taken_for_classes_are_told_of() -> None:
    """Whole ones may be grades, or digits; a word among them makes them names."""
    (found,) = numbers_named(["12.0", "16.5", "18.0"])
    assert found.told.startswith("all 3 classes are numbers, such as '16.5'. Is it something measured?")
    assert numbers_named([f"{number}.0" for number in range(11)]) and not numbers_named(list(map(str, range(99))))
    assert not numbers_named(["3", "4.0", "-1"]) and not numbers_named(["1.5", "none"])


def test_what_is_found_is_a_sentence_without_its_end() -> None:
    """Who tells it puts the one full stop there."""
    rows = [{"a": 1, "b": "x"}, {"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    for inputs, modality in ((rows, Row()), (["Where\nis it", "where is it", "no"], Text())):
        (found,), _ = repetitions({"train": Table.build(inputs, ["a", "a", "b"])}, modality)  # type: ignore[arg-type]
        assert found.check == "repeated" and not found.told.endswith(".") and "\n" not in found.told


def test_too_few_are_told_with_the_width_and_what_it_takes() -> None:
    """The number that is named is the least that is enough."""
    (found,) = few_asked(40, "at 5 examples per class")
    assert found.told.startswith("40 examples are asked at 5 examples per class: near 80% the interval")
    need = int(found.told.rsplit(" ", 1)[1])
    assert few_asked(need) == [] and few_asked(need - 1) != [] and 200 < need < 300
    assert "of any width" in few_asked(0)[0].told


def test_groups_in_two_splits_and_classes_of_one_group_are_told_of() -> None:
    """The names of both stand there."""
    train = Table.build(["a"] * 4, ["cat", "cat", "dog", "dog"], origins=["v1", "v2", "v3", "v3"])
    test = Table.build(["a"] * 2, ["cat", "dog"], origins=["v1", "v4"])
    apart = [each.told for each in groups_apart({"train": train, "test": test})]
    assert apart[0].startswith("1 groups are both in the train and the test data: 'v1'")
    assert apart[1].startswith("1 of 2 classes of the train data have all examples of one group: 'dog' of 'v3'")


def test_near_duplicates_and_groups_are_kept_together() -> None:
    """What is nearly the same joins the groups that it is of, and nobody else's."""
    origins = Origins.of(["p1", "p1", "p2", "p3", "p4"])
    found = together(np.array([0, 1, 2, 1, 4]), origins)
    assert found is not None
    assert found.codes.tolist() == [0, 0, 1, 0, 2] and found.names == ("p1", "p2", "p4")
    assert together(np.arange(5), origins) is origins


def test_who_learns_examples_is_warned_and_copies_have_one_number() -> None:
    """The number is that of the text, whenever it comes; of groups all of one have it."""
    texts = ["Card lost", "card  lost!", "fee", "a rate", "the rate"]
    first = origins_of(Table.build(texts, ["card", "card", "fee", "rate", "rate"]), Text())[0]
    assert first[0] == first[1] and len(set(first)) == 4 and 0 not in first
    assert origins_of(Table.build(["CARD LOST"]), Text())[0] == first[:1]
    grouped, sketches, _ = origins_of(
        Table.build(texts, ["fee", "fee", "fee", "rate", "rate"], origins=[1, 2, 3, 3, 4]), Text()
    )
    assert grouped[0] == grouped[1] != grouped[2] == grouped[3] != grouped[4], "the copies join two groups"
    known = Kept(torch.zeros(5, 1), (b"",) * 5, (), grouped, (), sketches)
    before = {"none": Kept(torch.zeros(1, 1), (b"",)), "rate": known}
    later, _, again = origins_of(Table.build(["new", "A RATE!"]), Text(), before)
    assert again == (None, "rate")
    assert later[0] not in grouped and later[1] == grouped[3], "what is like one of a group is of the group"
    with pytest.warns(DataWarning) as told:
        origins_of(Table.build([*texts, "fee"], ["card lost", "Card_lost", "fee", "rate", "rate", "rate"]), Text())
    told_of = [str(one.message) for one in told]
    assert len(told_of) == 2 and "of two classes are nearly the same" in told_of[0] and "'Card_lost'" in told_of[1]
    with pytest.warns(DataWarning, match="numbers, such as '0.25'"):
        origins_of(Table.build(["a", "b"], ["0.25", "1"]), Text())
    with pytest.warns(DataWarning, match="3 different texts and 12 classes, .*: texts and labels seem to have changed"):
        origins_of(Table.build(["card", "fee", "rate"] * 4, [f"my text {row}" for row in range(12)]), Text())


def test_an_encoder_tells_which_classes_it_has_seen() -> None:
    """By names, by ImageNet's folders, by a model's own labels; one that starts from nothing has seen none."""
    pytest.importorskip("timm")
    (found,) = seen_by("efficientnet_lite0", ["fox", "n01532829", "gadget"])
    assert "trained on imagenet-1k, which has 2 of these 3 classes by name: 'fox' (" in found.told
    assert "'n01532829' (house finch)" in found.told and found.check == "seen"
    assert seen_by("conv4", ["fox"]) == [] and seen_by("efficientnet_lite0", ["gadget"]) == []
    listener = SimpleNamespace(config=SimpleNamespace(id2label={0: "Dog", 1: "Rain", 2: "Car"}))
    assert "'rain'" in seen_by("a/listener", ["rain", "sneeze"], listener)[0].told
