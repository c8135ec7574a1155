"""Pretrained encoders of texts by what they are for.

https://arxiv.org/abs/2309.07597 (BGE), https://arxiv.org/abs/2002.10957 (MiniLM)
"""

from __future__ import annotations

from quickstudy.nets.purposes import PURPOSES, Choice

PURPOSES.register("text")(
    {
        "fast": (
            Choice("minilm", "Apache-2.0", 91),
            Choice("sentence-transformers/all-MiniLM-L6-v2", "Apache-2.0", 91),
        ),
        "balanced": (Choice("BAAI/bge-small-en-v1.5", "MIT", 133),),
        "best": (Choice("BAAI/bge-large-en-v1.5", "MIT", 1341),),
    }
)
