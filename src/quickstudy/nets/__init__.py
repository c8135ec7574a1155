"""Backbones: networks that turn an input into a feature vector."""

from quickstudy.nets import (  # each file registers its backbone
    conv4,  # noqa: F401
    mtcnn,  # noqa: F401
    regions,  # noqa: F401
    resnet12,  # noqa: F401
    restyling,  # noqa: F401
)
from quickstudy.nets.audit import audit
from quickstudy.nets.batch_norm import (
    BatchNormAs,
    Statistics,
    average_statistics,
    by_all_processes,
    by_batch,
    by_episode,
    by_example,
    by_statistics,
    by_support,
    move_statistics,
    of_several,
    pass_by_pass,
)
from quickstudy.nets.encoder import Encoder, at_layer, available_backbones, build_encoder, sized
from quickstudy.nets.timm_bridge import at_hand

__all__ = [
    "BatchNormAs",
    "Encoder",
    "Statistics",
    "at_hand",
    "at_layer",
    "audit",
    "available_backbones",
    "average_statistics",
    "build_encoder",
    "by_all_processes",
    "by_batch",
    "by_episode",
    "by_example",
    "by_statistics",
    "by_support",
    "move_statistics",
    "of_several",
    "pass_by_pass",
    "sized",
]
