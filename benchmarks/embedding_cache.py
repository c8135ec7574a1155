"""What keeping embeddings costs and saves: beside the bare encoder, and for a million of them.

    python benchmarks/embedding_cache.py --root DATA

DATA holds mini-imagenet-test.zip; the encoder is EfficientNet-Lite0 of ``quickstudy[offline]``. Seconds are those of a
processor: other work on the machine does not lengthen them.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import record
import torch
from torch import Tensor, nn

from quickstudy.data.places import Files, open_source
from quickstudy.functional.distances import squared_euclidean
from quickstudy.functional.prototypes import prototypes
from quickstudy.image.modality import Picture
from quickstudy.learning.embeddings import embeddings
from quickstudy.modality import Tensors
from quickstudy.nets import Encoder, build_encoder

PICTURES, BLOCKS, AT_ONCE = 600, 2, 64
MILLION, FEATURES, EPISODES = 1_000_000, 320, 1000


def throughput(root: Path) -> dict[str, Any]:
    """Embed pictures from an archive, and pass the same decoded ones through the bare encoder, in turns."""
    source = open_source(root / "mini-imagenet-test.zip")
    names = np.array([name for name in source.files() if name.endswith(".jpg")])
    names = names[np.linspace(0, len(names) - 1, PICTURES).astype(int)]
    picture, encoder = Picture(image_size=224), build_encoder("efficientnet_lite0").eval()
    bare = kept = again = 0.0
    with tempfile.TemporaryDirectory() as folder:
        embeddings(encoder, picture, Files(source, names[:AT_ONCE]), keep=False)  # so that all is loaded
        for block in np.split(names, BLOCKS):
            files = Files(source, block)
            decoded = [picture.load(files[row]) for row in range(len(files))]
            parts = [torch.stack(decoded[at : at + AT_ONCE]) for at in range(0, len(decoded), AT_ONCE)]
            began = time.process_time()
            with torch.inference_mode():
                expected = torch.cat([encoder(part) for part in parts]).numpy()
            bare += time.process_time() - began
            for first in (True, False):
                began = time.process_time()
                found = embeddings(encoder, picture, files, folder=folder, at_once=AT_ONCE)
                took = time.process_time() - began
                kept, again = (kept + took, again) if first else (kept, again + took)
                assert np.array_equal(found, expected)
    return {
        "pictures": PICTURES,
        "image_size": 224,
        "bare encoder, CPU seconds": round(bare, 2),
        "from files, kept, CPU seconds": round(kept, 2),
        "throughput beside the bare encoder": round(bare / kept, 3),
        "found again, CPU seconds": round(again, 3),
    }


def a_million() -> dict[str, Any]:
    """Keep a million embeddings, find them again, and classify episodes of them, without loading them all."""
    torch.manual_seed(0)
    encoder, inputs = Encoder(nn.Linear(8, FEATURES)), torch.rand(MILLION, 8)
    episodes = torch.randint(MILLION, (EPISODES, 100))
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        embeddings(encoder, Tensors(), inputs, folder=folder, at_once=4096)
        first, before, began = time.process_time() - began, anonymous(), time.process_time()
        found = embeddings(encoder, Tensors(), inputs, folder=folder, at_once=4096)
        again, began = time.process_time() - began, time.process_time()
        for rows in episodes:
            episode = torch.from_numpy(found[rows.numpy()])
            logits_of(episode[:25], episode[25:])
        judged, after = time.process_time() - began, anonymous()
        assert isinstance(found, np.memmap)
    return {
        "embeddings": MILLION,
        "features": FEATURES,
        "MB": round(found.nbytes / 1e6),
        "computed and kept, CPU seconds": round(first, 1),
        "found again, CPU seconds": round(again, 1),
        "memory that finding and judging took, MB": round((after - before) / 1e6, 1),
        f"{EPISODES} episodes of 5 ways and 5 shots, CPU seconds": round(judged, 2),
    }


def logits_of(support: Tensor, query: Tensor) -> Tensor:
    """Return what prototypical networks answer in an episode of 5 ways."""
    return -squared_euclidean(query, prototypes(support, torch.arange(5).repeat_interleave(5), 5))


def anonymous() -> int:
    """Return the bytes of memory that no file could give back."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


def main() -> None:
    """Measure, and write ``results/embedding_cache.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="the folder of the data")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures = {"throughput": throughput(arguments.root), "a million": a_million()}
    print(figures)
    print(record.write("embedding_cache", "python benchmarks/embedding_cache.py --root DATA", **figures))


if __name__ == "__main__":
    main()
