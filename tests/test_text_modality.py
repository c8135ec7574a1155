"""What a text is: read from strings and files, by a tokenizer that is learned or given; bad ones are told by row."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch

from quickstudy.batches import stack
from quickstudy.data.frames import file_frame
from quickstudy.errors import ConfigError, DataError, DataWarning
from quickstudy.image.modality import Picture
from quickstudy.learning.adapting import acquainted_with_names
from quickstudy.nets import Encoder, build_encoder
from quickstudy.testing import check_modality
from quickstudy.text import SmallTransformer, Text, TextEmbeddingData
from quickstudy.text.modality import TextValues

TEXTS = ["Where is my card?", "where is my money", "the card has not come", "déjà vu 你好 🙂", "PIN", "a b\nc"]
BAD = ["", "  ", None, float("nan"), 5, b"\xff\xfe\x00", b"", b"nul\0", Path("no such file.txt")]


def tiny(**options: Any) -> SmallTransformer:
    torch.manual_seed(0)
    return SmallTransformer(**{"vocabulary_size": 300, "width": 16, "layers": 1, "heads": 2, **options})


def test_it_conforms(tmp_path: Path) -> None:
    check_modality(Text(vocabulary_size=280), TEXTS, bad=BAD, backbone=tiny())
    files = [tmp_path / f"{number}.txt" for number in range(len(TEXTS))]
    for file, text in zip(files, TEXTS, strict=True):
        file.write_text(text, encoding="utf-8")
    check_modality(Text(vocabulary_size=280), files, bad=BAD, backbone=tiny())


def test_a_tokenizer_is_learned_that_is_the_same_everywhere_and_knows_all_characters() -> None:
    text = Text().fitted(TEXTS)
    code = (
        "from quickstudy.text import Text; import hashlib, sys\n"
        f"print(hashlib.sha256(Text().fitted({TEXTS!r}).tokenizer.encode()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    one, other = text.load("card"), text.load("  a CARD"[3:])
    assert one["ids"].tolist() == other["ids"].tolist(), "small and capital letters are one"
    assert len(one["ids"]) < 4 < len(text.load("żółw")["ids"]), "what came often is one token, and the rest are bytes"
    tokens = text.load("déjà vu 你好 🙂")
    assert text.show(tokens, tokens).decode().strip() == "déjà vu 你好 🙂"
    assert int(tokens["ids"].min()) > 0, "0 fills up what is shorter"
    assert text.options.keys() == {"tokenizer"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "text 1: '' is blank"),
        (" \n", r"text 1: ' \\n' is blank: leave it out"),
        (None, "text 1: expected a text, a string, and this is None"),
        (3.5, "text 1: expected a text, a string, and this is 3.5"),
        ("a\0b", r"text 1: 'a\\x00b' holds a NUL byte, as no text does: type text.replace"),
        ("half \udc00", r"text 1: 'half \\udc00' holds half a character \(a lone surrogate\) at 5: type text.encode"),
        (
            "x" * 10_000_000,
            r"text 1: 'xxx.*xxx' has 10,000,000 characters; more than 1,000,000 are refused: give a part",
        ),
    ],
    ids=["empty", "blank", "none", "number", "nul", "surrogate", "10 MB"],
)
def test_a_bad_text_is_named_by_its_row(text: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        Text().listed(["fine", text])
    if isinstance(text, str) and text.strip():
        with pytest.raises(DataError, match=f"^{message}"):
            Text().column(["fine", text])
        assert Text().column(["fine", text], exist=False) == ["fine", text]


def test_the_remedy_for_half_a_character_works() -> None:
    mended = "half \udc00".encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert Text().load(mended)["mask"].all()


def test_what_is_cut_and_what_is_unknown_is_counted_and_told() -> None:
    long = "card " * 200
    with pytest.warns(
        DataWarning, match="^1 of 7 texts are longer than 128 tokens, and their ends are cut: set max_length="
    ):
        text = Text().fitted([*TEXTS, long])
    assert len(text.load(long)["ids"]) == 128
    with pytest.warns(DataWarning, match="^1 of 2 texts are longer than 8 tokens"):
        text.with_options({"max_length": 8}).listed(["PIN", long])
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "card": 1}, "[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    with pytest.warns(DataWarning, match=r"^2 of the 3 tokens of 2 texts are unknown to the tokenizer: \[UNK\]"):
        Text(tokenizer=words.to_str()).listed(["card", "the cat"])


def test_options_out_of_range_are_told() -> None:
    with pytest.raises(
        ConfigError, match=r"tokenizer='bert-base-uncased' is not the content of a tokenizer.json: type"
    ):
        Text(tokenizer="bert-base-uncased")
    with pytest.raises(ConfigError, match=r"is no tokenizer.json"):
        Text(tokenizer='{"a": 1}').load("x")
    with pytest.raises(ConfigError, match="max_length=2: it must be a whole number of at least 4"):
        Text(max_length=2)
    with pytest.raises(ConfigError, match="vocabulary_size=100: it must be a whole number of at least 257"):
        Text(vocabulary_size=100)


def test_a_network_without_room_for_the_tokens_is_told_before_it_is_fed() -> None:
    text = Text(vocabulary_size=1000).fitted([f"number {number}" for number in range(100)] * 2)
    assert text.count > 270
    with pytest.raises(ConfigError, match=rf"texts have {text.count} tokens and the backbone room for 270: set vocab"):
        text.values(Encoder(tiny(vocabulary_size=270)))
    assert isinstance(text.values(Encoder(tiny(vocabulary_size=1000))), TextValues)


def test_a_text_is_shown_above_its_neighbours() -> None:
    rules = Text().values(Encoder(tiny()))
    assert rules.beside([(b"where is it", "asked", ""), (b"it is here", "a", "0.1")]) == (
        "where is it  (asked, )\nit is here  (a, 0.1)"
    )


@pytest.mark.dear
def test_a_long_text_is_read_in_windows() -> None:
    check_modality(Text(vocabulary_size=280, max_length=6, windows=9), TEXTS, bad=BAD, backbone=tiny())


def test_the_vector_of_a_long_text_is_the_mean_of_its_windows() -> None:
    text = Text(max_length=8).fitted(["a b c"])
    net = tiny().double().eval()
    windowed = text.with_options({"windows": 3})
    long, short = "abcdefghijkl", "abc"
    ids = text.with_options({"max_length": 99}).load(long)["ids"]
    assert len(ids) == 13, "a space, and a letter each"
    read = windowed.load(long)
    assert read["ids"][0].tolist() == ids[:8].tolist() and read["ids"][1].tolist() == [*ids[6:], 0]
    parts = [{"ids": part[None], "mask": torch.ones(1, len(part), dtype=torch.bool)} for part in (ids[:8], ids[6:])]
    both = stack([windowed.load(short), read])
    with torch.no_grad():
        wanted = torch.stack([net(part) for part in parts]).mean(0)
        assert torch.allclose(net(both)[1:], wanted, rtol=0, atol=1e-12)
        assert torch.equal(net(stack([windowed.load(short)])), net(stack([text.load(short)])))
        assert torch.allclose(net(both)[0], net(stack([text.load(short)]))[0], rtol=0, atol=1e-12)
    assert windowed.show(read, read).decode().strip() == "abcdefg"
    assert windowed.recipe()["overlap"] == 2
    with pytest.warns(DataWarning, match="1 of 2 texts are longer than 8 tokens in each of 2 windows, and their ends"):
        text.with_options({"windows": 2}).listed([long, long * 3])


def test_texts_are_found_in_frames_and_rows_and_never_are_names_of_columns() -> None:
    frame = pandas.DataFrame({"id": [1, 2], "text": ["a b", "c d"]})
    rows = frame.to_dict("records")
    for given in (frame, frame[["text"]], frame["text"], rows, {"text": ["a b", "c d"]}, (row for row in rows)):
        assert Text().listed(given) == ["a b", "c d"]
    other = frame.rename(columns={"text": "words"})
    with pytest.raises(DataError, match=r"table with the columns 'id', 'words': say which .*, frame\['id'\]"):
        Text().listed(other)
    with pytest.raises(DataError, match=r"text 0 is a dict of 'id', 'words': say .*, \[row\['id'\] for row in rows\]"):
        Text().listed(other.to_dict("records"))
    with pytest.raises(DataError, match="the texts are a table with the columns"):
        TextEmbeddingData.from_lists(train_texts=other)
    assert len(TextEmbeddingData.from_lists(train_texts=frame).table("train") or ()) == 2
    with pytest.raises(DataError, match="the images are a table with the columns"):
        Picture().listed(other)


def test_vowel_signs_are_part_of_words() -> None:
    sketch = Text().sketch
    assert len({sketch(text) for text in ("กิน", "กัน", "กน", "कि", "की", "क")}) == 6
    assert sketch("Cafe\u0301!") == sketch("caf\u00e9") != sketch("cafe")
    assert sketch("great \u2764\ufe0f") == sketch("Great!")


def test_a_name_without_a_word_is_told() -> None:
    for blank in ("", "  ", "_"):
        with pytest.raises(ConfigError, match=r"classes\[1\] is .*no word"):
            acquainted_with_names(build_encoder("small_transformer"), Text(), None, ["fee", blank])


def test_a_table_that_is_separated_by_semicolons_says_so(tmp_path: Path) -> None:
    path = tmp_path / "few.csv"
    path.write_text("text;label\nwell, no;fee\nyes, well, no;rate\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"separated by ';' and not by ',': save it with commas, or"):
        file_frame(path, None)
    path.write_text("text,label\nwell, no,fee\n", encoding="utf-8")
    with pytest.raises(DataError, match="Cells with a comma in them need quotation marks"):
        file_frame(path, None)
