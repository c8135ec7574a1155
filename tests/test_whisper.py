"""What Whisper's decoder writes: as transformers' own, word for word, of long sounds, with times; and how it learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from lightning.pytorch.callbacks import ModelCheckpoint

from quickstudy import Trainer
from quickstudy.audio import Sound, SpeechRecognition, SpeechRecognitionData
from quickstudy.batches import stack
from quickstudy.errors import ConfigError, DataError
from quickstudy.kinds.generated_transcription import GeneratedTranscription, rejoined
from quickstudy.nets.sound_bridge import WhisperSounds
from quickstudy.nets.speech import aligned
from quickstudy.testing import check_kind
from quickstudy.trained import TrainedModel

QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
LETTERS = "abc"
SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|transcribe|>", "<|translate|>"]
SPECIAL += ["<|notimestamps|>", *(f"<|{place / 50:.2f}|>" for place in range(51))]
SIZES = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_source_positions": 50,
    "max_target_positions": 24,
    "num_mel_bins": 16,
}


def tokenizer() -> tokenizers.Tokenizer:
    """Return one of bytes, with Whisper's marks."""
    bytes_of = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(tokenizers.models.BPE({one: code for code, one in enumerate(bytes_of)}, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model of one second of sound, in two languages, that writes letters."""
    place, tokens = tmp_path_factory.mktemp("whisper"), tokenizer()
    code = {name: tokens.token_to_id(name) for name in SPECIAL}
    ends = {"eos_token_id": code["<|endoftext|>"], "pad_token_id": code["<|endoftext|>"]}
    ends |= {"bos_token_id": code["<|endoftext|>"], "decoder_start_token_id": code["<|startoftranscript|>"]}
    torch.manual_seed(0)
    config = transformers.WhisperConfig(vocab_size=tokens.get_vocab_size(), **SIZES, **ends, init_std=0.3)
    model = transformers.WhisperForConditionalGeneration(config)
    model.generation_config = transformers.GenerationConfig(
        **ends,
        max_length=24,
        is_multilingual=True,
        no_timestamps_token_id=code["<|notimestamps|>"],
        lang_to_id={name: code[name] for name in ("<|en|>", "<|de|>")},
        task_to_id={"transcribe": code["<|transcribe|>"], "translate": code["<|translate|>"]},
        alignment_heads=[[0, 0], [1, 1]],
        max_initial_timestamp_index=50,
    )
    model.save_pretrained(place)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token="<|endoftext|>").save_pretrained(place)
    (place / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 16000}))
    return place


def tone(seconds: float, pitch: float = 440.0, seed: int = 0) -> dict[str, Any]:
    times = np.arange(int(16000 * seconds)) / 16000
    noise = 0.01 * np.random.default_rng(seed).standard_normal(len(times))
    return {"array": (0.3 * np.sin(2 * np.pi * pitch * times) + noise).astype(np.float32), "sampling_rate": 16000}


def own_features(sound: dict[str, Any], whole: bool = False) -> Any:
    extract = transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=1)
    fills = {"truncation": False, "padding": "longest"} if whole else {}
    return extract(sound["array"], sampling_rate=16000, return_tensors="pt", return_attention_mask=True, **fills)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_decoder_writes_as_transformers_does(folder: Path, beams: int) -> None:
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()
    tokens = tokenizer()
    sounds = [tone(0.4), tone(0.9, 700, 1), tone(2.7, 500, 2)]
    wanted = []
    for sound in sounds:
        long = len(sound["array"]) > 16000
        ids = model.generate(
            **own_features(sound, long), num_beams=beams, language="de", task="transcribe", return_timestamps=long
        )
        wanted.append(" ".join(tokens.decode([one for one in ids[0].tolist() if one < 256]).split()))
    task = SpeechRecognition(backbone=str(folder), num_beams=beams, language="de")
    assert isinstance(task.kind, GeneratedTranscription)
    assert task.predictor().predict(sounds) == wanted
    assert any(wanted)


def test_features_are_those_of_transformers(folder: Path) -> None:
    backbone = SpeechRecognition(backbone=str(folder)).encoder.backbone
    assert isinstance(backbone, WhisperSounds)
    for sound, whole in ((tone(0.73), False), (tone(2.5), True)):
        wave = torch.from_numpy(sound["array"])[None]
        found, there = backbone.whole_spectrum(wave, torch.ones_like(wave, dtype=torch.bool))
        wanted = own_features(sound, whole)
        count = wanted["input_features"].shape[2] - 1  # behind the end of a long one lies silence, and no mirror
        assert torch.allclose(found[..., :count], wanted["input_features"][..., :count], atol=1e-5)
        assert int(there.sum()) == int(wanted["attention_mask"].sum())


def test_the_language_is_heard_where_none_is_asked_for(folder: Path) -> None:
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()
    sound = tone(0.6)
    (heard,) = model.detect_language(own_features(sound)["input_features"]).tolist()
    language = tokenizer().id_to_token(heard)
    told, asked = (
        SpeechRecognition(backbone=str(folder), language=one).predictor().predict([sound]) for one in (None, language)
    )
    assert told == asked


def test_parts_have_one_owner_and_neighbours_change_nothing(folder: Path) -> None:
    task = SpeechRecognition(backbone=str(folder), language="en")
    model = task.predictor()
    sounds = [tone(0.4), tone(3.1, 600), tone(0.8, 900)]
    assert model.predict(sounds) == [model.predict([one])[0] for one in sounds]
    wanted = transformers.WhisperForConditionalGeneration.from_pretrained(folder)
    assert sum(one.numel() for one in task.parameters()) == sum(one.numel() for one in wanted.parameters())


def test_a_saved_model_and_a_checkpoint_write_alike(folder: Path, tmp_path: Path) -> None:
    data = SpeechRecognitionData.from_arrays(
        train_arrays=[tone(0.5), tone(0.7)], train_targets=["ab", "c a"], batch_size=2
    )
    task = SpeechRecognition(backbone=str(folder), language="en", num_beams=2, learning_rate=1e-3)
    trainer = Trainer(max_epochs=1, **QUIET)
    trainer.finetune(task, datamodule=data, strategy="freeze")
    sounds = [tone(0.4), tone(2.2, 600)]
    before = task.predictor().predict(sounds, "words")
    task.predictor().save(tmp_path / "model")
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert TrainedModel.load(tmp_path / "model").predict(sounds, "words") == before
    again = SpeechRecognition.load_from_checkpoint(tmp_path / "a.ckpt")
    assert again.predictor().predict(sounds, "words") == before


def test_a_step_learns_as_transformers_loss_says(folder: Path) -> None:
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()
    sounds, texts = [tone(0.5), tone(0.9, 700)], ["ab c", "b"]
    kind = SpeechRecognition(backbone=str(folder), language="de").kind
    task = SpeechRecognition(backbone=str(folder), language="de")
    reads = Sound(features="wave", whole=True)
    table = SpeechRecognitionData.from_arrays(train_arrays=sounds, train_targets=texts).table("train")
    assert table is not None
    annotations = kind.fitting(table).annotations
    assert annotations is not None and task.head is not None
    targets = stack([annotations.target(row) for row in range(2)])
    task.head.train()
    judged = kind.judge(task.encoder, task.head, stack([reads(one) for one in sounds]), targets, kind.loss(None))
    tokens = tokenizer()
    begins = [tokens.token_to_id(name) for name in ("<|de|>", "<|transcribe|>", "<|notimestamps|>")]
    labels = []
    for text in texts:
        own = tokens.encode(f" {text}").ids
        labels.append([*[-100] * 3, *own, tokens.token_to_id("<|endoftext|>")])
    before = [[tokens.token_to_id("<|startoftranscript|>"), *begins, *own[3:-1]] for own in labels]
    longest = max(map(len, labels))
    features = torch.cat([own_features(one)["input_features"] for one in sounds])
    wanted = model(
        features,
        decoder_input_ids=torch.tensor([own + [0] * (longest - len(own)) for own in before]),
        labels=torch.tensor([own + [-100] * (longest - len(own)) for own in labels]),
    ).loss
    assert torch.allclose(judged.loss, wanted, atol=1e-5)
    assert float(judged.weight) == sum(one != -100 for own in labels for one in own)
    assert len(judged.figures) == 0  # nothing is written while it trains


def test_low_rank_additions_train_the_decoder_too(folder: Path) -> None:
    task = SpeechRecognition(backbone=str(folder), language="en", learning_rate=1e-2)
    data = SpeechRecognitionData.from_arrays(train_arrays=[tone(0.5)], train_targets=["ab"], batch_size=1)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    Trainer(max_epochs=2, **QUIET).finetune(task, datamodule=data, strategy=("lora", 2))
    after = task.state_dict()
    assert before.keys() == after.keys()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert {name.partition(".")[0] for name in changed} == {"encoder", "head"}
    assert all(name.endswith("weight") and "norm" not in name and "embed" not in name for name in changed)


def test_a_checkpoint_with_additions_to_the_decoder_is_read(folder: Path, tmp_path: Path) -> None:
    task = SpeechRecognition(backbone=str(folder), language="en", learning_rate=1e-2)
    data = SpeechRecognitionData.from_arrays(train_arrays=[tone(0.5)], train_targets=["ab"], batch_size=1)
    kept = ModelCheckpoint(tmp_path, "a")
    Trainer(max_epochs=1, **{**QUIET, "enable_checkpointing": True}, callbacks=[kept]).finetune(
        task, datamodule=data, strategy=("lora", 2)
    )
    again = SpeechRecognition.load_from_checkpoint(kept.best_model_path)
    for name, value in task.state_dict().items():
        assert torch.allclose(again.state_dict()[name], value, atol=1e-6), name


@pytest.mark.parametrize("strategy", ["no_freeze", ("lora", 2)])
def test_a_run_that_goes_on_ends_as_one_that_was_never_stopped(folder: Path, tmp_path: Path, strategy: Any) -> None:
    sounds = [tone(0.3 + 0.1 * row, 300 + 90 * row, row) for row in range(4)]

    def run(epochs: int, **options: Any) -> dict[str, torch.Tensor]:
        data = SpeechRecognitionData.from_arrays(
            train_arrays=sounds, train_targets=["ab", "c", "b a", "cc"], batch_size=2
        )
        torch.manual_seed(0)
        task = SpeechRecognition(backbone=str(folder), language="en", learning_rate=1e-2)
        kept = ModelCheckpoint(tmp_path, "last", save_on_train_epoch_end=True)
        trainer = Trainer(max_epochs=epochs, **{**QUIET, "enable_checkpointing": True}, callbacks=[kept])
        trainer.finetune(task, datamodule=data, strategy=strategy, **options)
        return task.state_dict()

    whole = run(2)
    (tmp_path / "last.ckpt").unlink()
    first = run(1)
    gone_on = run(2, ckpt_path=tmp_path / "last.ckpt")
    assert all(torch.equal(value, gone_on[name]) for name, value in whole.items())
    assert not all(torch.equal(value, first[name]) for name, value in whole.items())


def test_the_kind_conforms(folder: Path) -> None:
    torch.manual_seed(0)
    task = SpeechRecognition(backbone=str(folder), language="en")
    reads = Sound(features="wave", whole=True)
    sounds = [tone(0.3 + 0.05 * row, 300 + 90 * row, row) for row in range(6)]
    table = SpeechRecognitionData.from_arrays(train_arrays=sounds, train_targets=["ab", "c", "", "a b", "b", "cc"])
    annotations = task.kind.fitting(table.table("train")).annotations  # type: ignore[arg-type]
    assert annotations is not None
    check_kind(
        task.kind,
        task.encoder,
        stack([reads(one) for one in sounds]),
        stack([annotations.target(row) for row in range(6)]),
    )


def test_sounds_are_joined_as_they_were() -> None:
    reads = Sound(features="wave", whole=True, sample_rate=16000, seconds=9.0)
    sounds = [tone(20.3), tone(3.0), tone(9.0)]
    joined = rejoined(stack([reads(one) for one in sounds]))
    for row, sound in enumerate(sounds):
        assert torch.equal(joined["wave"][row][joined["mask"][row]], torch.from_numpy(sound["array"]))


def test_rows_are_aligned_with_columns() -> None:
    cost = np.ones((3, 9))
    cost[0, :2] = cost[1, 2:7] = cost[2, 7:] = 0
    assert aligned(cost).tolist() == [0, 2, 7]
    assert aligned(np.zeros((1, 4))).tolist() == [0]


def test_options_that_do_not_go_together_are_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match="alphabet is of letters, and this network writes by its decoder"):
        SpeechRecognition(backbone=str(folder), alphabet="ab")
    with pytest.raises(ConfigError, match="num_beams is of a decoder"):
        SpeechRecognition(num_beams=4)
    with pytest.raises(ConfigError, match="decoder='generate' is of models that have a decoder"):
        SpeechRecognition(decoder="generate")
    with pytest.raises(ConfigError, match="language='fi' is none that the model knows: de, en"):
        SpeechRecognition(backbone=str(folder), language="fi")
    data = SpeechRecognitionData.from_arrays(train_arrays=[tone(0.5)], train_targets=["ab"])
    with pytest.raises(ConfigError, match="knows several languages, and learns one at a time"):
        SpeechRecognition(backbone=str(folder)).kind.meet(data, "fit")
    config = {"model_type": "whisper", "vocab_size": 60, "pad_token_id": 0, **SIZES}
    with pytest.raises(ConfigError, match="no tokenizer"):
        SpeechRecognition(backbone="transformers", backbone_kwargs={"config": config}).kind.meet(data, "fit")
    letters = SpeechRecognition(backbone=str(folder), decoder="ctc").kind
    assert not isinstance(letters, GeneratedTranscription)


def test_what_is_too_long_to_learn_is_told(folder: Path) -> None:
    task = SpeechRecognition(backbone=str(folder), language="en")
    data = SpeechRecognitionData.from_arrays(
        train_arrays=[tone(0.5), tone(1.5)], train_targets=["a" * 40, "b"], batch_size=1
    )
    annotations = task.kind.fitting(data.table("train")).annotations  # type: ignore[arg-type]
    assert annotations is not None and task.head is not None
    with pytest.raises(DataError, match="has 41 tokens, and the network writes 19 at most"):
        annotations.target(0)
    example = stack([Sound(features="wave", whole=True)(tone(1.5))])
    with pytest.raises(DataError, match=r"a sound of 1\.5 s has a transcript, and the network learns"):
        task.kind.judge(task.encoder, task.head, example, stack([annotations.target(1)]), task.kind.loss(None))


# ---- the trained model of the package

PROMPTS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
SAID = {
    "vm-intro": "please leave your message after the tone when done hang up or press the pound key",
    "agent-pass": "please enter your password followed by the pound key",
    "agent-incorrect": "login incorrect please enter your agent number followed by the pound key",
}
needs_prompts = pytest.mark.skipif(
    not PROMPTS.is_dir(), reason="needs recorded prompts. Type: apt-get install asterisk-core-sounds-en-wav"
)


@pytest.fixture(scope="module")
def english() -> SpeechRecognition:
    return SpeechRecognition(backbone="whisper_tiny_en")


@needs_prompts
@pytest.mark.dear("audio", "nets", "kinds")
def test_prompts_are_written_word_for_word_with_their_times(english: SpeechRecognition) -> None:
    model = english.predictor()
    files = [str(PROMPTS / f"{name}.wav") for name in SAID]
    compared = model.kind.compared  # type: ignore[attr-defined]
    assert [compared(text) for text in model.predict(files)] == [*SAID.values()]
    reads = Sound(features="wave", whole=True)
    waves = [reads(file)["windows"]["wave"][0].numpy() for file in files]
    silence = np.zeros(12_000, np.float32)
    several = [part for _ in range(2) for wave in waves for part in (wave, silence)]
    long = {"array": np.concatenate(several), "sampling_rate": 16000}
    (words,) = model.predict([long], "words")
    assert compared(" ".join(word["text"] for word in words)) == " ".join([*SAID.values()] * 2)
    begins = np.cumsum([0.0, *(len(part) / 16000 for part in several)])[::2]
    first = np.cumsum([0, *(len(text.split()) for text in [*SAID.values()] * 2)])
    for place, begin, end in zip(first, begins, begins[1:], strict=False):
        assert begin - 0.8 <= words[place]["start"] <= begin + 0.8 < words[place]["end"] + 0.8 <= end
    starts, ends = ([word[side] for word in words] for side in ("start", "end"))
    assert starts == sorted(starts)
    assert all(one <= other for one, other in zip(ends, starts[1:], strict=False))


@pytest.mark.dear("audio", "nets", "kinds")
def test_the_package_writes_as_transformers_does(english: SpeechRecognition) -> None:
    assert english.head is not None and isinstance(english.kind, GeneratedTranscription)
    backbone: Any = english.encoder.backbone
    model: Any = transformers.WhisperForConditionalGeneration(backbone.config).eval()
    model.model.encoder.load_state_dict(backbone.network.state_dict())
    own = {name.removeprefix("model.model."): value for name, value in english.head.state_dict().items()}
    model.model.load_state_dict(own, strict=False)
    assert {*own} == {name for name in model.model.state_dict() if name.startswith("decoder.")}
    model.generation_config = transformers.GenerationConfig.from_dict(english.kind.told)
    sound = tone(1.2)
    features = transformers.WhisperFeatureExtractor()(sound["array"], sampling_rate=16000, return_tensors="pt")
    ids = model.generate(features["input_features"], max_new_tokens=8)[0]
    tokens = tokenizers.Tokenizer.from_str(english.kind.tokenizer)
    wanted = " ".join(tokens.decode([one for one in ids.tolist() if one < 50256]).split())
    assert wanted
    (told,) = english.predictor().predict([sound])
    assert told.startswith(wanted)


def test_the_package_knows_one_language() -> None:
    with pytest.raises(ConfigError, match="this one knows English alone"):
        SpeechRecognition(backbone="whisper_tiny_en", language="de")
