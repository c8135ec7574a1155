"""Backbones: networks that turn an input into a feature vector."""

from quickstudy.nets import conv4, resnet12  # noqa: F401  (each file registers its backbone)
from quickstudy.nets.encoder import Encoder, available_backbones, build_encoder
from quickstudy.nets.episode_norm import EpisodeStatistics

__all__ = ["Encoder", "EpisodeStatistics", "available_backbones", "build_encoder"]
