"""What an input is, its domain alone knows: of pictures nothing else speaks, but for names that files and people use.

Docstrings and comments may give a picture as an example. In names and texts of the code, these words stand below
``image/`` and ``datasets/``, and where it is said here why.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1] / "src" / "quickstudy"
WORDS = re.compile(r"picture|image|thumbnail|\bPIL\b", re.IGNORECASE)
# Names that are written on disk, in HTTP, in pyproject.toml or by users, wherever they stand.
NAMES = re.compile(r"image|images?_root|(train|val|test|predict)_images_root")
EXCEPT = {
    "audio/modality.py": (r"quickstudy\.modality\.thumbnails|image/png", "what is shown of a sound"),
    "tabular/": (r"\w+_picture|: for pictures name .*", "a figure, for people; what to type where one is no row"),
    "graph/": (r"quickstudy\.modality\.thumbnails|image/png|: for pictures name .*", "a figure; what to type"),
    "pointcloud/": (r"quickstudy\.modality\.thumbnails|image/png", "a figure, for people"),
    "video/": (r".*", "a video is pictures, one after another"),
    "algorithms/linear_probe.py": (r"Tian et al.*", "a paper's title"),
    "crossvalidation.py": (r".*ImageClassifier.*", "the example in a message"),
    "embedded.py": (r"picture|scatter_picture|a picture needs .*", "a figure, for people"),
    "ladder/": (
        r"quickstudy\.modality\.thumbnails|image_size|imagenet-\w+|ImageNetInfo|image/png|confusion_picture|.*ImageClassificationData.*",
        "how raw inputs are read; names of published sets; figures on a page; the example in a message",
    ),
    "cli/": (r".*", "the commands are those of pictures, until they ask the model for its modality"),
    "data/likeness.py": (r"_?pictures?", "how sketches of pictures are compared"),
    "data/scan.py": (r"images?|pictures", "names of folders on disk"),
    "kinds/coco.py": (r".*", "COCO's words"),
    "kinds/detection.py": (r".*", "objects are found in pictures"),
    "kinds/faces.py": (r".*", "faces are found in pictures"),
    "nets/mtcnn.py": (r".*", "faces are found in pictures"),
    "kinds/style.py": (r".*", "pictures are painted"),
    "nets/restyling.py": (r".*", "pictures are painted"),
    "kinds/instances.py": (r".*", "objects are found in pictures"),
    "kinds/semantic.py": (r".*", "a class of each pixel of pictures"),
    "nets/decoders.py": (r".*", "a class of each pixel of pictures"),
    "nets/detection_transformer.py": (r".*", "objects are found in pictures"),
    "nets/poses.py": (r".*", "points of persons in pictures"),
    "nets/ready_detectors.py": (r".*", "objects are found in pictures"),
    "kinds/regions.py": (r".*", "objects are found in pictures"),
    "nets/regions.py": (r".*", "objects are found in pictures"),
    "nets/detectors.py": (r".*", "objects are found in pictures"),
    "kinds/classification.py": (r"thumbnail", "a name in HTTP"),
    "kinds/predictions.py": (r"thumbnail", "a name in HTTP"),
    "kinds/regression.py": (r".*ImageRegressionData", "the example in a message"),
    "learning/": (
        r".*\(images, labels\).*|.*images and labels|thumbnails?",
        "what to type, as published; a name on disk",
    ),
    "modality/__init__.py": (r"quickstudy\.image\.modality", "the table of modalities"),
    "nets/open_clip_bridge.py": (r".*", "networks of pictures and words"),
    "nets/transformers_bridge.py": (
        r".* .*|_?pictures(_of)?|AutoImageProcessor|image_processor",
        "networks of pictures and words are told apart here",
    ),
    "nets/video_bridge.py": (r"image_size|image_(mean|std)", "a video is pictures; names in files"),
    "nets/frames.py": (r".*", "networks of pictures over the frames of a video"),
    "learning/checks.py": (r"imagenet-\w+|ImageNetInfo", "a name of the data that a network was trained on"),
    "nets/two_towers.py": (r".*", "networks of pictures and words"),
    "nets/": (r".* .*", "what to type where a picture does not fit a network"),
    "modality/pixels.py": (r".*", "arrays in memory as a network of pictures takes them, whatever the domain"),
    "part_predictor.py": (r"thumbnails", "a name of public arguments"),
    "predictor.py": (r"images|thumbnails?", "names of public arguments, and on disk"),
    "runs/folder.py": (r"Picture|pictures|\w+_picture", "figures on the page of a run"),
    "runs/report.py": (
        r"Picture|pictures|\w+_picture|images?",
        "figures on a run's page; an episode",
    ),
    "runs/results.py": (r"PIL", "the version of a package"),
    "saved/": (r".*", "names on disk and on the Hub, of public arguments, and what to type"),
    "serve/": (r".*", "the service is one of pictures, until it asks the model for its modality"),
    "testing/": (r".*", "networks and strategies are held against made-up pictures"),
    "modality/sheets.py": (r".*", "what is shown of a batch, whatever it is"),
    "modality/thumbnails.py": (r".*", "what is shown of an input, whatever it is"),
    "training/datamodule.py": (r"batch_picture", "a figure, for people"),
    "training/showing.py": (r"\w*pictures?", "a figure, for people"),
    "training/procedure.py": (r".*ImageEmbedder.*", "the example in a message"),
    "trainer.py": (r".*ImageClassifier.*", "the example in a message"),
}
"""By file or folder: the names and texts that are let through, and why."""


def spoken(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the line of every name and every text in code that has one of the words, but for docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        parts: list[object] = []
        if isinstance(node, ast.Constant) and id(node) not in said:
            parts = [node.value]
        elif isinstance(node, ast.ImportFrom):
            parts = [node.module]
        else:
            parts = [getattr(node, name, None) for name in ("id", "attr", "arg", "name")]
        for part in parts:
            if isinstance(part, str) and WORDS.search(part) and not NAMES.fullmatch(part):
                yield getattr(node, "lineno", 0), part


def test_pictures_are_spoken_of_where_they_are_at_home() -> None:
    found = []
    for file in sorted(ROOT.rglob("*.py")):
        where = file.relative_to(ROOT)
        if where.parts[0] in ("image", "datasets"):
            continue
        allowed, _ = EXCEPT.get(where.as_posix()) or EXCEPT.get(f"{where.parts[0]}/") or (r"(?!)", "")
        for line, word in spoken(file):
            if not re.fullmatch(allowed, word, re.DOTALL):
                found.append(f"{where}:{line}: {' '.join(word.split())[:100]}")
    assert not found, "\n".join(found)
