"""The options of commands that are spelled here, and not taken from code that they set: ``--help`` needs no torch.

A function is named as the module that serves its command, and its docstring is what the command's help begins with.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from quickstudy.cli.listing import KINDS
from quickstudy.domains import DOMAINS

TRAINED = "a run's folder (runs/1) or a checkpoint"
FORMS = f"{TRAINED}, a saved model's folder (pets/), or owner/name on the Hugging Face Hub"

TARGET_FIELD = (
    "where --support is a table: the column of its classes or numbers; default: of rows the one that the model does "
    "not know, of two columns the one that is called so (label, class, target, category ...), else the second"
)
INPUT_FIELD = "where --support is a table and an example no row of it: the column of the examples, or of their files"

FORMAT = "of the result; coco: COCO's JSON, of objects and classes of pixels"
DRAWINGS = "a folder for a drawing of each input: objects with their names, or classes of pixels in colours"


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the option that ``models.device_of`` reads."""
    parser.add_argument("--device", type=str, default="cpu", help="for the model: cpu, cuda, cuda:1, mps")


def demo(parser: argparse.ArgumentParser) -> None:
    """From nothing to a model that tells apart classes it never saw, in a few minutes; no download."""
    told = f"what the examples are: {', '.join(DOMAINS)} (default: {DOMAINS[0]})"
    parser.add_argument("--domain", default=DOMAINS[0], help=told)
    parser.add_argument("--out", type=Path, default=Path("quickstudy-demo"), help="folder for the results")
    parser.add_argument("--epochs", type=int, help="training epochs, of 100 episodes each (default: 8 for images)")
    parser.add_argument("--episodes", type=int, default=600, help="test episodes behind each figure")


def verify(parser: argparse.ArgumentParser) -> None:
    """Measure again what was measured of a run, and compare."""
    parser.add_argument("run", type=Path, help="the run's folder, such as runs/1, or a checkpoint in it")


def compare(parser: argparse.ArgumentParser) -> None:
    """Say by how much one run is better than another, on the very same test episodes or examples."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="run", help="the runs' folders: runs/1 runs/2 ...")
    parser.add_argument("--json", action="store_true", help="print JSON")


def bench(parser: argparse.ArgumentParser) -> None:
    """Reproduce a published table: train its cells by recipes, test them by the paper's protocol, and compare.

    ``quickstudy bench snell2017`` goes on where it was whenever it is typed again; ``--quick`` tries all of it in
    minutes. Each cell gets a verdict: its figure lies above, within or below the published interval. Every cell leaves
    a folder that ``quickstudy verify`` can check.
    """
    parser.add_argument("table", metavar="TABLE", help="snell2017, omniglot ... (a wrong name lists them)")
    parser.add_argument("--root", metavar="FOLDER", help="of the data's archives; default: QUICKSTUDY_DATA")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), metavar="FOLDER", help="default: runs/bench")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rows, columns or recipes, instead of all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="train with each; default: 0")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings side by side; default: 1")
    parser.add_argument("--quick", action="store_true", help="20 steps and 20 episodes of each: a smoke test")
    parser.add_argument("--show", action="store_true", help="train nothing, and print what there is")
    parser.add_argument(
        "--algorithm", metavar="FILE:CLASS", help="an algorithm of your own, as a row more: my_file.py:MyAlgorithm"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table in Markdown")
    parser.add_argument("--latex", type=Path, metavar="FILE", help="write it in LaTeX")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, with commands and hardware")


def predict(parser: argparse.ArgumentParser) -> None:
    """Answer to pictures, texts, sounds or rows with a saved model, a run or a checkpoint.

    ``quickstudy predict pets/ images/`` writes a row of file, label, probability and likeliest for each picture, and
    ``quickstudy predict intents/ new.csv`` for each text or row of a table: the
    label is "unknown" for what is like none of the examples; likeliest names a class in any case, whose probability it
    is. Of a model of several labels each row has a list of them, in CSV written as JSON. Where the pictures lie in
    folders named by the model's classes, a row has that name, too, as true. ``quickstudy predict runs/1 images/`` takes
    the classes that a run was trained on, with --support FOLDER those of the folder, which a few-shot run needs.
    Pictures that cannot be read are named on standard error, the rest is written all the same, and the exit status is
    then 1. A run takes the options of its data as well, for instance --data.predict_file
    of a CSV file: ``quickstudy predict --checkpoint runs/1 --help``
    """
    parser.add_argument("model", metavar="MODEL", help=FORMS)
    parser.add_argument(
        "images", metavar="IMAGES", nargs="+", help="folders, files, archives; - reads paths from standard input"
    )
    parser.add_argument(
        "--support", metavar="FOLDER", help="a folder of class folders, 1..n pictures each: predict these classes"
    )
    parser.add_argument("--target_field", metavar="NAME", help=TARGET_FIELD)
    parser.add_argument("--format", choices=["csv", "json", "coco"], default="csv", help=f"{FORMAT}; default: csv")
    parser.add_argument("--output", metavar="FILE", help="the file to write, whole or not at all; default: print")
    parser.add_argument("--drawings", metavar="FOLDER", help=DRAWINGS)
    parser.add_argument("--no-unknown", action="store_true", help="the label is the likeliest class in any case")
    parser.add_argument(
        "--top", metavar="N", type=int, default=1, help="2 or more: JSON has a ranking too, of the N likeliest classes"
    )
    add_device(parser)


def embed(parser: argparse.ArgumentParser) -> None:
    """Write what a model's encoder makes of inputs, draw it, or find what is nearest.

    ``quickstudy embed efficientnet_lite0 photos/ --output photos.parquet --picture photos.png`` writes a row of name,
    label and embedding for each picture, and draws them all, coloured by their class folders. ``quickstudy embed
    efficientnet_lite0 new.jpg --near photos.parquet`` names those of them that are nearest to it. What was embedded
    before is not computed again: see quickstudy cache.
    """
    parser.add_argument("model", metavar="MODEL", help=f"{FORMS}; or a backbone's name, or what one is for: fast")
    parser.add_argument(
        "inputs", metavar="INPUTS", help="a folder, an archive or a file; a table where cells hold inputs"
    )
    parser.add_argument("--output", metavar="FILE", help="write them: x.parquet, or x.npz")
    parser.add_argument("--picture", metavar="FILE", help="draw them as points in a plane: x.png")
    parser.add_argument("--method", choices=["tsne", "umap"], default="tsne", help="of the picture; default: tsne")
    parser.add_argument("--near", metavar="FILE", help="print which are nearest of a file that --output wrote")
    parser.add_argument("--count", metavar="N", type=int, default=5, help="how many of these for each; default: 5")
    parser.add_argument("--layer", metavar="NAME", help="of the backbone, whose features to take; default: the last")
    add_device(parser)


def export(parser: argparse.ArgumentParser) -> None:
    """Write a file that answers without quickstudy, and beside it the classes that it takes in.

    ``quickstudy export pets/ pets.onnx`` writes pets.onnx and pets.onnx.classes.safetensors, once the graph was run in
    onnxruntime and has answered alike; pets.pt2 goes through torch.export. After further classes were learned,
    ``--only_classes`` writes the small file alone. docs/serve.md shows how to use both.
    """
    parser.add_argument("model", metavar="MODEL", help=f"{FORMS}; a few-shot run or checkpoint needs --support")
    parser.add_argument("out", metavar="FILE", help="the graph's file, such as pets.onnx or pets.pt2")
    parser.add_argument(
        "--support",
        metavar="FOLDER",
        help="a folder of class folders, 1..n pictures each, whose classes it learns first",
    )
    parser.add_argument("--target_field", metavar="NAME", help=TARGET_FIELD)
    parser.add_argument(
        "--only_classes", "--only-classes", action="store_true", help="leave the graph, and write the classes of now"
    )
    parser.add_argument(
        "--images",
        metavar="IMAGES",
        nargs="+",
        help="folders, files, archives: pictures to compare its answers to, too",
    )
    add_device(parser)


def serve(parser: argparse.ArgumentParser) -> None:
    """Answer over HTTP with a saved model, and let it learn classes where it was not trained on fixed ones."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="the folder of a saved model, of quickstudy adapt or Predictor.save; or owner/name on the Hugging "
        "Face Hub, which is copied into such a folder first; or a run or checkpoint of supervised training",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; beyond loopback it takes a token")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    parser.add_argument(
        "--token-file", help="a file whose first line every request must give; or the variable QUICKSTUDY_TOKEN"
    )
    add_device(parser)
    parser.add_argument("--batch-size", type=int, default=64, help="pictures that are classified together at most")
    parser.add_argument("--rate", help="requests that one address may make, such as 100/second")
    parser.add_argument("--max-images", type=int, default=64, help="in one request")
    parser.add_argument("--max-megabytes", type=int, default=32, help="in one request")
    parser.add_argument("--max-megapixels", type=int, default=25, help="of one picture")
    parser.add_argument("--no-page", action="store_true", help="only the interface for programs")


def cache(parser: argparse.ArgumentParser) -> None:
    """Show which embeddings are kept, of which encoders, and clear them.

    What a frozen encoder makes of an input is computed once and kept in files. ``quickstudy cache --clear`` removes all
    of them, with --encoder and --older_than those of an encoder, or those that were not used of late. All together take
    as much as the environment variable QUICKSTUDY_CACHE_SIZE says, 10GB by default: what was used longest ago goes.
    """
    parser.add_argument(
        "--encoder", metavar="NAME", help="only of this one: the name of its backbone, or the beginning of its number"
    )
    parser.add_argument("--older_than", metavar="DAYS", type=float, help="only those last used so many days ago")
    parser.add_argument("--clear", action="store_true", help="remove them")
    parser.add_argument("--folder", metavar="FOLDER", help="where they are; default: a part of the cache folder")


def listing(parser: argparse.ArgumentParser) -> None:
    """Name what there is: strategies, self-supervised methods, backbones, data sets, optimizers, schedules,
    transforms, rungs of the ladder.
    """
    parser.add_argument("kind", nargs="?", metavar="KIND", help=f"{', '.join(KINDS)}; default: some of each")
    parser.add_argument("name", nargs="?", metavar="NAME", help="a strategy, or a method, to describe")
    parser.add_argument("--match", metavar="PATTERN", help="only names like 'resnet*', or with 'resnet' in them")
    parser.add_argument(
        "--offline", action="store_true", help="only backbones whose trained weights are at hand without a network"
    )
