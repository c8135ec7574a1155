"""Encoder-decoders of transformers in two parts, of which each parameter has one owner: what reads and what writes.

https://github.com/huggingface/transformers

Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer" (T5),
https://arxiv.org/abs/1910.10683

Shapes: N inputs, L places of one, K tokens written, D features, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.errors import ConfigError, brief, check_counts, first_line, require
from quickstudy.nets import sentencepiece
from quickstudy.nets import transformers_bridge as bridge
from quickstudy.nets.registry import BACKBONES

VOCABULARY_SIZE = 8192
"""Tokens that a network has room for, unless it is told."""
_SPECIAL = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
_CHOOSE = (
    "choose an encoder-decoder, such as T5, BART, Pegasus, NLLB or mBART-50, by its name on the Hugging Face Hub or "
    "its folder, or start from nothing, backbone='small_t5'"
)

_WITH_TOKENIZER = (
    "Choose a model that has a tokenizer.json, such as T5, BART, Pegasus, NLLB or mBART-50, or one of Marian"
)
_OFFLINE = (
    "Without a network, name the folder of a model that was downloaded before, or start from nothing, "
    "backbone='small_t5'"
)


class Seq2SeqDecoder(nn.Module):
    """What writes tokens by the states of an encoder: an encoder-decoder of transformers without its encoder.

    A parameter that it shares with the encoder, such as an embedding of tokens, belongs to the encoder, which is to be
    given in each call; one that it uses twice itself is held once.

    Args:
        model: ``...ForConditionalGeneration``, whose encoder is taken out; ``model.get_encoder()`` before is that.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        encoder = model.get_encoder()
        names = {id(parameter): name for name, parameter in encoder.named_parameters()}
        place = next(name for name, module in model.named_modules() if module is encoder)
        parent, _, own = place.rpartition(".")
        setattr(model.get_submodule(parent), own, _Elsewhere())
        self._shared: dict[str, str] = {}
        """By their names here, those in the encoder of its parameters."""
        self._again: dict[str, str] = {}
        """By their further names here, the first ones of its own."""
        first: dict[int, str] = {}
        for name, parameter in list(model.named_parameters(remove_duplicate=False)):
            known = names.get(id(parameter)) or first.get(id(parameter))
            if known is None:
                first[id(parameter)] = name
                continue
            (self._shared if id(parameter) in names else self._again)[name] = known
            module, _, leaf = name.rpartition(".")
            delattr(model.get_submodule(module), leaf)
        self.model = model

    def __getstate__(self) -> dict[str, Any]:
        """Return it without what it borrows, of which a copy would be another."""
        for module, leaf in self._borrowing():
            module.__dict__.pop(leaf, None)
        return self.__dict__.copy()

    @property
    def end(self) -> int:
        """The token that ends what is written."""
        ends = self.model.generation_config.eos_token_id
        ends = self.model.config.eos_token_id if ends is None else ends
        return int(ends[0] if isinstance(ends, (list, tuple)) else ends)

    def forward(self, states: Tensor, mask: Tensor | None, tokens: Tensor, encoder: nn.Module | None = None) -> Tensor:
        """Return the logits of each token by those before it, ``[N, K, V]``.

        Args:
            states: of the encoder, ``[N, L, D]``.
            mask: which of them there are, ``[N, L]``; None: all, as of a model that takes no mask.
            tokens: that are to be written, ``[N, K]``, without the one that begins; padding behind them is not looked
                at.
            encoder: transformers' own, whose parameters it shares, where it does.
        """
        self._borrow(encoder)
        begin = self.model.generation_config.decoder_start_token_id
        begin = self.model.config.decoder_start_token_id if begin is None else begin
        before = torch.cat([torch.full_like(tokens[:, :1], begin), tokens[:, :-1]], 1)
        asked = {} if mask is None else {"attention_mask": mask.long()}
        found = self.model(encoder_outputs=(states,), decoder_input_ids=before, use_cache=False, **asked)
        logits: Tensor = found.logits
        return logits

    @torch.no_grad()
    def generate(self, states: Tensor, mask: Tensor | None, encoder: nn.Module | None = None, **options: Any) -> Tensor:
        """Write tokens, ``[N, K]``: those behind the one that begins, with padding behind the one that ends.

        Args:
            states, mask, encoder: see ``forward``.
            options: of ``GenerationMixin.generate``, such as ``num_beams`` and ``max_new_tokens``, in place of those of
                the model's ``generation_config``.
        """
        self._borrow(encoder)
        transformers: Any = require("transformers", extra="text")
        outputs = transformers.modeling_outputs.BaseModelOutput(last_hidden_state=states)
        asked = {} if mask is None else {"attention_mask": mask.long()}
        # Of the mixin, since some models, such as Whisper, have a method of their own that wants inputs, not states.
        ids = transformers.GenerationMixin.generate(self.model, encoder_outputs=outputs, **asked, **options)
        written: Tensor = ids[:, 1:]
        return written

    def _borrow(self, encoder: nn.Module | None) -> None:
        """Point to parameters that others own, or that stand elsewhere here, without holding them."""
        owners = [(self._shared, encoder), (self._again, self.model)]
        for names, owner in owners:
            for name, known in names.items():
                if owner is None:
                    raise TypeError(f"{name} is the encoder's: give encoder=")
                module, _, leaf = name.rpartition(".")
                wanted, borrower = owner.get_parameter(known), self.model.get_submodule(module)
                if borrower.__dict__.get(leaf) is not wanted:
                    object.__setattr__(borrower, leaf, wanted)  # torch's own would register it

    def _borrowing(self) -> Iterator[tuple[nn.Module, str]]:
        for name in (*self._shared, *self._again):
            module, _, leaf = name.rpartition(".")
            yield self.model.get_submodule(module), leaf


class Seq2SeqEncoder(bridge.TransformersEncoder):
    """What reads of an encoder-decoder of transformers; ``decoder`` makes what writes by its states.

    Args:
        model: ``...ForConditionalGeneration``.
        tokenizer: what it was trained with, as JSON; None: it was not.
        target_tokenizer: the same of what it writes; None: that one.
    """

    def __init__(self, model: Any, tokenizer: str | None = None, target_tokenizer: str | None = None) -> None:
        super().__init__(model.get_encoder(), "mean", False, tokenizer)
        self.target_tokenizer = target_tokenizer or tokenizer
        self.options: dict[str, Any] = {
            "config": _plain(model.config),
            "generation": _plain(model.generation_config),
        }
        """What makes such a model, by ``seq2seq``."""
        self._whole = [model]  # in a list, so that its decoder is no part of this

    def decoder(self, anew: bool = False) -> Seq2SeqDecoder:
        """Return what writes: the model's own, which is handed out once.

        Args:
            anew: make one with random weights, into which others are put.

        Raises:
            ConfigError: it was handed out before, and its weights cannot be had again.
        """
        if self._whole:
            return Seq2SeqDecoder(self._whole.pop())
        if not anew and self.reads["options"]:
            raise ConfigError("the trained decoder of this backbone went to another model: make the backbone anew")
        return Seq2SeqDecoder(_made(**self.options))


@BACKBONES.register("small_t5")
def small_t5(
    vocabulary_size: int = VOCABULARY_SIZE,
    width: int = 64,
    layers: int = 2,
    heads: int = 4,
    inner_width: int = 256,
    dropout: float = 0.1,
) -> Seq2SeqEncoder:
    """A small T5, of transformers, that starts from nothing.

    Args:
        vocabulary_size: V; it follows from the data.
        width: D.
        layers: of the encoder, and as many of the decoder.
        heads: of each layer, which divide D.
        inner_width: of the perceptron in each layer.
        dropout: share of the numbers that is dropped in training.

    Raises:
        MissingPackageError: transformers is not installed.
        ConfigError: an option is out of range.
    """
    check_counts(vocabulary_size=vocabulary_size, width=width, layers=layers, heads=heads, inner_width=inner_width)
    if width % heads:
        raise ConfigError(f"width={width} is no multiple of heads={heads}: type width={heads * 16}")
    sizes = {"d_model": width, "d_kv": width // heads, "d_ff": inner_width, "num_layers": layers, "num_heads": heads}
    config = {"vocab_size": vocabulary_size, "dropout_rate": dropout, "feed_forward_proj": "gated-gelu"}
    return Seq2SeqEncoder(_made({"model_type": "t5", **sizes, **config, **_SPECIAL}))


@BACKBONES.register("seq2seq")
def seq2seq(config: Mapping[str, Any], generation: Mapping[str, Any] | None = None) -> Seq2SeqEncoder:
    """Make an encoder-decoder of transformers with random weights.

    Args:
        config: as its ``config.json`` has it, with the ``model_type``.
        generation: as its ``generation_config.json`` has it: how it writes, unless that is told.

    Raises:
        MissingPackageError: transformers is not installed.
        ConfigError: there is no such model, or an option is none of its.
    """
    return Seq2SeqEncoder(_made(config, generation))


def _made(config: Mapping[str, Any], generation: Mapping[str, Any] | None = None) -> Any:
    transformers: Any = require("transformers", extra="text")
    try:
        with bridge.quiet(transformers):
            made = transformers.AutoModelForSeq2SeqLM.from_config(transformers.AutoConfig.for_model(**config))
            if generation:
                made.generation_config = transformers.GenerationConfig(**generation)
    except Exception as error:  # of options that do not go together, almost anything
        raise ConfigError(
            f"transformers makes no encoder-decoder of config={brief(dict(config))}: {first_line(error)}"
        ) from error
    return made


def create(name: str, pretrained: bool) -> Seq2SeqEncoder:
    """Make the encoder-decoder that a name stands for; no code is run from its files.

    Args:
        name: ``owner/model``, or a folder.
        pretrained: whether its weights are loaded.

    Raises:
        MissingPackageError: transformers is not installed.
        ConfigError: there is no such model, it cannot be had, or it only reads.
    """
    transformers: Any = require("transformers", extra="text")
    folder = bridge.folder_of(name, pretrained, _OFFLINE)
    try:
        with bridge.quiet(transformers):
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # damage makes the library raise almost anything
        raise ConfigError(f"the model in '{folder}' cannot be read: {first_line(error)}") from error
    if not getattr(config, "is_encoder_decoder", False):
        raise ConfigError(f"the model '{name}', of type '{config.model_type}', reads and does not write: {_CHOOSE}")
    return Seq2SeqEncoder(*_read(transformers, folder, config, pretrained))


def _read(transformers: Any, folder: Path, config: Any, pretrained: bool) -> tuple[Any, *tuple[str, ...]]:
    """Return the model in a folder, and its tokenizers, where it was trained."""
    of = transformers.AutoModelForSeq2SeqLM
    try:
        with bridge.quiet(transformers):
            if pretrained:
                made = of.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
            else:
                made = of.from_config(config)
    except Exception as error:  # damage makes the library raise almost anything
        raise ConfigError(f"the model in '{folder}' cannot be read: {first_line(error)}") from error
    made.train()  # which the library leaves off
    most = bridge.longest(made.get_encoder())
    if not pretrained:
        return (made,)
    if sentencepiece.is_marian(folder):
        return made, *sentencepiece.of_marian(folder, most)
    return made, bridge.tokenizer_of(folder, most, _WITH_TOKENIZER)


def without_decoder(name: str) -> ConfigError:
    """Return what to say of a backbone that has no decoder."""
    return ConfigError(f"the backbone '{name}' reads and does not write: {_CHOOSE}")


def _plain(config: Any) -> dict[str, Any]:
    """Return a configuration of transformers in plain values, as far as it differs from its defaults."""
    own: dict[str, Any] = config.to_diff_dict()
    return {name: value for name, value in own.items() if name not in ("transformers_version", "_from_model_config")}


class _Elsewhere(nn.Module):
    """Stands where the encoder was."""

    main_input_name = "input_ids"

    def forward(self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **options: Any) -> Any:
        """Say that nothing is read here."""
        raise RuntimeError("the encoder is elsewhere: give its states")
