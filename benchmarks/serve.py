"""What serving a model costs, and whether it loses anything.

    python benchmarks/serve.py            # about 20 minutes, ten of them kills; writes benchmarks/results/serve.json
    python benchmarks/serve.py --quick    # about 4 minutes; writes nothing

Requests come over TCP from another process of this machine, which takes its share of the same cores. The bare encoder
is asked in batches of 64 pictures, without a head and without decoding anything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

import record
import torch
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from quickstudy import Predictor
from quickstudy.image.modality import load_image
from quickstudy.learning.changes import Change
from quickstudy.saved import model_folder
from serving import killed_again_and_again, picture, running, save_model

MODELS = {"conv4": 84, "resnet18": 224}
TOGETHER = 32
HEADS = ("prototypicalnetworks", "nearest_neighbour", "matchingnetworks", "r2d2", "nearest_centroid")
START = "import time; begin = time.perf_counter(); "
ENCODER = START + (
    "import torch; from quickstudy.nets import build_encoder; from safetensors.torch import load_file; "
    "encoder = build_encoder({backbone!r}, {options}, pretrained=False); "
    "encoder.load_state_dict(load_file({weights!r})); print(time.perf_counter() - begin)"
)
TORCH = START + "import torch; print(time.perf_counter() - begin)"


def saved(backbone: str, folder: Path, strategy: str = "prototypicalnetworks") -> Predictor:
    """Save a predictor of five classes and return it."""
    size = MODELS[backbone]
    torch.manual_seed(0)
    inputs = torch.randint(0, 256, (25, 3, size, size), dtype=torch.uint8)
    load = partial(load_image, image_size=size)
    labels = [f"c{row // 5}" for row in range(25)]
    made = Predictor.from_backbone(backbone, inputs, labels, pretrained=False, strategy=strategy, load=load)
    made.save(folder)
    return made


def bare(predictor: Predictor, size: int, seconds: float) -> float:
    """Return the pictures per second of the encoder alone."""
    encoder, inputs = predictor.knowledge.encoder, torch.randint(0, 256, (64, 3, size, size), dtype=torch.uint8)
    with torch.inference_mode():
        encoder(inputs)
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            encoder(inputs)
            done += len(inputs)
        return done / (time.perf_counter() - start)


def asked(url: str, body: bytes, seconds: float) -> tuple[float, list[float]]:
    """Ask as ``TOGETHER`` callers do, each waiting for its answer; return answers per second, and their seconds."""
    place = urlsplit(url)
    head = ["POST /predict HTTP/1.1", f"host: {place.netloc}", "content-type: image/png"]
    head.append(f"content-length: {len(body)}")
    request, took = "\r\n".join([*head, "", ""]).encode() + body, list[float]()

    async def caller(end: float) -> None:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        while (start := time.perf_counter()) < end:
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200"), answer
            length = int(answer.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            took.append(time.perf_counter() - start)
        writer.close()

    async def all_callers(seconds: float) -> None:
        end = time.perf_counter() + seconds
        await asyncio.gather(*(caller(end) for _ in range(TOGETHER)))

    asyncio.run(all_callers(2))
    took.clear()
    start = time.perf_counter()
    asyncio.run(all_callers(seconds))
    return len(took) / (time.perf_counter() - start), took


def throughput(backbone: str, seconds: float, repeats: int) -> dict[str, Any]:
    """Compare a service with its encoder, in turns."""
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1) as elsewhere:
        predictor = saved(backbone, Path(folder))
        body, alone, served, slow = picture("red", 1, MODELS[backbone]), [], [], []
        for _ in range(repeats):
            alone.append(bare(predictor, MODELS[backbone], seconds))
            with running(Path(folder), OMP_NUM_THREADS=str(torch.get_num_threads())) as server:
                rate, took = elsewhere.submit(asked, server.url, body, seconds).result()
            served.append(rate)
            slow.append(quantiles(took, n=100)[98] / median(took))
    ratios = [mine / bare for mine, bare in zip(served, alone, strict=True)]
    return {
        "what": f"/predict with {backbone} at {MODELS[backbone]} pixels, {TOGETHER} callers",
        "pictures_per_second": served,
        "encoder_alone": alone,
        "share": median(ratios),
        "target": ">= 0.8",
        "met": median(ratios) >= 0.8,
        "p99_over_median": median(slow),
        "p99_target": "< 5",
        "p99_met": median(slow) < 5,
    }


def adding(strategy: str, classes: int, repeats: int) -> dict[str, Any]:
    """Measure what ``add_class`` of five pictures takes beyond embedding them, each change going to the disk."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        predictor = saved("conv4", Path(folder), strategy)
        encoder, size = predictor.knowledge.encoder, MODELS["conv4"]
        inputs = torch.randint(0, 256, (5, 3, size, size), dtype=torch.uint8)
        width = predictor.knowledge.kept().shape[1]
        predictor.take_up([Change("add", f"made-up {n}", "", torch.rand(5, width)) for n in range(classes - 5)])
        predictor.save(folder)
        with model_folder.serve(folder) as journal:
            served = Predictor.load(folder)
            numbers = iter(range(repeats + 10))
            served.before_change = lambda change: journal.append(change, next(numbers))
            beyond = []
            for number in range(repeats + 3):
                start = time.perf_counter()
                with torch.inference_mode():
                    encoder(inputs)
                embedded = time.perf_counter()
                served.add_class(f"new {number}", inputs)
                beyond.append(time.perf_counter() - embedded - (embedded - start))
            start = time.perf_counter()
            served.rank(inputs[:1])
            asked = time.perf_counter() - start
    took = 1000 * median(beyond[3:])
    what = f"add_class of 5 pictures at {classes:,} classes, {strategy}, beyond embedding them, on the disk"
    return {
        "what": what,
        "milliseconds": took,
        "target": "< 5",
        "met": took < 5,
        "milliseconds of the first answer with probabilities after it": 1000 * asked,
    }


def starting(backbone: str, repeats: int) -> dict[str, Any]:
    """Compare the time from the command to the first answer with ``import torch`` and loading the encoder."""
    with tempfile.TemporaryDirectory() as folder:
        saved(backbone, Path(folder))
        weights = str(next(Path(folder).glob("encoder-*.safetensors")))
        body, first, least = picture("red", 1, MODELS[backbone]), [], []
        for _ in range(repeats):
            start = time.perf_counter()
            code = ENCODER.format(backbone=backbone, options={}, weights=weights)
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
            least.append(time.perf_counter() - start)
            start = time.perf_counter()
            with running(Path(folder)) as server:
                ask_once(server.url, body)
                first.append(time.perf_counter() - start)
    ratio = median(mine / other for mine, other in zip(first, least, strict=True))
    what = f"from the command to the first answer, over import torch and loading {backbone}"
    return {"what": what, "seconds": first, "least": least, "ratio": ratio, "target": "< 1.5", "met": ratio < 1.5}


def ask_once(url: str, body: bytes) -> None:
    """Ask for one picture."""
    import httpx

    assert httpx.post(f"{url}/predict", content=body, headers={"content-type": "image/png"}).status_code == 200


def killing(kills: int, seconds: float) -> dict[str, Any]:
    """Change and ask a service that is killed again and again."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        span = (0.5 * seconds / kills, 1.5 * seconds / kills)
        kept = killed_again_and_again(save_model(Path(folder) / "model"), kills, seed=0, seconds=span)
        return {
            "what": "add, rename, remove and predict, killed at random moments",
            **kept._asdict(),
            "lost": 0,  # or it had raised
            "wrong": 0,
            "minutes": (time.perf_counter() - start) / 60,
            "met": True,
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    seconds, repeats = (3.0, 1) if quick else (10.0, 3)
    console, lines = Console(), []
    work = [
        *(partial(throughput, backbone, seconds, repeats) for backbone in MODELS),
        *(partial(adding, head, classes, 5 if quick else 20) for head in HEADS for classes in (10, 10_000)),
        *(partial(starting, backbone, 1 if quick else 5) for backbone in MODELS),
        partial(killing, 3, 10.0) if quick else partial(killing, 20, 600.0),
    ]
    for measure in work:
        line = measure()
        lines.append(line)
        console.print_json(json.dumps(line))
    if not quick:
        print("written:", record.write("serve", "python benchmarks/serve.py", lines=lines))
    missed = [line["what"] for line in lines if not line["met"] or not line.get("p99_met", True)]
    print("missed:", missed or "nothing")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
