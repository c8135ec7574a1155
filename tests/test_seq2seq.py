"""Encoder-decoders of transformers in two parts: they answer as the whole does, and each parameter has one owner."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import transformers

from quickstudy.nets.seq2seq import Seq2SeqDecoder

SIZES = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "vocab_size": 60,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "bos_token_id": 0,
    "decoder_start_token_id": 2,
}
OF_T5 = {
    "d_model": 16,
    "d_kv": 8,
    "num_layers": 1,
    "num_heads": 2,
    "d_ff": 16,
    "vocab_size": 60,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
OF_WHISPER = {**SIZES, "max_source_positions": 20, "num_mel_bins": 4, "max_target_positions": 64}
FAMILIES: dict[str, dict[str, Any]] = {
    "T5ForConditionalGeneration": OF_T5,
    "BartForConditionalGeneration": {**SIZES, "max_position_embeddings": 64},
    "WhisperForConditionalGeneration": OF_WHISPER,
}


def whole(family: str) -> Any:
    torch.manual_seed(0)
    made = getattr(transformers, family)
    return made(made.config_class(**FAMILIES[family])).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_decoder_writes_as_the_whole_model_does(family: str) -> None:
    model = whole(family)
    torch.manual_seed(1)
    labels, mask = torch.randint(3, 59, (3, 5)), None
    given: dict[str, Any] = {"input_features": torch.randn(3, 4, 40)}
    if not family.startswith("Whisper"):
        mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 6 + [0]]).bool()
        given = {"input_ids": torch.randint(3, 59, (3, 7)), "attention_mask": mask.long()}
    with torch.no_grad():
        wanted = model(**given, labels=labels).logits
        written = transformers.GenerationMixin.generate(model, **given, max_new_tokens=8, num_beams=2)
        count = sum(parameter.numel() for parameter in model.parameters())
        encoder = model.get_encoder()
        states = encoder(**given).last_hidden_state
        decoder = Seq2SeqDecoder(model)
        torch.testing.assert_close(decoder(states, mask, labels, encoder), wanted)
        assert torch.equal(decoder.generate(states, mask, encoder, max_new_tokens=8, num_beams=2), written[:, 1:])
        sent = pickle.loads(pickle.dumps(copy.deepcopy(decoder)))
        torch.testing.assert_close(sent(states, mask, labels, encoder), wanted)
    of_encoder, own = dict(encoder.named_parameters()), dict(decoder.named_parameters())
    assert not {id(one) for one in of_encoder.values()} & {id(one) for one in own.values()}
    assert sum(one.numel() for one in (*of_encoder.values(), *own.values())) == count
    saved = [value.untyped_storage().data_ptr() for value in decoder.state_dict().values()]
    assert len(saved) == len({*saved})


def test_gradients_reach_what_both_share() -> None:
    model = whole("T5ForConditionalGeneration")
    twin, encoder = copy.deepcopy(model), model.get_encoder()
    ids, labels = torch.randint(3, 59, (2, 7)), torch.randint(3, 59, (2, 5))
    twin(input_ids=ids, labels=labels).loss.backward()
    decoder = Seq2SeqDecoder(model)
    logits = decoder(encoder(input_ids=ids).last_hidden_state, None, labels, encoder)
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    torch.testing.assert_close(encoder.embed_tokens.weight.grad, twin.shared.weight.grad)


def test_a_decoder_asks_for_the_encoder_whose_parameters_it_shares() -> None:
    decoder = Seq2SeqDecoder(whole("T5ForConditionalGeneration"))
    with pytest.raises(TypeError, match="give encoder="):
        decoder(torch.zeros(1, 3, 16), None, torch.ones(1, 2, dtype=torch.long))
