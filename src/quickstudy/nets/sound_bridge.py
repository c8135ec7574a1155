"""Encoders of sound of transformers: Whisper's, those of waves (Wav2Vec2, HuBERT), and of spectra (AST, CLAP).

https://github.com/huggingface/transformers

They take waves as their makers did, ``{"wave": [N, L], "mask": [N, L]}`` at ``sample_rate``, and make what else they
need themselves. A clip's vector depends on its own samples alone, whatever fills it up in a batch.

Shapes: N sounds, L samples, T frames, F bands, P places, D features.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.errors import ConfigError, brief, first_line, require
from quickstudy.nets.ctranslate2 import read_ctranslate2, whisper_encoder
from quickstudy.nets.registry import BACKBONES
from quickstudy.nets.sequences import Pooling, attention_bias, pooled
from quickstudy.nets.weights import WHEELS, wheel_file

_TINY = {
    "model_type": "whisper",
    "vocab_size": 51864,
    "d_model": 384,
    "encoder_layers": 4,
    "encoder_attention_heads": 6,
    "encoder_ffn_dim": 1536,
    "decoder_layers": 4,
    "decoder_attention_heads": 6,
    "decoder_ffn_dim": 1536,
    "num_mel_bins": 80,
}
_RATE, _WINDOW, _HOP = 16_000, 400, 160
_SILENCE = 150
"""Frames of silence that Whisper hears behind each clip: it learned from clips that were filled up with it."""
_WAVES = ("wav2vec2", "hubert", "unispeech", "unispeech-sat")
"""Encoders of waves that are built alike."""
_SPECTRA = ("audio-spectrogram-transformer", "clap")
"""Encoders of spectra of one size, which their own feature extractors make."""
ADAPTING = 1
"""Layers of a pretrained model that gradient steps adapt to a task: the last, since all take several times as long."""
SOUNDS = ("whisper", *_WAVES, *_SPECTRA)
"""Types of models that read sounds, as a ``config.json`` has them."""


class SoundEncoder(nn.Module):
    """An encoder of transformers that reads waves.

    Args:
        network: the encoder.
        extractor: what its feature extractor was set to, as its ``preprocessor_config.json`` has it.
        pooling: what its vector is; None: what the network itself makes of its states.
    """

    adaptation_layers: int | Literal["all"] = "all"
    """What MAML and its family adapt of it, unless they are told: as their option of that name."""
    source: Path | str = ""
    """The folder that its trained weights were read from, or the name of the package; none: neither."""

    def __init__(self, network: Any, extractor: Mapping[str, Any], pooling: Pooling | None) -> None:
        super().__init__()
        self.network, self.pooling = network, pooling
        self.config = network.config
        """Of the whole model, which makes it again."""
        self.extractor = dict(extractor)
        self.sample_rate = int(extractor.get("sampling_rate", _RATE))
        self.reads: Mapping[str, Any] = {
            "name": "audio",
            "options": {"features": "wave", "sample_rate": self.sample_rate},
        }

    @property
    def blocks_of_layers(self) -> nn.ModuleList:
        """Its layers of attention, or groups of such, from the bottom to the top."""
        return next(module for module in self.network.modules() if isinstance(module, nn.ModuleList))


class _OfPlaces(SoundEncoder, ABC):
    """One whose states have places in time, over which a clip's vector is pooled."""

    def forward(self, sounds: Batch) -> Tensor:
        """Return ``[N, D]`` of ``{"wave": [N, L], "mask": [N, L]}``."""
        states_NPD, mask_NP = self.states(sounds["wave"], sounds["mask"])
        return pooled(states_NPD, mask_NP, self.pooling or "mean")

    def elements(self, sounds: Batch) -> tuple[Tensor, Tensor]:
        """Return the states ``[N, P, D]`` of moments, and which of them there are."""
        return self.states(sounds["wave"], sounds["mask"])

    @abstractmethod
    def states(self, wave_NL: Tensor, mask_NL: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states ``[N, P, D]`` of waves, and which of them there are, ``[N, P]``."""


class WhisperSounds(_OfPlaces):
    """Whisper's encoder, on as many places as the longest clip has and not on those of 30 seconds.

    Radford et al. 2022, https://arxiv.org/abs/2212.04356
    """

    def __init__(self, network: Any, extractor: Mapping[str, Any], pooling: Pooling) -> None:
        super().__init__(network, extractor, pooling)
        audio: Any = require("transformers.audio_utils", extra="audio")
        bands = network.config.num_mel_bins
        filters = audio.mel_filter_bank(1 + _WINDOW // 2, bands, 0.0, _RATE / 2, _RATE, "slaney", "slaney")
        times = torch.arange(_WINDOW, dtype=torch.float64)
        angles = torch.arange(1 + _WINDOW // 2)[:, None] * times * (2 * math.pi / _WINDOW)
        window = torch.hann_window(_WINDOW, dtype=torch.float64)
        waves = torch.cat([angles.cos(), angles.sin()]) * window  # a Fourier transform that can be traced and vmapped
        self.register_buffer("waves", waves[:, None].float(), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters.T.copy()).float(), persistent=False)
        self.waves: Tensor
        self.filters: Tensor

    @property
    def max_seconds(self) -> float:
        """How long a clip may be."""
        return float((2 * self.network.config.max_source_positions - _SILENCE) * _HOP / _RATE)

    @property
    def frames(self) -> int:
        """Of 10 ms each, that it hears at once."""
        return 2 * int(self.network.config.max_source_positions)

    @property
    def most(self) -> int:
        """Samples of a sound that is heard at once with silence behind it."""
        return self.frames * _HOP

    def whole_spectrum(self, wave_NL: Tensor, mask_NL: Tensor) -> tuple[Tensor, Tensor]:
        """Return Whisper's spectrum of sounds of any length, with silence up to 30 s behind each, as its decoder wants.

        Returns:
            ``[N, F, T]``, and ``[N, T]``, which frames a sound has itself.
        """
        frames = max((wave_NL.shape[1] + _HOP - 1) // _HOP, self.frames)
        own_N = (mask_NL.sum(1) + _HOP - 1) // _HOP
        half = _WINDOW // 2
        wave_NL = F.pad((wave_NL * mask_NL).float(), (0, (frames - 1) * _HOP + half - wave_NL.shape[1]))
        wave_NL = torch.cat([wave_NL[:, 1 : half + 1].flip(1), wave_NL], 1)  # mirrored
        window = torch.hann_window(_WINDOW, device=wave_NL.device)
        found = torch.stft(wave_NL, _WINDOW, _HOP, window=window, center=False, return_complex=True)
        levels_NFT = (self.filters.float() @ found.abs().square()).clamp_min(1e-10).log10()
        return _scaled(levels_NFT, levels_NFT).to(self.filters.dtype), _places(frames, own_N)

    def spectrum(self, wave_NL: Tensor, mask_NL: Tensor) -> tuple[Tensor, Tensor]:
        """Return Whisper's ``[N, F, T + 2]``, two frames beyond for convolutions to see; and ``[N]``, the T of each.

        Each has the silence that follows it.
        """
        length = wave_NL.shape[1]
        frames = (length + _HOP - 1) // _HOP + _SILENCE
        half = _WINDOW // 2
        wave_NL = F.pad(wave_NL * mask_NL, (0, (frames + 1) * _HOP + half - length))
        wave_NL = torch.cat([wave_NL[:, 1 : half + 1].flip(1), wave_NL], 1)  # mirrored, as torch.stft does
        real, imaginary = F.conv1d(wave_NL[:, None], self.waves, stride=_HOP).chunk(2, 1)
        levels_NFT = (self.filters @ (real.square() + imaginary.square())).clamp_min(1e-10).log10()
        own_N = (mask_NL.sum(1) + _HOP - 1) // _HOP + _SILENCE
        seen_NT = torch.arange(frames + 2, device=wave_NL.device) < own_N[:, None]
        return _scaled(levels_NFT, levels_NFT.masked_fill(~seen_NT[:, None], -math.inf)), own_N

    def states(self, wave_NL: Tensor, mask_NL: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder's states; those of the silence are heard, and not told."""
        net = self.network
        levels_NFT, own_N = self.spectrum(wave_NL, mask_NL)
        places = (levels_NFT.shape[-1] - 1) // 2
        if not torch.compiler.is_compiling():  # a graph takes what it gets
            if wave_NL.shape[1] > self.max_seconds * _RATE:
                raise ConfigError(
                    f"Whisper hears {self.max_seconds:g} s at most: set seconds={self.max_seconds:g} of the data"
                )
            levels_NFT = levels_NFT[..., : 2 * net.config.max_source_positions]
        states = F.gelu(net.conv2(F.gelu(net.conv1(levels_NFT))))[..., :places].transpose(1, 2)
        places_P = torch.arange(states.shape[1], device=wave_NL.device)
        heard_NP, mask_NP = (places_P < ((frames_N + 1) // 2)[:, None] for frames_N in (own_N, own_N - _SILENCE))
        bias = attention_bias(heard_NP, states.dtype)
        states = F.dropout(states + net.embed_positions(places_P), net.dropout, self.training)
        for layer in net.layers:
            states = _first(layer(states, bias))
        return net.layer_norm(states), mask_NP


class WaveSounds(_OfPlaces):
    """An encoder that begins with convolutions over the wave, such as Wav2Vec2's and HuBERT's.

    Baevski et al. 2020, https://arxiv.org/abs/2006.11477; Hsu et al. 2021, https://arxiv.org/abs/2106.07447. A norm
    over time counts a clip's own samples alone. Places and layers are left out by chance in no training here.
    """

    @property
    def blocks_of_layers(self) -> nn.ModuleList:
        """Its layers of attention, from the bottom to the top."""
        layers: nn.ModuleList = self.network.encoder.layers
        return layers

    def states(self, wave_NL: Tensor, mask_NL: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder's states."""
        net, config = self.network, self.network.config
        seen = mask_NL[:, None]
        own_N = mask_NL.sum(1)
        field = 1  # samples that two places see: so many more, that there are these whatever the length
        for width, step in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            field = (field - 1) * step + width
        field += math.prod(config.conv_stride)
        states = F.pad((wave_NL * mask_NL)[:, None], (0, field))
        seen = F.pad(seen, (0, field))
        if self.extractor.get("do_normalize", True):  # as the library has it where no file says
            states = _standardised(states, seen, 1e-7)
        for layer, width, step in zip(
            net.feature_extractor.conv_layers, config.conv_kernel, config.conv_stride, strict=True
        ):
            own_N = (own_N - width) // step + 1
            norm = getattr(layer, "layer_norm", None)
            if isinstance(norm, nn.GroupNorm):
                states = layer.conv(states)
                seen = _places(states.shape[-1], own_N)[:, None]
                states = _standardised(states, seen, norm.eps) * norm.weight[:, None] + norm.bias[:, None]
                states = layer.activation(states)
            else:
                states = layer(states)
        mask_NP = _places(states.shape[-1], own_N)
        states = _first(net.feature_projection(states.transpose(1, 2))) * mask_NP[..., None]
        return self._attended(net.encoder, states, mask_NP), mask_NP

    def _attended(self, encoder: Any, states: Tensor, mask_NP: Tensor) -> Tensor:
        late = getattr(self.network.config, "do_stable_layer_norm", False)  # the norm behind all layers
        states = states + encoder.pos_conv_embed(states)
        states = encoder.dropout(states if late else encoder.layer_norm(states))
        bias = attention_bias(mask_NP, states.dtype)
        for layer in encoder.layers:
            states = _first(layer(states, attention_mask=bias))
        return encoder.layer_norm(states) if late else states


class SpectrumSounds(SoundEncoder):
    """An encoder of spectra of one size, which its own feature extractor makes, with NumPy: AST, and CLAP's of sounds.

    Gong et al. 2021, https://arxiv.org/abs/2104.01778; Wu et al. 2023, https://arxiv.org/abs/2211.06687. Gradients
    through gradient steps go through it one task at a time; it cannot be written as a graph.
    """

    def __init__(self, network: Any, extractor: Mapping[str, Any]) -> None:
        super().__init__(network, extractor, None)
        transformers: Any = require("transformers", extra="audio")
        usual = "ClapFeatureExtractor" if "clap" in network.config.model_type else "ASTFeatureExtractor"
        name = str(extractor.get("feature_extractor_type", usual))
        try:
            made = getattr(transformers, name).from_dict(dict(extractor))
        except Exception as error:  # of options that do not go together, almost anything
            raise ConfigError(
                f"transformers makes no feature extractor of extractor={brief(dict(extractor))}: {first_line(error)}"
            ) from error
        self._extract: Callable[..., Any] = partial(made, return_tensors="pt")
        self._most: int | None = getattr(made, "nb_max_samples", None)  # of longer ones CLAP's takes parts by chance

    def forward(self, sounds: Batch) -> Tensor:
        """Return ``[N, D]`` of ``{"wave": [N, L], "mask": [N, L]}``."""
        wave_NL = sounds["wave"]
        clips = [
            wave[mask][: self._most].numpy()
            for wave, mask in zip(wave_NL.detach().float().cpu(), sounds["mask"].cpu(), strict=True)
        ]
        made = self._extract(clips, sampling_rate=self.sample_rate)
        (name,) = made.keys() & {"input_values", "input_features"}
        beside = {"is_longer": torch.zeros(len(clips), 1, dtype=torch.bool)} if "is_longer" in made else {}
        found: Tensor = self.network(made[name].to(wave_NL), **beside).pooler_output
        return found


def sound_encoder(model: Any, extractor: Mapping[str, Any], pooling: Pooling | None = None) -> SoundEncoder:
    """Return the part of a model of transformers that reads sounds.

    Args:
        model: of one of the types ``SOUNDS``.
        extractor: see ``SoundEncoder``.
        pooling: what its vector is; None: of Whisper mean and deviation, of waves the mean, of spectra the model's own,
            which has no other.

    Raises:
        ConfigError: the extractor cannot be made, or an option is none of such a model.
    """
    kind = model.config.model_type
    made: SoundEncoder
    if kind == "whisper":
        made = WhisperSounds(model.get_encoder(), extractor, pooling or "mean_std")
    elif kind in _WAVES:
        made = WaveSounds(model, extractor, pooling or "mean")
    elif pooling is not None:
        raise ConfigError(f"pooling={pooling!r}: a model of type '{kind}' makes its vector itself; leave pooling out")
    else:
        made = SpectrumSounds(getattr(model, "audio_model", model), extractor)
    made.config = model.config
    return made


@BACKBONES.register("whisper_tiny_en")
def whisper_tiny_en(pretrained: bool = True, pooling: Pooling = "mean_std") -> nn.Module:
    """The encoder of Whisper tiny.en, which learned from 680,000 hours of speech, from a Python package.

    Radford et al. 2022, https://arxiv.org/abs/2212.04356; https://huggingface.co/openai/whisper-tiny.en

    Args:
        pretrained: take its weights.
        pooling: what the vector of a clip is.

    Raises:
        MissingPackageError: the package, or transformers, is not installed.
        ConfigError: the file is damaged.
    """
    transformers: Any = require("transformers", extra="audio")
    config = transformers.AutoConfig.for_model(**_TINY)
    network = transformers.models.whisper.modeling_whisper.WhisperEncoder(config)
    if pretrained:
        found = read_ctranslate2(wheel_file(WHEELS["whisper_tiny_en"]))
        network.load_state_dict(whisper_encoder(found, config.encoder_layers))
    made = WhisperSounds(network, {"sampling_rate": _RATE}, pooling)
    made.source = "whisper_tiny_en" if pretrained else ""
    made.adaptation_layers = ADAPTING
    return made


# ---- what they have in common


def _first(found: Any) -> Tensor:
    """Return the states of a layer, which in some models stand before others."""
    state: Tensor = found[0] if isinstance(found, tuple) else found
    return state


def _scaled(levels_NFT: Tensor, heard_NFT: Tensor) -> Tensor:
    """Return levels as Whisper takes them: no more than 80 dB below the loudest of what is heard."""
    loudest = heard_NFT.amax((1, 2), keepdim=True)
    return (torch.maximum(levels_NFT, loudest - 8) + 4) / 4


def _places(count: int, own_N: Tensor) -> Tensor:
    return torch.arange(count, device=own_N.device) < own_N[:, None]


def _standardised(states_NCL: Tensor, seen: Tensor, least: float) -> Tensor:
    """Return states with mean 0 and deviation 1 over what is seen of them, ``[N, 1, L]``; 0 elsewhere."""
    count = seen.sum(-1, keepdim=True)
    centred = (states_NCL - (states_NCL * seen).sum(-1, keepdim=True) / count) * seen
    return centred * (centred.square().sum(-1, keepdim=True) / count + least).rsqrt()
