"""What keeping embeddings costs and saves: beside the bare encoder, and for a million of them.

    python benchmarks/embedding_cache.py --root DATA

DATA holds mini-imagenet-test.zip and text/banking77_test.csv.gz; the encoders are EfficientNet-Lite0 and MiniLM of
``quickstudy[offline]``. Seconds are those of a processor: other work on the machine does not lengthen them.
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
from numpy.typing import NDArray
from torch import Tensor, nn

from quickstudy.data.frames import file_frame
from quickstudy.data.places import Files, open_source
from quickstudy.functional.distances import squared_euclidean
from quickstudy.functional.prototypes import prototypes
from quickstudy.image.modality import Picture
from quickstudy.learning.embeddings import embeddings
from quickstudy.learning.reading import Reader
from quickstudy.modality import Modality, Tensors
from quickstudy.nets import Encoder, build_encoder
from quickstudy.predictor import usual_inputs

PICTURES, BLOCKS, TEXTS, AT_ONCE = 600, 2, 1000, 64
MILLION, FEATURES, EPISODES = 1_000_000, 320, 1000


def of_pictures(root: Path) -> dict[str, Any]:
    """Embed pictures from an archive, and pass the same decoded ones through the bare encoder, in turns."""
    source = open_source(root / "mini-imagenet-test.zip")
    names = np.array([name for name in source.files() if name.endswith(".jpg")])
    names = names[np.linspace(0, len(names) - 1, PICTURES).astype(int)]
    picture, encoder = Picture(image_size=224), build_encoder("efficientnet_lite0").eval()
    seconds = np.zeros(3)
    for block in np.split(names, BLOCKS):
        seconds += took(encoder, picture, Files(source, block), Files(source, names[:AT_ONCE]))
    return {"pictures": PICTURES, "image_size": 224, **told(seconds)}


def of_texts(root: Path) -> dict[str, Any]:
    """Embed texts, and pass them, as tokens, through the bare encoder in the order that they come in."""
    texts = file_frame(root / "text" / "banking77_test.csv.gz", None)["text"].tolist()[:TEXTS]
    encoder = build_encoder("minilm").eval()
    return {"texts": TEXTS, **told(took(encoder, usual_inputs(encoder), texts, texts[:AT_ONCE]))}


def took(encoder: Encoder, modality: Modality, inputs: Any, some: Any) -> NDArray[Any]:
    """Return the CPU seconds of the bare encoder on inputs that are read already, of embedding them, and of once more.

    Args:
        encoder: in evaluation mode.
        modality: of the inputs.
        inputs: to embed.
        some: that all is loaded before.
    """
    embeddings(encoder, modality, some, keep=False)
    parts = list(Reader(encoder, modality).parts(inputs, at_once=AT_ONCE))
    times = [time.process_time()]
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        expected = torch.cat([encoder(part) for part in parts]).numpy()
        times.append(time.process_time())
        for _ in range(2):
            found = embeddings(encoder, modality, inputs, folder=folder, at_once=AT_ONCE)
            times.append(time.process_time())
            assert np.allclose(found, expected, atol=1e-5)
    return np.diff(times)


def told(seconds: NDArray[Any]) -> dict[str, float]:
    """Return the figures of ``took`` by name."""
    bare, kept, again = seconds.tolist()
    return {
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
    figures = {"pictures": of_pictures(arguments.root), "texts": of_texts(arguments.root), "a million": a_million()}
    print(figures)
    print(record.write("embedding_cache", "python benchmarks/embedding_cache.py --root DATA", **figures))


if __name__ == "__main__":
    main()
