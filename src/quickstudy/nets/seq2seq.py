"""Encoder-decoders of transformers in two parts, of which each parameter has one owner: what reads and what writes.

https://github.com/huggingface/transformers

Shapes: N inputs, L places of one, K tokens written, D features, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.errors import require


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
    def vocabulary_size(self) -> int:
        """V."""
        return int(self.model.config.get_text_config(decoder=True).vocab_size)

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


class _Elsewhere(nn.Module):
    """Stands where the encoder was."""

    main_input_name = "input_ids"

    def forward(self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **options: Any) -> Any:
        """Say that nothing is read here."""
        raise RuntimeError("the encoder is elsewhere: give its states")
