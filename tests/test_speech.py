"""What is said: letters of moments, windows, words with their times, figures, folders, and what is none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.functional.text import char_error_rate, word_error_rate

from quickstudy import Trainer
from quickstudy.audio import Sound, SpeechRecognition, SpeechRecognitionData
from quickstudy.audio.nets import SmallSpeech
from quickstudy.batches import stack
from quickstudy.errors import ConfigError, DataError
from quickstudy.kinds.base import kind_of
from quickstudy.kinds.transcription import Transcription
from quickstudy.nets import Encoder, build_encoder
from quickstudy.testing import check_kind
from quickstudy.trained import TrainedModel

RATE = 4000
TONES = {"a": 300.0, "b": 700.0, "c": 1200.0}
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def tune(text: str, seed: int = 0) -> np.ndarray[Any, Any]:
    """Return a sound of a tone for each letter, and silence for blanks."""
    noise = np.random.default_rng(seed)
    parts = []
    for letter in text:
        times = np.arange(int(RATE * 0.12)) / RATE
        tone = np.sin(2 * math.pi * TONES.get(letter, 0.0) * times) * 0.5
        parts += [tone, np.zeros(int(RATE * 0.04))]
    return np.concatenate(parts) + 0.001 * noise.standard_normal(sum(map(len, parts)))


def texts(count: int, seed: int = 0) -> list[str]:
    draw = np.random.default_rng(seed)
    words = ["ab", "ba", "c", "cab", "bc"]
    return [" ".join(words[one] for one in draw.integers(0, 5, draw.integers(1, 4))) for _ in range(count)]


def data(count: int = 96, **options: Any) -> SpeechRecognitionData:
    said = texts(count)
    sounds = [tune(text, seed) for seed, text in enumerate(said)]
    return SpeechRecognitionData.from_arrays(
        sampling_rate=RATE, train_arrays=sounds, train_targets=said, batch_size=8, sample_rate=RATE, **options
    )


SMALL: dict[str, Any] = {"bands": 16, "width": 32, "layers": 1, "heads": 2, "dropout": 0.0}


@pytest.fixture(scope="module")
def model() -> SpeechRecognition:
    torch.manual_seed(0)
    made = SpeechRecognition(backbone_kwargs=SMALL, learning_rate=0.01)
    Trainer(max_epochs=14, **QUIET).fit(made, datamodule=data())
    return made


def sound(text: str) -> dict[str, Any]:
    return {"array": tune(text, 99), "sampling_rate": RATE}


def test_what_is_said_is_written(model: SpeechRecognition) -> None:
    assert model.predictor().predict([sound("cab ba"), sound("c")]) == ["cab ba", "c"]


def test_words_have_their_times(model: SpeechRecognition) -> None:
    (words,) = model.predictor().predict([sound("cab ba")], "words")
    assert [word["text"] for word in words] == ["cab", "ba"]
    first, second = words
    assert 0 <= first["start"] < 0.2 < first["end"] < 0.6
    assert 0.5 < second["start"] < 0.85 < second["end"] < 1


def test_times_are_those_of_the_moments_that_tell_letters() -> None:
    kind = Transcription(letters=" ab")
    codes = torch.tensor([0, 2, 2, 0, 3, 1, 0, 3])  # of moments of 0.04 s
    outputs = {
        "logits": torch.nn.functional.one_hot(codes, 4).float()[None],
        "mask": torch.ones(1, 8, dtype=torch.bool),
        "seconds": (torch.arange(8) + 0.5)[None] * 0.04,
    }
    (words,) = kind.answers(outputs, "words")
    assert words == [{"text": "ab", "start": 0.04, "end": 0.2}, {"text": "b", "start": 0.28, "end": 0.32}]


def test_a_sound_of_another_rate_is_brought_to_that_of_the_model(model: SpeechRecognition) -> None:
    twice = np.repeat(tune("cab", 99), 2)
    assert model.predictor().predict([{"array": np.stack([twice, twice]), "sampling_rate": 2 * RATE}]) == ["cab"]


def test_a_test_tells_words_and_letters(model: SpeechRecognition) -> None:
    said = texts(20, 5)
    asked = SpeechRecognitionData.from_arrays(
        sampling_rate=RATE, test_arrays=[tune(text, 7) for text in said], test_targets=said, sample_rate=RATE
    )
    (told,) = Trainer(**QUIET).test(model, datamodule=asked, verbose=False)
    assert told["test_wer"] < 0.2
    assert 0 <= told["test_cer"] <= told["test_wer"]
    assert told["test_examples"] == 20


def test_the_interval_of_a_test_is_over_speakers_where_these_are_told(model: SpeechRecognition) -> None:
    said = texts(20, 5)
    sounds = [tune(text, 140) if row < 12 else 0.05 * tune(text, 141)[::-1] for row, text in enumerate(said)]
    found = []
    for groups in ({}, {"group_by": {"test": ["near"] * 6 + ["clear"] * 6 + ["backwards"] * 8}}):
        asked = SpeechRecognitionData.from_arrays(
            sampling_rate=RATE, test_arrays=sounds, test_targets=said, sample_rate=RATE, **groups
        )
        found += Trainer(**QUIET).test(model, datamodule=asked, verbose=False)
    alone, grouped = found
    assert grouped["test_wer"] == alone["test_wer"] > 0
    assert grouped["test_wer_ci95"] > 1.5 * alone["test_wer_ci95"]


def test_a_saved_model_writes_alike(model: SpeechRecognition, tmp_path: Path) -> None:
    before = model.predictor().predict([sound("ab c")])
    model.predictor().save(tmp_path / "model")
    assert TrainedModel.load(tmp_path / "model").predict([sound("ab c")]) == before


def test_long_sounds_are_heard_in_windows(model: SpeechRecognition) -> None:
    text = " ".join(["cab", "ba", "c", "ab"] * 12)
    whole = model.predictor().predict([sound(text)])[0]
    reads = model.predictor().modality.with_options({"seconds": 9.0})
    example = reads(sound(text))
    assert len(example["windows"]["wave"]) > 3
    kind, encoder, head = model.kind, model.encoder.eval(), model.head
    assert head is not None
    with torch.inference_mode():
        outputs = kind.outputs(encoder, head, stack([example]))
    (parts,) = kind.answers(outputs, "texts")
    assert len(parts.split()) == pytest.approx(len(text.split()), abs=2)
    assert parts.split()[:8] == whole.split()[:8]
    seconds = outputs["seconds"][0][outputs["mask"][0]]
    assert (seconds.diff() > 0).all()  # each moment once, in order
    assert float(seconds.diff().max()) < 0.05
    assert float(seconds[-1]) == pytest.approx(len(tune(text)) / RATE, abs=0.05)


def test_neighbours_do_not_change_an_answer() -> None:
    torch.manual_seed(0)
    encoder = Encoder(SmallSpeech(sample_rate=RATE, **SMALL).eval())
    kind = Transcription(letters=" abc")
    reads = Sound(features="wave", whole=True, sample_rate=RATE)
    short, long = reads(sound("ab")), reads(sound("cab " * 9))
    head = kind.head(encoder, stack([short]))
    alone, both = (kind.outputs(encoder, head, stack(some)) for some in ([short], [short, long]))
    there = both["mask"][0]
    assert int(there.sum()) == int(alone["mask"].sum())
    assert torch.allclose(alone["logits"][0], both["logits"][0][there], atol=1e-5)


def test_figures_are_those_of_torchmetrics() -> None:
    kind = Transcription(letters=" abc")
    told, true = ["ab ba", "c", "", "cab cab cab"], ["ab b", "c", "a", "cab"]
    longest = 30

    def logits(text: str) -> torch.Tensor:
        codes = [code for letter in text for code in (1 + " abc".index(letter), 0)]
        codes += [0] * (longest - len(codes))
        return torch.nn.functional.one_hot(torch.tensor(codes), 5).float()

    outputs = {
        "logits": torch.stack(list(map(logits, told))),
        "mask": torch.ones(4, longest, dtype=torch.bool),
        "seconds": torch.zeros(4, longest),
    }
    table = SpeechRecognitionData.from_arrays(
        sampling_rate=RATE, train_arrays=[tune("a")] * 4, train_targets=true
    ).table("train")
    assert table is not None
    annotations = kind.fitting(table).annotations
    assert annotations is not None
    targets = stack([annotations.target(row) for row in range(4)])
    figures = kind.figures(outputs, targets)
    measure = kind.measure(True)
    measure.update(figures)
    found = measure.estimates()
    assert found["wer"].mean == pytest.approx(float(word_error_rate(told, true)))
    assert found["cer"].mean == pytest.approx(float(char_error_rate(told, true)))
    assert float(kind.settled(figures).mean()) == pytest.approx(found["wer"].mean)


def test_no_rate_is_told_where_nothing_is_said() -> None:
    measure = Transcription().measure(True)
    measure.update(torch.tensor([[5.0, 20, 0, 0], [3, 9, 0, 0]]))
    assert math.isnan(measure.estimates()["wer"].mean)


def test_times_do_not_follow_the_precision_of_training() -> None:
    example = Sound(features="wave", whole=True, sample_rate=RATE, seconds=4.0)(sound("cab " * 9))
    assert example["places"].dtype == example["rate"].dtype == torch.int64


def test_the_kind_conforms() -> None:
    torch.manual_seed(0)
    said = texts(12, 3)
    reads = Sound(features="wave", whole=True, sample_rate=RATE)
    examples = [reads(sound(text)) for text in said]
    kind = Transcription(letters=" abc")
    table = data(12).table("train")
    assert table is not None
    coded: Any = kind.fitting(table).annotations.code  # type: ignore[union-attr]
    targets = stack([Transcription.encode([text]).coded(coded).target(0) for text in said])
    check_kind(kind, Encoder(SmallSpeech(sample_rate=RATE, **SMALL)), stack(examples), targets)


def test_the_kind_is_told_in_plain_values() -> None:
    kind = Transcription(case=True, letters=" Aab")
    assert kind_of(json.loads(json.dumps(kind.described()))) == kind


def test_letters_are_those_of_training() -> None:
    met = Transcription().meet(data(), "fit")
    assert met.letters == " abc"
    assert Transcription(alphabet="ba").meet(None, "fit").letters == " ab"
    assert Transcription().said("  Ab\n c ") == "ab c"
    assert Transcription(case=True).said("A\u0308") == "Ä"


def test_a_closed_vocabulary_tells_known_words_alone() -> None:
    met = Transcription(closed=True).meet(data(), "fit")
    assert met.vocabulary == ("ab", "ba", "bc", "c", "cab")
    codes = torch.tensor([" abc".index(letter) + 1 for letter in "cb bcb"])
    logits = torch.nn.functional.one_hot(codes, 5).float()[None]
    outputs = {"logits": logits, "mask": torch.ones(1, 6, dtype=torch.bool), "seconds": torch.arange(6.0)[None]}
    assert met.answers(outputs, "texts") == ["cab bc"]
    assert [word["text"] for word in met.answers(outputs, "words")[0]] == ["cab", "bc"]


def test_wav2vec2_tells_of_moments() -> None:
    small = {
        "model_type": "wav2vec2",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "conv_dim": [8, 8],
        "conv_kernel": [10, 8],
        "conv_stride": [5, 4],
        "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
        "feat_extract_norm": "layer",
    }
    encoder = build_encoder("transformers", {"config": small}, False).eval()
    reads = Sound(features="wave", whole=True)
    kind = Transcription(letters=" abc")
    example = stack([reads({"array": tune("cab"), "sampling_rate": RATE})])
    outputs = kind.outputs(encoder, kind.head(encoder, example), example)
    assert outputs["mask"].sum() > 100
    assert outputs["logits"].shape[-1] == 5


def test_folders_have_texts_beside_sounds(tmp_path: Path) -> None:
    import soundfile

    for name, text in (("one", "ab ba"), ("two", "c")):
        soundfile.write(tmp_path / f"{name}.wav", tune(text), RATE)
    (tmp_path / "one.txt").write_text("ab ba\n")
    with pytest.raises(DataError, match=r"two\.wav'? has no transcript: write what is said into 'two\.txt'"):
        SpeechRecognitionData.from_folders(train_folder=tmp_path)
    (tmp_path / "book.trans.txt").write_text("two C\n")
    (tmp_path / "LIESMICH.txt").write_bytes("Gespr\xe4che".encode("latin-1"))
    table = SpeechRecognitionData.from_folders(train_folder=tmp_path).table("train")
    assert table is not None and table.annotations is not None
    said = {str(table.inputs[row])[-7:]: table.annotations.target(row)["text"] for row in range(2)}  # type: ignore[index]
    assert said == {"one.wav": "ab ba", "two.wav": "C"}


def test_a_table_names_files_and_says_what_is_said(tmp_path: Path) -> None:
    import soundfile

    soundfile.write(tmp_path / "one.wav", tune("ab"), RATE)
    (tmp_path / "a.csv").write_text('file,text\none.wav,"ab, ba"\n')
    table = SpeechRecognitionData.from_csv("file", "text", train_file=tmp_path / "a.csv").table("train")
    assert table is not None and table.annotations is not None
    assert table.annotations.target(0)["text"] == "ab, ba"  # type: ignore[index]


def test_what_cannot_be_learned_is_told() -> None:
    with pytest.raises(ConfigError, match="which letters there are is not known"):
        Transcription().meet(None, "fit")
    with pytest.raises(ConfigError, match="it is CTC's"):
        Transcription().loss("cross_entropy")
    with pytest.raises(
        DataError, match=r"a transcript is a text, and this is 7: give it as one, '7', or the column as"
    ):
        Transcription.encode([7]).target(0)
    with pytest.raises(DataError, match=r"a transcript is a text, and this is None$"):
        Transcription.encode([None]).target(0)
    with pytest.raises(ConfigError, match="no multiple of heads=3: type width=33"):
        SmallSpeech(width=32, heads=3)


def test_more_letters_than_moments_are_told() -> None:
    reads = Sound(features="wave", whole=True, sample_rate=RATE)
    kind = Transcription(letters=" abc")
    encoder = Encoder(SmallSpeech(sample_rate=RATE, **SMALL))
    example = stack([reads({"array": tune("a"), "sampling_rate": RATE})])
    table = SpeechRecognitionData.from_arrays(sampling_rate=RATE, train_arrays=[tune("a")], train_targets=["abc" * 9])
    annotations = kind.fitting(table.table("train")).annotations  # type: ignore[arg-type]
    assert annotations is not None
    with pytest.warns(UserWarning, match="more letters than the network tells of moments"):
        judged = kind.judge(
            encoder, kind.head(encoder, example), example, stack([annotations.target(0)]), kind.loss(None)
        )
    assert torch.isfinite(judged.loss)


WAV2VEC2 = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": [8, 8],
    "conv_kernel": [10, 8],
    "conv_stride": [5, 4],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}


@pytest.fixture
def trained_by_ctc(tmp_path: Path) -> Path:
    """Return the folder of a model that tells letters, with its vocabulary."""
    import transformers

    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", "C", "A", "B", "'"]
    torch.manual_seed(0)
    model = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(vocab_size=len(tokens), pad_token_id=0, **WAV2VEC2))
    torch.nn.init.normal_(model.lm_head.weight)
    model.save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({token: code for code, token in enumerate(tokens)}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Wav2Vec2CTCTokenizer"}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": RATE, "do_normalize": True}))
    return tmp_path


def test_a_model_of_the_hub_keeps_its_letters(trained_by_ctc: Path, tmp_path: Path) -> None:
    import transformers

    task = SpeechRecognition(backbone=str(trained_by_ctc), case=True)
    assert task.kind.letters == " CAB'"
    model = transformers.Wav2Vec2ForCTC.from_pretrained(trained_by_ctc).eval()
    wave = torch.from_numpy(tune("cab ba", 3)).float()
    (told,) = task.predictor().predict([{"array": wave.numpy(), "sampling_rate": RATE}], "logits")
    with torch.no_grad():
        wanted = model(((wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt())[None]).logits[0]
    both = min(len(told), len(wanted))
    assert torch.allclose(told[: both - 4], wanted[: both - 4, [0, 4, 5, 6, 7, 8]], atol=1e-4)
    small = SpeechRecognition(backbone=str(trained_by_ctc)).predictor()
    assert small.kind.letters == " cab'"
    (text,) = small.predict([{"array": wave.numpy(), "sampling_rate": RATE}])
    assert text and {*text} <= {*" cab'"}
    small.save(tmp_path / "saved")
    assert TrainedModel.load(tmp_path / "saved").predict([{"array": wave.numpy(), "sampling_rate": RATE}]) == [text]


def test_a_given_alphabet_takes_another_head(trained_by_ctc: Path) -> None:
    task = SpeechRecognition(backbone=str(trained_by_ctc), alphabet="xyz")
    assert task.head is None and task.kind.meet(None, "fit").letters == " xyz"
    (trained_by_ctc / "vocab.json").write_text(json.dumps({"<pad>": 0, "ab": 1}))
    with pytest.raises(ConfigError, match="tells tokens of several letters, such as 'ab'"):
        SpeechRecognition(backbone=str(trained_by_ctc))


def test_windows_that_fill_up_are_not_heard(model: SpeechRecognition) -> None:
    reads = model.predictor().modality.with_options({"seconds": 2.0})
    batch = stack([reads(sound("ab")), reads(sound("cab " * 9))])
    heard: list[int] = []
    hook = model.encoder.backbone.spectrum.register_forward_pre_hook(lambda _, given: heard.append(len(given[0])))  # type: ignore[union-attr, operator]
    assert model.head is not None
    with torch.inference_mode():
        model.kind.outputs(model.encoder, model.head, batch)
    hook.remove()  # type: ignore[union-attr]
    assert sum(heard) == int(batch["windows"]["mask"].any(-1).sum()) < batch["windows"]["mask"][..., 0].numel()
