"""Pretrained encoders of pictures by what they are for. https://arxiv.org/abs/2304.07193 (DINOv2)"""

from __future__ import annotations

from quickstudy.nets.purposes import PURPOSES, Choice

_ANY_SIZE = {"dynamic_img_size": True, "dynamic_img_pad": True}

PURPOSES.register("image")(
    {
        "fast": (
            Choice("efficientnet_lite0", "Apache-2.0", 19),
            Choice("efficientnet_lite0.ra_in1k", "Apache-2.0", 19),
        ),
        "balanced": (Choice("vit_small_patch14_dinov2.lvd142m", "Apache-2.0", 88, _ANY_SIZE),),
        "best": (Choice("vit_large_patch14_dinov2.lvd142m", "Apache-2.0", 1217, _ANY_SIZE),),
    }
)
