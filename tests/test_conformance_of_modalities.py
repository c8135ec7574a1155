"""The conformance suite of modalities: ours pass, and of deliberately broken ones each check finds its own."""

from __future__ import annotations

import itertools
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import words
from demanded import complaints
from quickstudy.batches import Batch
from quickstudy.data.table import Inputs
from quickstudy.errors import ConfigError, DataError
from quickstudy.image import Picture
from quickstudy.modality import MODALITIES
from quickstudy.testing import NonconformingError, check_modality
from words import TEXTS, Hashed, InTheOrderOfASet, KnowsByHeart, Mean, Words


class Sloppy(Mean):
    """Takes padding for words."""

    def forward(self, batch: Batch) -> Tensor:
        return self.embed(batch["ids"]).mean(1)


class Sociable(Mean):
    """Looks at all texts of a batch."""

    def forward(self, batch: Batch) -> Tensor:
        features = super().forward(batch)
        return features - features.mean(0)


class Branching(Mean):
    """Decides by values, which no graph holds."""

    def forward(self, batch: Batch) -> Tensor:
        features = super().forward(batch)
        return features if batch["mask"].sum() > 0 else -features


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for broken, _ in BROKEN:
        monkeypatch.setitem(MODALITIES._entries, f"the {broken.__name__}", broken)
    monkeypatch.setitem(MODALITIES._entries, "words", Words)
    monkeypatch.setattr(words, "KNOWN", TEXTS)
    yield


def test_words_conform() -> None:
    check_modality(Words(), TEXTS, bad=["", 3, float("nan")], backbone=Mean())


def test_pictures_conform(tmp_path: Path) -> None:
    files = []
    for number, kind in enumerate(("png", "jpeg", "bmp")):
        files.append(str(tmp_path / f"{number}.{kind}"))
        Image.new("RGB", (40 + number, 30), (50 * number, 100, 0)).save(files[-1])
    cut = tmp_path / "cut.jpeg"
    cut.write_bytes(Path(files[1]).read_bytes()[:300])
    # conv4, which is quicker than the default
    check_modality(Picture(32), files, bad=[str(cut), b"", b"GIF89a"], backbone="conv4")


@dataclass(frozen=True)
class Opens(Picture):
    """Takes a text that was sent for the name of a file here."""

    def from_wire(self, content: Any, name: str = "") -> Any:
        return content if isinstance(content, str) else super().from_wire(content, name)


OPENED = "a text that arrives over HTTP is never the name of a file that is opened"


def test_a_text_that_was_sent_is_no_name_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODALITIES._entries, "the Opens", Opens)
    Image.new("RGB", (40, 30), (50, 100, 0)).save(file := tmp_path / "a.png")
    with pytest.raises(NonconformingError, match=f"^{OPENED}"):
        check_modality(Opens(32), [str(file)])
    for name in ("image", "audio", "video", "graph", "pointcloud", "tabular"):
        modality = MODALITIES[name]()
        with pytest.raises(DataError, match=r"expected what a file holds|give a dict of its cells"):
            modality.load(modality.from_wire(str(file)))


BROKEN: list[tuple[type[Words], str]] = []
TURNS = itertools.count()


def breaks(message: str) -> Any:
    """Say what the suite complains of."""

    def remember(broken: type[Words]) -> type[Words]:
        BROKEN.append((dataclass(frozen=True)(broken), message))
        return BROKEN[-1][0]

    return remember


@breaks("what it learns follows from the training inputs alone")
class LearnsByChance(Words):
    def fitted(self, inputs: Inputs) -> Self:
        learned = super().fitted(inputs)
        return learned.with_options({"vocabulary": (*learned.vocabulary, str(next(TURNS)))})


@breaks("what it learns follows from the training inputs alone")
class RemembersWhatItSaw(Words):
    seen: ClassVar[set[str]] = set()

    def fitted(self, inputs: Inputs) -> Self:
        self.seen.update(inputs)
        return super().fitted(sorted(self.seen))


@breaks("what it learned stays, whatever comes")
class LearnsFromTests(Words):
    def fitted(self, inputs: Inputs) -> Self:
        return Words.fitted(self.with_options({"vocabulary": ()}), inputs)


@breaks("an input becomes a tensor, or a dict of tensors")
class GivesLists(Words):
    def load(self, item: Any) -> Any:
        return {name: part.tolist() for name, part in super().load(item).items()}


@breaks("an input that is read twice is the same")
class ReadsOtherwiseEachTime(Words):
    def load(self, item: Any) -> Any:
        return {**super().load(item), "turn": torch.tensor(next(TURNS))}


@breaks("it draws from no generator of the process as it reads: ['random']")
class DrawsAsItReads(Words):
    def load(self, item: Any) -> Any:
        random.random()
        return super().load(item)


@breaks("all numbers are finite")
class ReadsNaN(Words):
    def load(self, item: Any) -> Any:
        read = super().load(item)
        return {**read, "mask": read["mask"] / (len(read["mask"]) > 2)}


@breaks("parts have the same names, types and numbers of axes")
class LeavesAPartOut(Words):
    def load(self, item: Any) -> Any:
        read = super().load(item)
        return read if len(read["ids"]) > 2 else {"ids": read["ids"]}


@breaks("parts have the same names, types and numbers of axes")
class ReadsAnotherType(Words):
    def load(self, item: Any) -> Any:
        read = super().load(item)
        return {**read, "ids": read["ids"].int() if len(read["ids"]) == 2 else read["ids"]}


@breaks("tensors have one shape, where parts of a dict may differ")
class GivesTensorsOfAnyLength(Words):
    def load(self, item: Any) -> Any:
        return super().load(item)["ids"]


@breaks("a file holds it, by its registered name and plain options")
class HoldsAFunction(Words):
    code: Any = field(default=len)

    def fitted(self, inputs: Inputs) -> Self:
        return super().fitted(inputs).with_options({"code": max})


@breaks("a file holds it, by its registered name and plain options")
class LosesAnOption(Words):
    @property
    def options(self) -> dict[str, Any]:
        return {}


@breaks("it can be sent to other processes")
class IsNotSent(Words):
    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle it")


@breaks("it can be sent to other processes")
class ForgetsOnTheWay(Words):
    def __reduce__(self) -> Any:
        return type(self), ()


@breaks("other processes read the same")
class ReadsOtherwiseInAWorker(Words):
    def load(self, item: Any) -> Any:
        read = super().load(item)
        elsewhere = torch.utils.data.get_worker_info() is not None
        return {**read, "ids": read["ids"] + elsewhere}


@breaks("a list of items is read item by item")
class TakesTheFirst(Words):
    def listed(self, inputs: Any) -> Any:
        return super().listed(inputs)[:1] if isinstance(inputs, tuple) else super().listed(inputs)


@breaks("one item alone is a list of one")
class TakesATextForItsLetters(Words):
    def listed(self, inputs: Any) -> Any:
        return inputs if isinstance(inputs, dict) else list(inputs)


@breaks("a batch of tensors is fed as it is")
class ReadsABatch(Words):
    def listed(self, inputs: Any) -> Any:
        return [inputs] if isinstance(inputs, (str, dict)) else list(inputs)


@breaks("a bad input is a DataError: ''")
class ReadsNothing(Words):
    def load(self, item: Any) -> Any:
        return super().load(item or "nothing")


@breaks("the message on a bad input names it")
class NamesNothing(Words):
    def load(self, item: Any) -> Any:
        if item == "???":
            raise DataError("a text is empty")
        return super().load(item)


@breaks("what is shown is bytes, at most 64 KB")
class ShowsAllOfIt(Words):
    def show(self, item: Any, example: Batch) -> bytes:
        return str(item).encode() * 100_000


@breaks("what is shown is of the type that it says")
class ShowsNothing(Words):
    def show(self, item: Any, example: Batch) -> bytes:
        return b""


@breaks("what is shown is of the type that it says")
class ShowsNoJson(Words):
    shown_as = "application/json"


@breaks("what arrives over HTTP reads as what was sent")
class ArrivesOtherwise(Words):
    def from_wire(self, content: Any, name: str = "") -> Any:
        return content.upper()


@breaks("axes of any length are among the free ones: axis [1] of 'mask'")
class ForgetsAFreeAxis(Words):
    def free_axes(self) -> dict[str, dict[int, str]]:
        return {"ids": {1: "L"}}


@breaks("what is made up follows from the generator")
class MakesUpByChance(Words):
    def made_up(self, count: int, generator: torch.Generator, like: Batch | None = None) -> Batch:
        return {**super().made_up(count, generator, like), "mask": torch.rand(count, 4)}


@breaks("what is made up has the form of what is read")
class MakesUpOneLess(Words):
    def made_up(self, count: int, generator: torch.Generator, like: Batch | None = None) -> Batch:
        return super().made_up(count - 1, generator, like)


@breaks("the network takes what is made up")
class MakesUpUnknownWords(Words):
    def made_up(self, count: int, generator: torch.Generator, like: Batch | None = None) -> Batch:
        made = super().made_up(count, generator, like)
        return {**made, "ids": made["ids"] + 100}


BROKEN += [  # which another interpreter can import
    (InTheOrderOfASet, "another interpreter learns the same"),
    (Hashed, "another interpreter reads the same"),
    (KnowsByHeart, "another interpreter reads, too"),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN, ids=[broken.__name__ for broken, _ in BROKEN])
def test_a_broken_one_is_found(broken: type[Words], message: str) -> None:
    with pytest.raises(NonconformingError, match=f"^{re.escape(message)}"):
        check_modality(broken(), TEXTS, bad=["", "???"], backbone=Branching(), exports=False)


class OfFourWordsOrMore(Mean):
    """Is traced as if no text had fewer words."""

    def forward(self, batch: Batch) -> Tensor:
        features, words = super().forward(batch), batch["ids"].shape[1]
        return features * torch.sym_max(words, 4) / words if torch.compiler.is_compiling() else features


NETWORKS = [
    (Sociable(), "an embedding does not depend on its neighbours"),
    (Sloppy(), "an embedding does not depend on its neighbours"),
    (Branching(), "the network is exported, and its graph answers alike"),
    (OfFourWordsOrMore(), "a graph .pt2 answers alike at every length"),
]


@pytest.mark.parametrize(("network", "message"), NETWORKS)
def test_a_broken_network_is_found(network: nn.Module, message: str) -> None:
    with pytest.raises(NonconformingError, match=message):
        check_modality(Words(), TEXTS, backbone=network)


def test_what_no_other_process_can_import_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Words, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Words", Words, raising=False)
    with pytest.raises(ConfigError, match=r"no other process can import Words: put it into a file, words\.py"):
        check_modality(Words(), TEXTS)


def test_a_network_that_takes_padding_for_words_is_found() -> None:
    with pytest.raises(NonconformingError, match="an embedding does not depend on the padding"):
        check_modality(Words(), [text for text in TEXTS if len(text.split()) == 2], backbone=Sloppy())


def test_every_demand_has_one_that_breaks_it() -> None:
    tried = [message for _, message in (*BROKEN, *NETWORKS)] + [OPENED]
    found = list(complaints("modality"))
    assert len(found) > 20
    assert [pattern for pattern in found if not any(re.match(pattern, message) for message in tried)] == []
