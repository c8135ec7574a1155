"""Entities in texts: places in characters and words, tags, figures, long texts, files, and what is none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from nervaluate.evaluator import Evaluator
from sklearn.linear_model import LogisticRegression

from quickstudy import Trainer
from quickstudy.batches import each, stack
from quickstudy.errors import ConfigError, DataError
from quickstudy.functional.characters import text_of
from quickstudy.kinds.base import kind_of
from quickstudy.kinds.entities import OUTSIDE, Entities, Span, entities_of, in_iob2, spans_of
from quickstudy.kinds.parts import Parts
from quickstudy.nets import Encoder
from quickstudy.part_predictor import PartPredictor
from quickstudy.testing import check_kind
from quickstudy.text import SmallTransformer, Text, TokenClassificationData, TokenClassifier
from quickstudy.text.conll import conll_texts
from quickstudy.trained import TrainedModel

PEOPLE, PLACES = ["Anna", "Bruno", "Clara", "Dario", "Elena", "Fritz"], ["Rome", "New York", "Oslo", "Lima"]
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def sentences(count: int = 48, ending: str = "slept") -> tuple[list[str], list[list[Span]]]:
    """Return sentences of people in places, with where these are."""
    texts, spans = [], []
    for number in range(count):
        person, place = PEOPLE[number % 6], PLACES[number // 6 % 4]
        text = f"Today {person} went to {place}, and {ending}."
        texts.append(text)
        start, other = text.index(person), text.index(place)
        spans.append([Span(start, start + len(person), "person"), Span(other, other + len(place), "place")])
    return texts, spans


def data(**options: Any) -> TokenClassificationData:
    texts, spans = sentences()
    others, theirs = sentences(12, "ate")
    return TokenClassificationData.from_lists(
        train_texts=texts, train_targets=spans, test_texts=others, test_targets=theirs, batch_size=8, **options
    )


def trained(data: TokenClassificationData, epochs: int = 20, **options: Any) -> TokenClassifier:
    torch.manual_seed(0)
    backbone = {"width": 32, "layers": 1, "heads": 2, "dropout": 0.0}
    model = TokenClassifier(backbone_kwargs=backbone, learning_rate=0.01, **options)
    Trainer(max_epochs=epochs, **QUIET).fit(model, datamodule=data)
    return model


@pytest.fixture(scope="module")
def model() -> TokenClassifier:
    return trained(data())


def test_names_are_found_and_quoted(model: TokenClassifier) -> None:
    (found,) = model.predictor().predict(["Today Clara went to New York, and slept."])
    assert [(one["label"], one["text"], one["start"], one["end"]) for one in found] == [
        ("person", "Clara", 6, 11),
        ("place", "New York", 20, 28),
    ]
    assert all(0.5 < one["score"] <= 1 for one in found)


def test_a_list_of_words_is_a_text_too(model: TokenClassifier) -> None:
    words = ["Today", "Clara", "went", "to", "New", "York", ",", "and", "slept", "."]
    (found,) = model.predictor().predict([words])
    assert [(one["text"], one["start"]) for one in found] == [("Clara", 6), ("New York", 20)]


def test_a_test_tells_of_each_class(model: TokenClassifier) -> None:
    (told,) = Trainer(**QUIET).test(model, datamodule=data(), verbose=False)
    precision, recall = told["test_precision"], told["test_recall"]
    assert told["test_f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert min(told["test_f1"], told["test_f1_person"], told["test_f1_place"]) > 0.8
    assert told["test_examples"] == 12


def test_the_model_is_saved_with_its_tokenizer(model: TokenClassifier, tmp_path: Path) -> None:
    texts = ["Today Elena went to Oslo, and slept."]
    before = model.predictor().predict(texts)
    model.predictor().save(tmp_path / "model")
    assert TrainedModel.load(tmp_path / "model").predict(texts) == before


def test_long_texts_are_read_whole(model: TokenClassifier) -> None:
    filler = "and so on, and on again, as if nobody slept. " * 30
    text = f"{filler}Today Clara went to Oslo, and slept. {filler}"
    assert len(text) > 2500
    reads = Text(elements="words", tokenizer=model.predictor().modality.tokenizer, max_length=24)
    example = reads(text)
    assert len(example["windows"]["ids"]) > 20
    assert example["mask"].all()
    asked = example["places"][example["windows"]["asked"]]
    assert set(asked.tolist()) == set(range(len(example["mask"])))  # each word stands in one window or two
    assert text_of(example["characters"]) == text
    words = [text[start:end] for start, end in example["offsets"].tolist()]
    assert words.count("Clara") == 1
    assert all(word == word.strip() for word in words)


def test_windows_and_neighbours_do_not_change_an_answer() -> None:
    torch.manual_seed(0)
    encoder = Encoder(SmallTransformer(width=16, layers=1, heads=2).eval()).double()
    reads = Text(elements="words")
    short, long = reads("Anna went home."), reads("a few more words of nothing " * 20)
    alone, _ = encoder.elements(stack([short]))
    together, mask = encoder.elements(stack([short, long]))
    assert torch.allclose(alone[0], together[0][mask[0]], atol=1e-12)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["I-a", "I-a", "B-a", "O", "I-b"], ["B-a", "I-a", "B-a", "O", "B-b"]),
        (["B-a", "E-a", "S-a", "U-b", "B-b", "L-b"], ["B-a", "I-a", "B-a", "B-b", "B-b", "I-b"]),
        (["a", "a", "O", "b"], ["B-a", "I-a", "O", "B-b"]),
        (["B-creative-work", "I-creative-work"], ["B-creative-work", "I-creative-work"]),
    ],
)
def test_every_scheme_of_tags_is_read(tags: list[str], expected: list[str]) -> None:
    assert in_iob2(tags) == expected


def test_figures_are_those_of_nervaluate() -> None:
    kind = Entities(class_names=["a", "b", "c"]).named_by(None)
    generator = torch.Generator().manual_seed(3)
    codes = torch.randint(0, 7, (40, 11), generator=generator)
    logits = torch.nn.functional.one_hot(codes, 7).double()
    labels = torch.where(torch.rand(40, 11, generator=generator) < 0.6, codes, torch.randint(0, 7, (40, 11)))
    there = torch.arange(11) < torch.randint(1, 12, (40, 1), generator=generator)
    figures = kind.figures({"logits": logits, "mask": there}, {"labels": labels, "mask": there})

    def tagged(codes: torch.Tensor) -> list[list[str]]:
        return [
            in_iob2([kind.classes[one] for one in row[own].tolist()]) for row, own in zip(codes, there, strict=True)
        ]

    oracle = Evaluator(tagged(labels), tagged(codes), tags=["a", "b", "c"], loader="list").evaluate()
    measure = kind.measure(True)
    measure.update(figures)
    told = measure.estimates()
    strict = oracle["overall"]["strict"]
    assert (told["f1"].mean, told["precision"].mean, told["recall"].mean) == pytest.approx(
        (strict.f1, strict.precision, strict.recall)
    )
    for name in "abc":
        assert told[f"f1_{name}"].mean == pytest.approx(oracle["entities"][name]["strict"].f1)
    assert float(kind.settled(figures).mean()) == pytest.approx(strict.f1)


def test_nothing_found_and_nothing_there_counts_nothing() -> None:
    kind = Entities(class_names=["a"]).named_by(None)
    measure = kind.measure(True)
    measure.update(torch.zeros(3, 3))
    assert measure.estimates()["f1"].mean == 0


def test_the_kind_conforms() -> None:
    torch.manual_seed(0)
    texts, spans = sentences(24)
    reads = Text(elements="words")
    kind = Entities(class_names=["person", "place"]).named_by(None)
    examples = [reads(text) for text in texts]
    annotations = kind.encode(spans).coded(kind.fitting(data().table("train")).annotations.code)  # type: ignore[union-attr]
    targets = stack([annotations.target(row, example) for row, example in enumerate(examples)])
    encoder = Encoder(SmallTransformer(width=16, layers=1, heads=2, dropout=0.0))
    check_kind(kind, encoder, stack(examples), targets)


def test_the_kind_is_told_in_plain_values() -> None:
    kind = Entities(class_names=["person"], ignore="place").named_by(None)
    assert kind_of(json.loads(json.dumps(kind.described()))) == kind


def test_ignored_classes_are_of_none() -> None:
    texts, spans = sentences(4)
    kind = Entities(ignore=["place"])
    table = TokenClassificationData.from_lists(train_texts=texts, train_targets=spans).table("train")
    met = kind.named_by(table)
    assert met.entities == ("person",)
    assert table is not None
    target: Any = met.fitting(table).annotations.target(0, Text(elements="words")(texts[0]))  # type: ignore[union-attr]
    assert target["labels"].tolist().count(0) == len(target["labels"]) - 1


def test_names_that_look_like_tags_are_names() -> None:
    torch.manual_seed(0)
    text = "Today a mail came to Oslo, and slept."
    names = ["E-mail", "B-cell"]
    spans = [(8, 12, names[0]), (21, 25, names[1])]
    predictor = TokenClassifier(backbone_kwargs={"width": 32, "layers": 1, "heads": 2}).adapt([text], [spans])
    assert predictor.classes_.tolist() == [OUTSIDE, "B-cell", "E-mail"]
    kind = predictor.kind
    assert kind.entities == ("B-cell", "E-mail")
    logits = 9 * torch.eye(3)[None, [0, 2, 2, 0, 1]]
    example = Text(elements="words")("a mail comes to Oslo")
    outputs = {"logits": logits, "mask": torch.ones(1, 5, dtype=torch.bool)}
    outputs |= {name: example[name][None] for name in ("offsets", "characters")}
    assert [(one["label"], one["text"]) for one in kind.answers(outputs, "entities")[0]] == [
        ("E-mail", "mail comes"),
        ("B-cell", "Oslo"),
    ]
    with pytest.raises(ConfigError, match="'O' is the tag of words of no entity"):
        Entities(class_names=["O"]).named_by(None)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("# # B-a", ["x", "#"]),
        ("#\tO", ["x", "#"]),
        ("# newdoc", ["x"]),
        ("#text = Anna", ["x"]),
        ("#\thttp://a [2009-10-17]", ["x"]),
        ("#metoo\tB-a", ["x", "#metoo"]),
    ],
)
def test_comments_are_told_from_words(tmp_path: Path, line: str, words: list[str]) -> None:
    (tmp_path / "a.conll").write_text(f"x O\n{line}\n")
    assert conll_texts(tmp_path / "a.conll")[0] == [words]


def test_conll_files_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.conll.gz"
    lines = "-DOCSTART- O\n\n# id = 3\nAnna NNP B-person\nsleeps VB O\n\nRome\tB-place\n\t\n!\tO\n"
    file.write_bytes(gzip.compress(lines.encode()))
    assert conll_texts(file) == ([["Anna", "sleeps"], ["Rome"], ["!"]], [["B-person", "O"], ["B-place"], ["O"]])
    assert conll_texts(file, tagged=False)[1] is None
    read = TokenClassificationData.from_conll(train_file=file)
    assert len(read.table("train") or ()) == 3
    by_folder = TokenClassificationData.from_folders(train_folder=tmp_path)
    assert len(by_folder.table("train") or ()) == 3


def test_tables_hold_entities_as_json(tmp_path: Path) -> None:
    texts, spans = sentences(6)
    rows = [
        {"text": text, "entities": [span._asdict() for span in own]} for text, own in zip(texts, spans, strict=True)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    read = TokenClassificationData.from_json("text", "entities", train_file=tmp_path / "a.jsonl")
    table = read.table("train")
    assert table is not None
    assert Entities().named_by(table).entities == ("person", "place")
    csv = "text,entities\n" + "\n".join(
        f'"{text}","{json.dumps(own)}"'.replace('"person"', '""person""').replace('"place"', '""place""')
        for text, own in zip(texts, spans, strict=True)
    )
    (tmp_path / "a.csv").write_text(csv)
    table = TokenClassificationData.from_csv("text", "entities", train_file=tmp_path / "a.csv").table("train")
    assert Entities().named_by(table).entities == ("person", "place")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ([(0, 99, "person")], r"entity 0 ends at 99, and the text has 15 characters"),
        ([(3, 3, "person")], r"entity 0 goes from 3 to 3"),
        ([("a", 3, "person")], r"its start and end are whole numbers"),
        ([(0, 4)], r"give it as \(start, end, label\)"),
        (7, r"entities are a list"),
        ("[[0, 4", r"no JSON of entities"),
        (["O", "B-person"], r"2 tags, and the text has 4 words"),
    ],
)
def test_what_is_no_entity_is_told(item: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        spans_of(
            item,
            Text(elements="words")("Anna went homes"[:15])
            if item != ["O", "B-person"]
            else Text(elements="words")("Anna went home ."),
        )


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(0, 4, "person"), (2, 9, "place")], "entity 1 .* shares a word with another"),
        ([(4, 5, "person")], "has no word of the text"),
        ([(0, 4, "river")], "the entity 'river' is of none of the classes 'person', 'place'"),
    ],
)
def test_entities_that_cannot_be_tagged_are_told(spans: list[Any], message: str) -> None:
    table = TokenClassificationData.from_lists(train_texts=["Anna went"], train_targets=[spans]).table("train")
    assert table is not None
    kind = Entities(class_names=["person", "place"]).named_by(None)
    annotations = kind.fitting(table).annotations
    assert annotations is not None
    with pytest.raises(DataError, match=message):
        annotations.target(0, Text(elements="words")("Anna went"))


def test_a_line_without_a_tag_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("Anna B-person\nsleeps\n")
    with pytest.raises(DataError, match="line 2: 'sleeps' has no tag"):
        conll_texts(tmp_path / "a.conll")


def test_classes_must_be_known() -> None:
    with pytest.raises(ConfigError, match="which entities there are is not known"):
        Entities().meet(None, "fit")
    texts, _ = sentences(3)
    with pytest.raises(ConfigError, match="there is no entity to learn"):
        Entities().named_by(
            TokenClassificationData.from_lists(train_texts=texts, train_targets=[[]] * 3).table("train")
        )


def test_balanced_weights_are_of_tags() -> None:
    found = trained(data(), 1, class_weights="balanced")
    weights = dict(zip(found.kind.classes, found.kind.weights, strict=True))
    assert weights[OUTSIDE] < weights["B-person"]
    assert len(weights) == 5


def test_entities_of_tags_begin_anew() -> None:
    assert entities_of(["I-a", "I-a", "I-b", "O", "B-b", "B-b"]) == [
        Span(0, 2, "a"),
        Span(2, 3, "b"),
        Span(4, 5, "b"),
        Span(5, 6, "b"),
    ]


def test_numbers_of_tags_go_by_the_names_of_the_data() -> None:
    encoded = Entities.encode([[0, 1, 2]], ["O", "B-person", "I-person"])
    assert encoded.target(0)["tags"] == ["O", "B-person", "I-person"]
    with pytest.raises(DataError, match="tags are numbers from 0 to 2"):
        Entities.encode([[0, 5]], ["O", "B-person", "I-person"]).target(0)


def test_all_that_is_read_can_be_stacked() -> None:
    reads = Text(elements="words")
    batch = stack([reads("Anna"), reads(["Anna", "went", "home"])])
    each(lambda leaf: leaf, batch)
    assert batch["mask"].tolist() == [[True, False, False], [True, True, True]]


# ---- from a few texts


def few(**options: Any) -> Any:
    texts, spans = sentences(24)
    return TokenClassifier(backbone_kwargs={"width": 32, "layers": 1, "heads": 2}, **options).adapt(texts, spans)


def test_entities_are_learned_from_a_few_texts() -> None:
    torch.manual_seed(0)
    predictor = few()
    assert predictor.classes_.tolist() == [OUTSIDE, "person", "place"]
    assert predictor.counts_ == {OUTSIDE: 24, "person": 24, "place": 24}
    texts, spans = sentences(12)
    assert predictor.score(texts, spans) > 0.8
    (found,) = predictor.predict(["Today Clara went to New York, and slept."])
    assert {"label": "place", "text": "New York", "start": 20, "end": 28}.items() <= found[-1].items()


def test_words_are_learned_as_scikit_learn_does() -> None:
    torch.manual_seed(0)
    model = TokenClassifier(backbone_kwargs={"width": 32, "layers": 1, "heads": 2})
    texts, spans = sentences(24)
    predictor = model.adapt(texts, spans, strategy="linear_probe", strategy_kwargs={"regularization": 1.0})
    read = [predictor.modality(text) for text in texts]
    with torch.inference_mode():
        rows = torch.cat([predictor.kind.parts(model.encoder.eval(), stack([one])).features for one in read])
    kind = predictor.kind
    annotations = kind.fitting(
        TokenClassificationData.from_lists(train_texts=texts, train_targets=spans).table("train")
    )
    codes = torch.cat([annotations.annotations.target(row, one)["labels"] for row, one in enumerate(read)])
    rows = torch.nn.functional.normalize(rows.double(), dim=1)
    oracle = LogisticRegression(C=1.0, max_iter=2000, tol=1e-8).fit(rows, codes)
    told = torch.cat([torch.as_tensor(one) for one in predictor.predict(texts, "probabilities")]).argmax(-1)
    assert (torch.as_tensor(oracle.predict(rows)) == told).double().mean() > 0.995


def test_a_class_is_added_from_one_text() -> None:
    torch.manual_seed(0)
    predictor = few()
    predictor.add_class("food", ["Today Anna ate pizza and bread."], [[(15, 20, "food"), (25, 30, "food")]])
    assert predictor.classes_.tolist() == [OUTSIDE, "person", "place", "food"]
    assert predictor.counts_["food"] == 1
    (found,) = predictor.predict(["Today Anna ate pizza and bread."])
    assert "food" in {one["label"] for one in found}
    with pytest.raises(DataError, match="no target shows any class: mark"):
        predictor.add_class("drink", ["Anna slept."], [[]])


def test_an_adapted_model_is_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    predictor = few()
    predictor.save(tmp_path / "few")
    texts, _ = sentences(3)
    assert PartPredictor.load(tmp_path / "few").predict(texts) == predictor.predict(texts)


def test_what_is_like_no_word_is_of_no_entity() -> None:
    kind = Entities().of_classes([OUTSIDE, "person"])
    mask = torch.tensor([[True, True]])
    logits = torch.tensor([[0.0, 9.0], [0.0, 9.0]])
    inputs = {"offsets": torch.tensor([[[0, 4], [5, 9]]]), "characters": torch.zeros(1, 9, dtype=torch.int32)}
    outputs = kind.assembled(logits, Parts(logits, torch.zeros(2), mask), inputs, torch.tensor([True, False]))
    assert kind.answers(outputs, "labels") == [[OUTSIDE, "person"]]


# ---- words without a token, tags of other schemes


def test_words_without_a_token_are_of_no_entity() -> None:
    kind = Entities(class_names=["person"]).named_by(None)
    mask = torch.tensor([[True, False, True], [True, False, False]])
    outputs = {
        "logits": 9 * torch.eye(3)[torch.tensor([[1, 0, 2], [1, 0, 0]])],
        "mask": mask,
        "offsets": torch.tensor([[[0, 4], [5, 6], [7, 11]], [[0, 4], [0, 0], [0, 0]]]),
        "characters": torch.tensor([[*b"Anna ~ Lena"], [*b"Lena", *[0] * 7]]),
    }
    assert kind.answers(outputs, "labels") == [["B-person", OUTSIDE, "I-person"], ["B-person"]]
    assert [len(one) for one in kind.answers(outputs, "probabilities")] == [3, 1]
    assert [one["text"] for one in kind.answers(outputs, "entities")[0]] == ["Anna", "Lena"]
    true = {"labels": torch.tensor([[1, 2, 2], [1, 0, 0]]), "mask": mask}  # one entity of three words
    assert kind.figures(outputs, true).tolist() == [[0, 2, 1], [1, 1, 1]]


@pytest.mark.parametrize("tag", ["b-per", "X-PER", "o", "B", "I-"])
def test_tags_of_an_unknown_scheme_are_told(tmp_path: Path, tag: str) -> None:
    (tmp_path / "a.conll").write_text(f"Anna B-person\nLena {tag}\n")
    with pytest.raises(DataError, match=f"line 2: '{tag}' is no tag of IOB"):
        conll_texts(tmp_path / "a.conll")
    with pytest.raises(DataError, match=f"^'{tag}' is no tag of IOB"):
        spans_of(["O", tag])


def test_a_no_break_space_parts_no_columns(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(
        "10\u00a0000 B-sum\nNew\u2028York\tB-place\n\u00a0\tO\n\u00a0\nAnna O\n", encoding="utf-8"
    )
    assert conll_texts(tmp_path / "a.conll") == (
        [["10\u00a0000", "New\u2028York"], ["Anna"]],
        [["B-sum", "B-place"], ["O"]],
    )
