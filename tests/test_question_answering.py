"""Passages that answer questions: windows, places, figures, questions without an answer, files, and what is none."""

from __future__ import annotations

import gzip
import json
import string
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.text import SQuAD

from quickstudy import Trainer
from quickstudy.batches import stack
from quickstudy.errors import ConfigError, DataError, DataWarning
from quickstudy.functional.characters import text_of
from quickstudy.functional.quotations import agreement, normalized
from quickstudy.kinds.question_answering import QuestionAnswering as Kind
from quickstudy.kinds.question_answering import answers_of
from quickstudy.nets import Encoder
from quickstudy.serve.decoding import Decoder, File, Limits
from quickstudy.serve.service import Service
from quickstudy.testing import check_kind
from quickstudy.text import QuestionAnswering, QuestionAnsweringData, SmallTransformer, Text
from quickstudy.text.squad import squad_questions
from quickstudy.trained import TrainedModel

READS = Text(elements="passage")
PEOPLE, PLACES = ["Anna", "Bruno", "Clara", "Dario", "Elena", "Fritz"], ["Rome", "New York", "Oslo", "Lima"]
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def asked(count: int = 168, lacking: bool = False) -> tuple[list[dict[str, str]], list[Any]]:
    """Return questions of who went where, with their answers; with ``lacking`` each fifth has none."""
    questions, answers = [], []
    for number in range(count):
        person, place = PEOPLE[number % 6], PLACES[number // 6 % 4]
        context = f"On day {number} {person} went to {place}, and slept."
        by_place = number % 7 % 2
        answer = place if by_place else person
        none = lacking and number % 5 == 0
        questions.append({"question": "when?" if none else "where?" if by_place else "who?", "context": context})
        answers.append([] if none else [{"text": answer, "answer_start": context.index(answer)}])
    return questions, answers


def data(lacking: bool = False, **options: Any) -> QuestionAnsweringData:
    questions, answers = asked(lacking=lacking)
    return QuestionAnsweringData.from_lists(train_questions=questions, train_answers=answers, batch_size=8, **options)


def trained(data: QuestionAnsweringData, epochs: int = 12, **options: Any) -> QuestionAnswering:
    torch.manual_seed(0)
    backbone = {"width": 32, "layers": 2, "heads": 2, "dropout": 0.0}
    model = QuestionAnswering(backbone_kwargs=backbone, learning_rate=0.005, **options)
    Trainer(max_epochs=epochs, **QUIET).fit(model, datamodule=data)
    return model


@pytest.fixture(scope="module")
def model() -> QuestionAnswering:
    return trained(data(lacking=True))


CONTEXT = "On day 99 Clara went to New York, and slept."


def test_answers_quote_the_context(model: QuestionAnswering) -> None:
    ask = [{"question": "where?", "context": CONTEXT}, {"question": "who?", "context": CONTEXT}]
    where, who = model.predictor().predict(ask)
    assert (where["text"], where["start"], where["end"]) == ("New York", 24, 32)
    assert who["text"] == "Clara" == CONTEXT[who["start"] : who["end"]]
    assert 0.5 < where["score"] <= 1


def test_a_question_may_have_no_answer(model: QuestionAnswering) -> None:
    (found,) = model.predictor().predict([{"question": "when?", "context": CONTEXT}])
    assert (found["text"], found["start"], found["end"]) == ("", None, None)
    assert model.kind.lacks


def test_a_model_without_such_questions_always_answers() -> None:
    found = trained(data(), 1)
    assert not found.kind.lacks
    assert found.predictor().predict([{"question": "when?", "context": CONTEXT}])[0]["text"]


def test_the_best_answers_are_ranked(model: QuestionAnswering) -> None:
    (found,) = Trainer(**QUIET).predict(
        model,
        QuestionAnsweringData.from_lists(predict_questions=[{"question": "who?", "context": CONTEXT}]),
        output="n_best",
    )
    scores = [one["score"] for one in found]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert len({one["text"] for one in found}) == len(found) == 5


def test_a_saved_model_answers_alike(model: QuestionAnswering, tmp_path: Path) -> None:
    ask = [{"question": "where?", "context": CONTEXT}]
    before = model.predictor().predict(ask)
    model.predictor().save(tmp_path / "model")
    assert TrainedModel.load(tmp_path / "model").predict(ask) == before


def test_long_contexts_are_read_in_windows(model: QuestionAnswering) -> None:
    filler = "Nobody said a word of it to anybody else, and so on. " * 12
    context = f"{filler}{CONTEXT} {filler}"
    reads = model.predictor().modality.with_options({"max_length": 24})
    example = reads({"question": "where?", "context": context})
    windows = example["windows"]
    assert len(windows["ids"]) > 10
    assert windows["ids"].shape[1] <= 24
    assert text_of(example["characters"]) == context
    covered = {place for start, end in example["offsets"].flatten(0, 1).tolist() for place in range(start, end)}
    assert {place for place, one in enumerate(context) if not one.isspace()} <= covered
    target = Kind.encode([[{"text": "New York", "answer_start": context.index("New York")}]])
    coded: Any = Kind().fitting(data().table("train")).annotations.code  # type: ignore[union-attr,arg-type]
    ends = target.coded(coded).target(0, example)["ends"]
    holding = (ends > 0).all(1)
    assert 1 <= int(holding.sum()) <= 2
    for window, (first, last) in enumerate(ends.tolist()):
        if holding[window]:
            start, end = int(example["offsets"][window, first, 0]), int(example["offsets"][window, last, 1])
            assert context[start:end] == "New York"


def test_questions_that_cannot_be_read_are_left_out() -> None:
    made = QuestionAnsweringData.from_lists(
        train_questions=["who?", "where?"],
        train_contexts=["Anna", "Rome"],
        train_answers=["Anna", "Oslo"],
        on_error="skip",
    )
    with pytest.warns(DataWarning, match=r"skipped 1 of 2.*'Oslo' is not in its context"):
        assert len(made.table("train") or ()) == 1


def test_what_the_tokenizer_marks_is_no_answer() -> None:
    example = READS({"question": "who?", "context": "Anna"})
    assert example["windows"]["asked"].tolist() == [[True, *[False] * 5, *[True] * 4]]
    assert example["windows"]["types"].tolist() == [[0] * 6 + [1] * 4]


def test_the_answer_is_the_best_of_all_pairs() -> None:
    torch.manual_seed(0)
    example = stack([READS({"question": "who?", "context": "Anna went"})])
    asked = example["windows"]["asked"]
    logits = torch.randn(*asked.shape, 2).masked_fill(~asked[..., None], -1e30)
    outputs = {
        "logits": logits,
        "mask": torch.ones(1, 1, dtype=torch.bool),
        **{k: example[k] for k in ("offsets", "characters")},
    }
    (found,) = Kind(longest=3).answers(outputs, "answers")
    starts, ends = logits[0, 0].unbind(-1)
    pairs = ((i, j) for i in range(6, 15) for j in range(i, min(i + 3, 15)))
    first, last = max(pairs, key=lambda pair: float(starts[pair[0]] + ends[pair[1]]))
    assert (found["start"], found["end"]) == (first - 6, last - 5)


def test_the_kind_conforms() -> None:
    torch.manual_seed(0)
    questions, answers = asked(24, lacking=True)
    examples = [READS(one) for one in questions]
    annotations = Kind.encode(answers)
    coded: Any = Kind().fitting(data().table("train")).annotations.code  # type: ignore[union-attr,arg-type]
    targets = stack([annotations.coded(coded).target(row, example) for row, example in enumerate(examples)])
    encoder = Encoder(SmallTransformer(width=16, layers=1, heads=2, dropout=0.0))
    check_kind(Kind(lacks=True), encoder, stack(examples), targets)


@given(st.lists(st.text(string.ascii_letters + " .,'-", max_size=20), min_size=1, max_size=3), st.text(max_size=20))
def test_figures_are_those_of_torchmetrics(true: list[str], told: str) -> None:
    true = [one for one in true if normalized(one)]
    if not true:
        return
    measure = SQuAD()
    measure.update(
        [{"prediction_text": told, "id": "a"}],
        [{"answers": {"answer_start": [0] * len(true), "text": true}, "id": "a"}],
    )
    found = measure.compute()
    exact, f1 = agreement(told, true)
    assert 100 * exact == pytest.approx(float(found["exact_match"]))
    assert 100 * f1 == pytest.approx(float(found["f1"]), abs=1e-3)


def test_no_answer_agrees_with_none_alone() -> None:
    assert agreement("", []) == (1, 1)
    assert agreement("Anna", []) == (0, 0)
    assert agreement("", ["Anna"]) == (0, 0)


def test_a_test_tells_f1_and_exact_match(model: QuestionAnswering) -> None:
    questions, answers = asked(30, lacking=True)
    others = [{**one, "context": one["context"].replace("slept", "ate")} for one in questions]
    moved = [[{"text": one["text"]} for one in own] for own in answers]
    (told,) = Trainer(**QUIET).test(
        model, datamodule=QuestionAnsweringData.from_lists(test_questions=others, test_answers=moved), verbose=False
    )
    assert told["test_examples"] == 30
    assert told["test_f1"] >= told["test_exact_match"] > 0.7


def test_squad_files_are_read(tmp_path: Path) -> None:
    questions, answers = asked(6, lacking=True)
    paragraphs = [
        {"context": one["context"], "qas": [{"question": one["question"], "answers": own, "is_impossible": not own}]}
        for one, own in zip(questions, answers, strict=True)
    ]
    content = json.dumps({"version": "2", "data": [{"title": "a", "paragraphs": paragraphs}]}).encode()
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(content))
    assert squad_questions(tmp_path / "a.json.gz") == (questions, answers)
    read = QuestionAnsweringData.from_squad(train_file=tmp_path / "a.json.gz", predict_file=tmp_path / "a.json.gz")
    assert len(read.table("train") or ()) == len(read.table("predict") or ()) == 6
    assert len(QuestionAnsweringData.from_folders(train_folder=tmp_path).table("train") or ()) == 6


def test_tables_have_columns_of_questions_and_contexts(tmp_path: Path) -> None:
    questions, answers = asked(4)
    rows = [{**one, "answers": own[0]["text"]} for one, own in zip(questions, answers, strict=True)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = QuestionAnsweringData.from_json(train_file=tmp_path / "a.jsonl").table("train")
    assert table is not None and table.annotations is not None
    assert table.inputs[0] == questions[0]
    assert table.annotations.target(0)["texts"] == [answers[0][0]["text"]]  # type: ignore[index]
    with pytest.raises(DataError, match=r"there is no column 'text'; the columns are question, context, answers"):
        QuestionAnsweringData.from_json(context_field="text", train_file=tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("item", "texts"),
    [
        ("Anna", ["Anna"]),
        ("", []),
        (None, []),
        (float("nan"), []),
        (["Anna", "went"], ["Anna", "went"]),
        ({"text": ["Anna"], "answer_start": [0]}, ["Anna"]),
        ({"text": "Anna", "answer_start": 0}, ["Anna"]),
        ({"text": [], "answer_start": []}, []),
        ('[{"text": "Anna", "answer_start": 0}]', ["Anna"]),
        ("[sic] went", ["[sic] went"]),
    ],
)
def test_answers_come_in_many_forms(item: Any, texts: list[str]) -> None:
    assert answers_of(item)["texts"] == texts


def test_blanks_at_the_ends_of_an_answer_do_not_matter() -> None:
    example = READS({"question": "who?", "context": "Today Anna went"})
    ends: Any = [answers_of([{"text": text, "answer_start": at}], example) for text, at in ((" Anna ", 5), ("Anna", 6))]
    assert ends[0]["span"] == ends[1]["span"] == (6, 10)


def test_arrays_of_tables_are_answers() -> None:
    import numpy as np

    assert answers_of(np.array(["Anna", "went"], object))["texts"] == ["Anna", "went"]
    assert answers_of(np.array([], object))["texts"] == answers_of([""])["texts"] == []


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("Bruno", "the answer 'Bruno' is not in its context"),
        ([{"text": "Anna", "answer_start": 3}], "is not in its context at character 3, where 'a we' stands"),
        ({"text": ["Anna", "went"], "answer_start": [0]}, "2 answers and 1 places"),
        (7, "an answer is a text, or"),
    ],
)
def test_what_is_no_answer_is_told(item: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        answers_of(item, READS({"question": "who?", "context": "Anna went"}))


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("Anna went", "expected {'question': ..., 'context': ...}"),
        ({"question": " ", "context": "Anna"}, "the question: ' ' is blank"),
        ({"question": "who?", "context": "a\0b"}, "the context: .* holds a NUL byte"),
        ({"question": "who " * 60, "context": "Anna"}, "a window of 128 must have room"),
    ],
)
def test_what_is_no_question_is_told(question: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        READS(question)


def test_data_without_answers_is_refused() -> None:
    from quickstudy.text import TextClassificationData

    labelled = TextClassificationData.from_lists(train_texts=["a b", "c d"], train_targets=["x", "y"])
    with pytest.raises(ConfigError, match="the data has no answers"):
        Kind().meet(labelled, "fit")
    with pytest.raises(ConfigError, match="here it is 'cross_entropy'"):
        Kind().loss("focal")


def test_answers_that_no_window_holds_are_told_by_row_and_not_learned() -> None:
    questions, answers = asked(6)
    long = "a very long story of all that she saw on her way home, and of what she ate there, and why"
    questions[4] = {"question": "what?", "context": f"Anna told {long}."}
    answers[4] = [{"text": long, "answer_start": 10}]
    few = QuestionAnsweringData.from_lists(
        train_questions=questions, train_answers=answers, batch_size=2, max_length=20, vocabulary_size=300
    )
    with pytest.warns(DataWarning, match=r"1 of 6 questions are not learned from.*: those of the rows 4, such as 'a v"):
        found = trained(few, 1)
    assert not found.kind.lacks
    table = found.kind.fitting(few.table("train"))  # type: ignore[arg-type]
    ends: Any = [table.annotations.target(row, few.modality(questions[row]))["ends"] for row in (3, 4)]  # type: ignore[union-attr,index]
    assert (ends[0] >= 0).all() and (ends[1] == -1).all()


def test_an_answer_is_whole_without_what_has_no_token() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0, "un": 1, "cafe": 2, "noir": 3}, unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.normalizer = tokenizers.normalizers.BertNormalizer()  # without accents
    context = "un cafe\u0301 noir"
    example = Text(elements="passage", tokenizer=made.to_str())({"question": "noir?", "context": context})
    coded: Any = Kind().fitting(data().table("train")).annotations.code  # type: ignore[union-attr,arg-type]
    target = Kind.encode([[{"text": "cafe\u0301", "answer_start": 3}]]).coded(coded).target(0, example)
    (place,) = {*target["ends"].flatten().tolist()}  # type: ignore[index,union-attr]
    assert place > 0
    logits = torch.full((1, *example["windows"]["ids"].shape, 2), -9.0)
    logits[0, 0, place] = 9
    outputs = {"logits": logits, "mask": torch.ones(1, 1, dtype=torch.bool)}
    outputs |= {name: example[name][None] for name in ("offsets", "characters")}
    assert Kind().answers(outputs, "answers")[0]["text"] == "cafe\u0301"


def test_questions_over_http_need_their_context(model: QuestionAnswering, tmp_path: Path) -> None:
    model.predictor().save(tmp_path / "model")
    with Service(tmp_path / "model") as service:
        decode = Decoder(service, Limits())
        with pytest.raises(DataError, match=r"and this is \{'question': 'who\?'\}, without a context"):
            decode([File({"question": "who?"})])
        with pytest.raises(
            DataError, match=r"'who\?' is a text alone, and one of 'questions' has a question and a con"
        ):
            decode([File("who?")])
