"""Words of a text: the same for every tokenizer, for lists of them and plain text, and none torn."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from quickstudy import Trainer
from quickstudy.functional.characters import whole
from quickstudy.text import Text, TokenClassificationData, TokenClassifier
from quickstudy.text.words import signs_of, word_spans

tokenizers = pytest.importorskip("tokenizers")

LEARNED_FROM = [
    "New York, and Oslo.",
    "Ana-Maria went to New York, and slept.",
    "Ana, Maria and Oslo",
    "caf\u00e9 noir",
] * 9


def trained(model: Any, trainer: Any, pre: Any, normalizer: Any = None) -> str:
    """Return a tokenizer that was learned of a few texts."""
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = pre
    if normalizer is not None:
        made.normalizer = normalizer
    made.train_from_iterator(LEARNED_FROM, trainer)
    learned: str = made.to_str()
    return learned


def byte_level() -> str:
    """As RoBERTa's and GPT-2's: no blank is put before a text."""
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=400, initial_alphabet=sorted(alphabet), show_progress=False)
    return trained(tokenizers.models.BPE(), trainer, tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False))


def metaspace() -> str:
    """As XLM-R's and T5's: a word goes to the next blank, whatever signs are in it."""
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=60, unk_token="?", special_tokens=["?"], show_progress=False
    )
    return trained(tokenizers.models.Unigram(), trainer, tokenizers.pre_tokenizers.Metaspace())


def without_accents() -> str:
    """As BERT's of small letters: marks have no token, and what is unknown has one."""
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=120, special_tokens=["[UNK]"], show_progress=False)
    return trained(
        tokenizers.models.WordPiece(unk_token="[UNK]"),
        trainer,
        tokenizers.pre_tokenizers.BertPreTokenizer(),
        tokenizers.normalizers.BertNormalizer(),
    )


KINDS = {"bytes": str, "byte level": byte_level, "metaspace": metaspace, "without accents": without_accents}


def said(example: Any, text: str) -> list[str]:
    return [text[start:end] for start, end in example["offsets"].tolist()]


@pytest.mark.parametrize("kind", KINDS)
def test_words_do_not_depend_on_the_tokenizer(kind: str) -> None:
    reads, text = Text(elements="words", tokenizer=KINDS[kind]()), "Ana-Maria went to New York, and slept."
    example = reads(text)
    expected = ["Ana", "-", "Maria", "went", "to", "New", "York", ",", "and", "slept", "."]
    assert said(example, text) == expected
    assert example["mask"].all()
    given = reads(["Ana-Maria", "went", "to", "New", "York", ",", "and", "slept", "."])
    joined = "Ana-Maria went to New York , and slept ."
    assert said(given, joined) == joined.split()
    assert given["windows"]["ids"].tolist() == reads(joined)["windows"]["ids"].tolist()  # with the blanks


def test_a_cut_that_a_token_spans_is_none() -> None:
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"New": 1, "York,": 2, "?": 0}, unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    text = "New York,"
    example = Text(elements="words", tokenizer=made.to_str())(text)
    assert said(example, text) == ["New", "York,"]
    assert example["mask"].tolist() == [True, True]


def test_marks_stay_on_their_letters() -> None:
    text = "un cafe\u0301 noir \u0928\u092e\u0938\u094d\u0924\u0947 \u5317\u4eac"
    spans = [text[start:end] for start, end in word_spans(text)]
    assert spans == ["un", "cafe\u0301", "noir", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u5317", "\u4eac"]
    reads = Text(elements="words", tokenizer=without_accents())
    assert said(reads(text[:13]), text) == ["un", "cafe\u0301", "noir"]
    assert whole("\U0001f468\u200d\U0001f469!", 0, 1) == (0, 3)
    assert whole("cafe\u0301", 4, 5) == (3, 5)


def test_addresses_are_words() -> None:
    text = "see https://a.org/b?c=d, and (http://x.y/z)."
    assert "https://a.org/b?c=d" in [text[start:end] for start, end in word_spans(text)]
    assert "http://x.y/z" in [text[start:end] for start, end in word_spans(text)]


def test_signs_are_learned_of_words() -> None:
    words = [
        ["Ana-Maria", "'s", "U.S.", "#day", ",", "3.5", "1,000", "...", "Mr.", "Li", "!", "!"],
        ["So", ",", "Li", "."],
    ]
    text = "Ana-Maria's day, and Jo-Jo's 2.5 or 2,000... Mr. Li!! So, Li"
    parted = [text[start:end] for start, end in word_spans(text, signs_of(words))]
    expected = "Ana-Maria 's day , and Jo-Jo 's 2.5 or 2,000 ... Mr. Li ! ! So , Li"
    assert parted == expected.split()
    assert word_spans(text, signs_of([["Ana", "-", "Maria"]])) == word_spans(text)


def test_plain_text_is_parted_as_the_words_that_were_learned() -> None:
    torch.manual_seed(0)
    people = ["Ana-Maria", "Bruno", "Eva-Lena", "Fritz"]
    words = [["Today", who, "went", "home", verb, "."] for who in people for verb in ("gladly", "late", "again")]
    tags = [["O", "B-person", "O", "O", "O", "O"]] * len(words)
    data = TokenClassificationData.from_lists(train_texts=words, train_targets=tags, batch_size=4)
    model = TokenClassifier(backbone_kwargs={"width": 32, "layers": 1, "heads": 2, "dropout": 0.0}, learning_rate=0.01)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    Trainer(max_epochs=15, **quiet).fit(model, datamodule=data)  # type: ignore[arg-type]
    predictor = model.predictor()
    asked = [["Today", "Ana-Maria", "went", "home", "late", "."], "Today Ana-Maria went home late."]
    as_words, plain = predictor.predict(asked)
    assert [(one["text"], one["start"]) for one in as_words] == [("Ana-Maria", 6)]
    assert [(one["text"], one["start"]) for one in plain] == [("Ana-Maria", 6)]
    few = TokenClassifier(backbone_kwargs={"width": 32, "layers": 1, "heads": 2}).adapt(words, tags)
    assert len(few.predict(asked[1:], "labels")[0]) == 6  # words of the plain text
