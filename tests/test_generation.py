"""Texts that are made of texts: tokens, figures, options of writing, pretrained models, files, and what is none."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
import tokenizers
import torch
import transformers
from lightning.pytorch import Callback

from quickstudy import Trainer
from quickstudy.batches import stack
from quickstudy.errors import ConfigError, DataError, DataWarning
from quickstudy.functional.characters import text_of
from quickstudy.image import ImageClassificationData
from quickstudy.kinds.generation import Summaries, Translations, target_of
from quickstudy.nets import Encoder
from quickstudy.nets.seq2seq import Seq2SeqDecoder, seq2seq, small_t5
from quickstudy.serve.app import build
from quickstudy.serve.service import Service
from quickstudy.testing import check_kind
from quickstudy.text import Summarization, SummarizationData, Text, Translation, TranslationData
from quickstudy.trained import TrainedModel
from quickstudy.training import showing

QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
TEXTS = [f"{first}{second}" for first in "abcd" for second in "efg"]
TARGETS = [text[::-1].upper() for text in TEXTS]
OF_BART: dict[str, Any] = {
    "model_type": "bart",
    "d_model": 16,
    "vocab_size": 259,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 258,
    "forced_eos_token_id": None,
    "dropout": 0.0,
}
OF_LAYERS = {"layers": 1, "attention_heads": 2, "ffn_dim": 16}
OF_BART |= {f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in OF_LAYERS.items()}
SMALL = {"width": 16, "heads": 2, "inner_width": 32, "layers": 1, "dropout": 0.0}


def data(**options: Any) -> TranslationData:
    return TranslationData.from_lists(train_texts=TEXTS, train_targets=TARGETS, batch_size=6, **options)


def trained(epochs: int = 1, cls: Any = Translation, **options: Any) -> Any:
    torch.manual_seed(0)
    model = cls(backbone_kwargs=SMALL, learning_rate=0.01, **options)
    Trainer(max_epochs=epochs, **QUIET).fit(model, datamodule=data(vocabulary_size=258))
    return model


@pytest.fixture(scope="module")
def model() -> Translation:
    made: Translation = trained(60)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a T5 with random weights and a tokenizer, as the hub has such."""
    path = tmp_path_factory.mktemp("t5")
    torch.manual_seed(0)
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens(["<pad>", "</s>", "deu", "eng"])
    made.add_tokens(sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    made.post_processor = tokenizers.processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    made.save(str(path / "tokenizer.json"))
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 260}
    config = transformers.T5Config(**sizes, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
    network = transformers.T5ForConditionalGeneration(config)
    network.generation_config.num_beams = 2
    network.generation_config.max_new_tokens = 5
    network.save_pretrained(path)
    return path


def test_a_small_model_learns_to_write(model: Translation) -> None:
    made = TranslationData.from_lists(test_texts=TEXTS, test_targets=TARGETS)
    with pytest.warns(DataWarning, match="trained on"):  # a copy of it all is enough to see that it writes
        (found,) = Trainer(**QUIET).test(model, made)
    assert found["test_exact_match"] == found["test_chrf"] == 1
    assert found["test_rouge_1"] == found["test_rouge_l"] == 1
    (told,) = model.predictor().predict(["cg"], "scored")
    assert told["text"] == "GC"
    assert 0.5 < told["score"] <= 1


def test_no_text_at_all_has_no_answer(model: Translation) -> None:
    predictor = model.predictor()
    assert predictor.predict([]) == predictor.predict([], "scored") == predictor.rank([]) == []


def test_a_batch_is_shown_with_its_targets(model: Translation, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(showing, "Cell", lambda picture, label: shown.append(label))
    monkeypatch.setattr(showing, "sheet_of", lambda sections: None)
    data(vocabulary_size=258).show_batch("train", model)
    assert len(shown) == 6 and {*shown} <= {*TARGETS}


def test_a_saved_model_writes_alike(model: Translation, tmp_path: Path) -> None:
    before = model.predictor().predict(TEXTS, "scored")
    model.predictor().save(tmp_path / "model")
    read = TrainedModel.load(tmp_path / "model")
    assert read.predict(TEXTS, "scored") == before
    assert read.kind.in_json(read.predict(["cg"])[0]) == {"text": "GC"}


def test_a_checkpoint_holds_each_parameter_once_and_all_that_is_needed(model: Translation, tmp_path: Path) -> None:
    trainer = Trainer(max_epochs=1, **QUIET)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    held = torch.load(tmp_path / "model.ckpt", weights_only=True)["state_dict"]
    assert sum(value.numel() for value in held.values()) == sum(one.numel() for one in model.parameters())
    read = Translation.load_from_checkpoint(tmp_path / "model.ckpt")
    assert read.predictor().predict(TEXTS) == model.predictor().predict(TEXTS)


def test_a_run_goes_on_within_an_epoch(tmp_path: Path) -> None:
    class SaveThird(Callback):
        def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
            if trainer.global_step == 3:
                trainer.save_checkpoint(tmp_path / "third.ckpt")

    def weights(callbacks: list[Callback], checkpoint: Path | None = None) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = Translation(backbone_kwargs={**SMALL, "dropout": 0.1}, learning_rate=0.01)
        trainer = Trainer(max_epochs=2, callbacks=callbacks, **QUIET)
        trainer.fit(model, datamodule=data(vocabulary_size=258), ckpt_path=checkpoint)
        return model.state_dict()

    whole = weights([SaveThird()])
    rest = weights([], tmp_path / "third.ckpt")
    assert all(torch.equal(value, rest[name]) for name, value in whole.items())


def test_a_service_writes_texts(model: Translation) -> None:
    async def answers(service: Service) -> Any:
        transport = httpx.ASGITransport(build(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return (await client.post("/predict", json={"texts": ["cg", "ae"]})).json()

    with Service(model.predictor(), name="written") as service:
        assert asyncio.run(answers(service)) == {"predictions": [{"text": "GC"}, {"text": "EA"}]}


def test_texts_and_targets_share_a_tokenizer_that_loses_nothing() -> None:
    made = TranslationData.from_lists(
        train_texts=["Der  Zug fährt"] * 3, train_targets=["Le TRAIN part en 1998"] * 3, vocabulary_size=400
    )
    model = Translation(backbone_kwargs=SMALL)
    model.meet(made, "fit")
    coder = tokenizers.Tokenizer.from_str(model.kind.tokenizer)
    for text in ("Der  Zug fährt", "Le TRAIN part en 1998", "völlig\nneu: 2077 ☃"):
        assert coder.decode(coder.encode(text).ids) == text
    assert coder.encode("TRAIN").tokens[-1] == "[END]"
    assert len(coder.encode("Le TRAIN part").ids) <= 5  # it learned the targets' words, too
    assert coder.encode("1998").tokens == ["1", "9", "9", "8", "[END]"]
    assert model.kind.longest == len(coder.encode("Le TRAIN part en 1998").ids)
    assert model.encoder.backbone.vocabulary_size == coder.get_vocab_size()


@pytest.mark.dear("text", "kinds", "nets", "testing")
@pytest.mark.parametrize("kind", [Summaries, Translations])
def test_the_kinds_conform(kind: Any) -> None:
    torch.manual_seed(0)
    reads = Text(rewritten=True, vocabulary_size=258).fitted([*TEXTS, *TARGETS])
    known = kind(tokenizer=reads.tokenizer, longest=4, label_smoothing=0.1)
    pairs = list(zip(TEXTS, TARGETS, strict=True))
    examples = [reads(text) for text, _ in pairs]
    coded: Any = known.fitting(data().table("train")).annotations  # type: ignore[arg-type]
    targets = [coded.target(row) for row in range(len(pairs))]
    backbone = seq2seq(OF_BART)  # T5 has no gradients in float64: it norms in float32
    check_kind(known, Encoder(backbone), stack(examples), stack(targets))


def test_losses_are_those_of_transformers() -> None:
    torch.manual_seed(0)
    whole = transformers.T5ForConditionalGeneration(transformers.T5Config(**_config())).eval()
    kind = Translations(label_smoothing=0.1)
    ids, labels = torch.randint(2, 50, (3, 6)), torch.randint(2, 50, (3, 4))
    there = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]).bool()
    asked = labels.masked_fill(~there, -100)
    output = whole(input_ids=ids, labels=asked)
    smoother = transformers.trainer_pt_utils.LabelSmoother(epsilon=0.1)
    backbone = small_t5(50, **SMALL)  # type: ignore[arg-type]
    backbone.network, backbone._whole = whole.get_encoder(), [whole]
    encoder = Encoder(backbone).eval()
    head = kind.head(encoder, None).train()
    inputs, targets = {"ids": ids, "mask": torch.ones_like(ids).bool()}, {"tokens": labels * there, "mask": there}
    judged = kind.judge(encoder, head, inputs, targets, kind.loss(None))
    torch.testing.assert_close(judged.loss, smoother(output, asked))
    assert float(judged.weight) == 9
    plain = Translations().judge(encoder, head, inputs, targets, Translations().loss(None))
    torch.testing.assert_close(plain.loss, output.loss)


def _config() -> dict[str, Any]:
    config: dict[str, Any] = dict(small_t5(50, **SMALL).options["config"])  # type: ignore[arg-type]
    return config


def test_a_pretrained_model_writes_as_transformers_does(folder: Path, tmp_path: Path) -> None:
    whole = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    coder = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = torch.tensor([coder.encode("sum: a text").ids])
    for options in ({}, {"num_beams": 3, "max_new_tokens": 7}, {"no_repeat_ngram_size": 1, "num_beams": 1}):
        told: dict[str, Any] = {"max_new_tokens": 128, **options}
        wanted = coder.decode(whole.generate(ids, **told)[0].tolist()).strip()
        own = Summarization(backbone=str(folder), **options)  # without training
        (found,) = Trainer(**QUIET).predict(own, SummarizationData.from_lists(predict_texts=["a text"], prefix="sum: "))
        assert found == wanted
    own.predictor().save(tmp_path / "model")
    assert TrainedModel.load(tmp_path / "model").predict(["sum: a text"]) == [wanted]


@pytest.mark.parametrize("strategy", ["freeze", ("lora", 2)])
def test_a_pretrained_model_is_finetuned(folder: Path, strategy: Any, tmp_path: Path) -> None:
    model = Summarization(backbone=str(folder), learning_rate=0.01)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = SummarizationData.from_lists(train_texts=TEXTS, train_targets=TARGETS)
    trainer = Trainer(max_epochs=1, **QUIET)
    trainer.finetune(model, datamodule=made, strategy=strategy)
    moved = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == ({"head"} if strategy == "freeze" else {"head", "encoder"})
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    read = Summarization.load_from_checkpoint(tmp_path / "model.ckpt")  # it needs no folder
    assert read.predictor().predict(TEXTS[:2]) == model.predictor().predict(TEXTS[:2])


def test_one_decoder_is_handed_out_once(folder: Path) -> None:
    model = Summarization(backbone=str(folder))
    with pytest.raises(ConfigError, match="make the backbone anew"):
        model.kind.head(model.encoder, None)


def test_a_language_is_written_first(folder: Path) -> None:
    model = Translation(backbone=str(folder), target_language="deu")
    assert model.kind.tokens_of("ab") == [2, *model.kind.tokens_of("ab")[1:-1], 1]
    example = stack([model.modality.with_options(model.load_options)("ab")])
    assert model.head is not None
    outputs = model.kind.outputs(model.encoder.eval(), model.head.eval(), example)
    assert int(outputs["tokens"][0, 0]) == 2
    with pytest.raises(ConfigError, match=r"target_language='fra'.*no such token, but <pad>, </s>, deu, eng"):
        Translation(backbone=str(folder), target_language="fra")


def test_a_language_is_read_first(folder: Path) -> None:
    tokenizer = (folder / "tokenizer.json").read_text()
    plain, told = (Text(tokenizer=tokenizer, source_language=one)("ab")["ids"].tolist() for one in ("", "deu"))
    assert told == [2, *plain]
    with pytest.raises(ConfigError, match="source_language='fra': the tokenizer has no such token"):
        Text(tokenizer=tokenizer, source_language="fra")("ab")
    own = tokenizers.Tokenizer.from_str(tokenizer)  # as NLLB's, which has one of its own
    specials = [("eng", 3), ("</s>", 1)]
    own.post_processor = tokenizers.processors.TemplateProcessing("eng $A </s>", special_tokens=specials)
    assert Text(tokenizer=own.to_str())("ab")["ids"].tolist() == [3, *plain]
    assert Text(tokenizer=own.to_str(), source_language="deu")("ab")["ids"].tolist() == told


def test_a_model_without_a_tokenizer_that_is_read_is_told(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        shutil.copy(folder / name, tmp_path / name)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "MarianTokenizer"}))
    with pytest.raises(ConfigError, match=r"holds no tokenizer.json.*Choose a model that has a tokenizer.json"):
        Translation(backbone=str(tmp_path))


def test_long_targets_are_cut_with_a_word() -> None:
    with pytest.warns(DataWarning, match="12 of 12 targets have more than 2 tokens .*max_new_tokens=3"):
        found = trained(max_new_tokens=2)
    assert found.kind.tokens_of("GC")[1:] == [1]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"num_beams": 0}, "num_beams"),
        ({"loss_fn": "mse_loss"}, "'cross_entropy'"),
        ({"backbone": "small_transformer"}, "'small_transformer' reads and does not write.*small_t5"),
        ({"backbone_kwargs": {"width": 10, "heads": 4}}, "width=10 is no multiple of heads=4"),
        ({"training_strategy": "prototypicalnetworks"}, "no classes"),
    ],
)
def test_options_that_make_no_sense_are_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Translation(**options)


def test_a_model_that_cannot_be_had_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"'nobody/nothing' could not be loaded.*small_t5"):
        Translation(backbone="nobody/nothing")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match="of type 'bert', reads and does not write"):
        Translation(backbone=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(ConfigError, match="cannot be read"):
        Translation(backbone=str(tmp_path))


# ---- data


def test_files_of_lines_and_tables_hold_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.source").write_text("eins\nzwei\x0bdrei\n", encoding="utf-8")
    (tmp_path / "a.target").write_bytes(b"one\r\ntwo three")
    (tmp_path / "b.source.gz").write_bytes(gzip.compress(b"vier\n"))
    (tmp_path / "b.target.gz").write_bytes(gzip.compress(b"four\n"))
    rows = [{"de": "eins", "en": "one"}, {"de": "zwei\x0bdrei", "en": "two three"}, {"de": "vier", "en": "four"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    of_folder = TranslationData.from_folders(train_folder=tmp_path).table("train")
    of_table = TranslationData.from_json("de", "en", train_file=tmp_path / "rows.jsonl").table("train")
    first = TranslationData.from_parallel(
        train_file=tmp_path / "a.source", train_target_file=tmp_path / "a.target", predict_file=tmp_path / "b.source.gz"
    )
    for table in (of_folder, of_table):
        assert table is not None and table.annotations is not None
        assert list(table.inputs) == [row["de"] for row in rows]
        assert [text_of(table.annotations.target(row)["characters"]) for row in range(3)] == [one["en"] for one in rows]
    assert len(first.table("train") or ()) == 2
    assert list(first.table("predict").inputs) == ["vier"]  # type: ignore[union-attr]


def test_pairs_of_files_that_do_not_fit_are_told(tmp_path: Path) -> None:
    one, other = tmp_path / "a.source", tmp_path / "a.target"
    one.write_text("eins\n\ndrei\n")
    with pytest.raises(DataError, match=r"'.*a.source' has no 'a.target' beside it"):
        TranslationData.from_folders(train_folder=tmp_path)
    with pytest.raises(DataError, match="give train_target_file="):
        TranslationData.from_parallel(train_file=one)
    other.write_text("one\ntwo\n")
    with pytest.raises(DataError, match=r"a.source' has 3 lines and '.*a.target' 2"):
        TranslationData.from_parallel(train_file=one, train_target_file=other)
    other.write_text("one\ntwo\nthree\n")
    with pytest.raises(DataError, match=r"a.source', line 2, is blank"):
        TranslationData.from_parallel(train_file=one, train_target_file=other)
    kept = TranslationData.from_parallel(train_file=one, train_target_file=other, on_error="skip").table("train")
    assert kept is not None and list(kept.inputs) == ["eins", "drei"]
    with pytest.raises(DataError, match=r"holds no file that ends in .source"):
        (tmp_path / "empty").mkdir()
        TranslationData.from_folders(train_folder=tmp_path / "empty")
    with pytest.raises(DataError, match=r"there is no folder '.*emty'; did you mean '.*empty'"):
        TranslationData.from_folders(train_folder=tmp_path / "emty")


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (" ", "blank"),
        (None, "None is no text"),
        (7, "7 is no text"),
        ("a\0b", "NUL byte"),
        ("a\ud800", "lone surrogate"),
    ],
)
def test_a_target_that_is_no_text_is_told_with_its_row(target: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        target_of(target)
    made = TranslationData.from_lists(train_texts=TEXTS[:3], train_targets=["a", "b", target], batch_size=3)
    with pytest.raises(DataError, match=f"in the train data, the target of text 2: .*{told}.*on_error='skip'"):
        Trainer(max_epochs=1, **QUIET).fit(Translation(backbone_kwargs=SMALL), datamodule=made)
    with pytest.warns(DataWarning, match=rf"left out row 2|skipped 1 of 3.*{told}"):
        skipping = TranslationData.from_lists(
            train_texts=TEXTS[:3], train_targets=["a", "b", target], batch_size=3, on_error="skip"
        )
        assert len(skipping.table("train") or ()) == 2


@pytest.mark.parametrize("text", ["", " ", "a\0b", "a\ud800"])
def test_a_text_that_is_none_is_told_with_its_row(text: str) -> None:
    with pytest.raises(DataError, match="1"):
        TranslationData.from_lists(train_texts=["a", text], train_targets=["b", "c"])


def test_long_texts_are_cut_with_a_word() -> None:
    longer = [f"{text} and more" for text in TEXTS]
    made = TranslationData.from_lists(train_texts=longer, train_targets=TARGETS, max_length=4)
    with pytest.warns(DataWarning, match="12 of .* texts are longer than 4 tokens"):
        made.batch_loader("train")


def test_steps_may_have_texts_that_are_as_long() -> None:
    texts = ["a" * (1 + number % 9) for number in range(54)]
    options: dict[str, Any] = {"batch_size": 6, "sampler": "by_length", "vocabulary_size": 258}
    made = TranslationData.from_lists(train_texts=texts, train_targets=texts, **options)
    masks = [batch["input"]["mask"] for batch in made.batch_loader("train", kind=Translations())]
    assert len({*(mask.shape[1] for mask in masks)}) > 4 and all(bool(mask.all()) for mask in masks)
    pictures = ImageClassificationData.from_tensors(torch.zeros(4, 3, 8, 8), ["a", "b"] * 2, sampler="by_length")
    with pytest.raises(ConfigError, match="inputs that have a length, and pictures have none"):
        pictures.batch_loader("train")


def test_numbers_in_place_of_texts_are_told() -> None:
    made = TranslationData.from_tensors(train_data=torch.zeros(4, 2), train_targets=TARGETS[:4])
    with pytest.raises(DataError, match="expected a text"):
        Trainer(max_epochs=1, **QUIET).fit(Translation(backbone_kwargs=SMALL), datamodule=made)


def test_a_column_that_is_missing_is_told(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,summary\na,b\n")
    with pytest.raises(DataError, match=r"no column 'abstract'.*summary"):
        SummarizationData.from_csv("text", "abstract", train_file=tmp_path / "rows.csv")


def test_a_decoder_is_the_head(model: Translation) -> None:
    assert isinstance(model.head, Seq2SeqDecoder)
    assert not {*map(id, model.encoder.parameters())} & {*map(id, model.head.parameters())}
