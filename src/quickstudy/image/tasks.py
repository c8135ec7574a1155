"""Tasks of pictures, and their data: classification, regression, embedding, objects, pixels."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from quickstudy.batches import stack
from quickstudy.data.annotations import Annotations, Read, annotated
from quickstudy.data.frames import file_frame
from quickstudy.data.places import open_source
from quickstudy.data.scan import any_files
from quickstudy.data.sources import listed_table
from quickstudy.data.stages import Stage, door
from quickstudy.data.table import Table
from quickstudy.errors import ConfigError, DataError, given
from quickstudy.image.box_columns import BoxFormat, box_file, boxes_table
from quickstudy.image.coco import coco_table
from quickstudy.image.masks import INSTANCES, Colors, masked_folder, read_mask, read_masks
from quickstudy.image.mixing import build_mix
from quickstudy.image.modality import Picture, load_image
from quickstudy.image.objects import Degenerate, instances_on_canvas, keypoints_on_canvas, objects_on_canvas
from quickstudy.image.via import via_file, via_table
from quickstudy.image.voc import voc_table
from quickstudy.image.yolo import yolo_table
from quickstudy.kinds.base import Kind
from quickstudy.kinds.detection import Detection, numbered, objects_of
from quickstudy.kinds.embedding import Embedding
from quickstudy.kinds.faces import Faces
from quickstudy.kinds.instances import InstanceSegmentation as Instances
from quickstudy.kinds.instances import Keypoints
from quickstudy.kinds.poses import Poses
from quickstudy.kinds.regression import Regression
from quickstudy.kinds.semantic import SemanticSegmentation as Pixels
from quickstudy.kinds.style import StyleTransfer as Style
from quickstudy.kinds.style import as_address
from quickstudy.modality.pixels import channels_last, whole_numbers
from quickstudy.modality.values import as_uint8
from quickstudy.nets.mtcnn import Cascade, load_trained
from quickstudy.training.datamodule import DataModule
from quickstudy.training.task import Classifier, Detector, Embedder, Regressor, Task

_NO_TILES = "tiles are of tasks that answer each pixel, SemanticSegmentationData: leave it out"


class ImageData(DataModule):
    """Pictures; see ``DataModule`` for the doors and ``DataOptions`` for the other options.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        image_size: pixels, one number for a square or (height, width): pictures are resized to cover it and cut to
            the centre. Default: as the model's training data, else 224. Tensors are fed as they are; pictures shown
            to a model that was trained on them are brought to their size.
        image_mode: ``"RGB"`` for three channels or ``"L"`` for one. Default: as the model's training data, else
            ``"RGB"``.
        image_depth: bits of a pixel in files that have room for 16: 8, 10, 12 or 16. Default: as the model's training
            data, else ``"auto"``: 16, with a warning where a picture uses fewer.
        options: see ``DataOptions``.
    """

    modality = Picture().with_options(Picture.usual)
    fixed: ClassVar[Mapping[str, str]] = dict.fromkeys(Picture.of_elements, _NO_TILES)

    def __init__(
        self,
        train: Table | None = None,
        val: Table | None = None,
        test: Table | None = None,
        predict: Table | None = None,
        image_size: int | tuple[int, int] | None = None,
        image_mode: Literal["RGB", "L"] | None = None,
        image_depth: Literal["auto", 8, 10, 12, 16] | None = None,
        **options: Any,
    ) -> None:
        train, val, test, predict = (_upright(table) for table in (train, val, test, predict))
        inputs = next((table.inputs for table in (train, val, test, predict) if table is not None), None)
        if isinstance(inputs, torch.Tensor) and inputs.ndim in (3, 4):
            channels, height, width = (1, *inputs.shape[1:])[-3:]
            image_size, image_mode = image_size or (height, width), image_mode or ("L" if channels == 1 else "RGB")
        options |= given(image_size=image_size, image_mode=image_mode, image_depth=image_depth)
        super().__init__(train, val, test, predict, **options)

    @door
    def from_images(cls, stage: Stage, images: Any, targets: Any) -> Table:
        """Read pictures in memory: PIL images, arrays, tensors or bytes, of any sizes.

        Args:
            images, targets: pictures, and as many targets, per stage.
            options: see the class.

        Raises:
            DataError: a target is missing, or there are more of the one than of the other.
        """
        return listed_table(cls.modality.listed(images), targets, list, skip=stage.skip, encode=cls.encode)


class ImageClassificationData(ImageData):
    """Pictures with labels; see ``ImageData``."""


class ImageEmbeddingData(ImageData):
    """Pictures, with labels or without; see ``ImageData``.

    Its doors need no targets, and its folders no class folders. Labels are for judging, and for the default strategy.
    """

    answers = Embedding


class ImageRegressionData(ImageData):
    """Pictures with numbers, such as an age; see ``ImageData``."""

    answers = Regression


class ObjectDetectionData(ImageData):
    """Pictures with objects in them; see ``ImageData``, and ``DataModule`` for the doors.

    A picture's objects are ``{"boxes": [M, 4], "labels": [M]}``, x and y of two corners in pixels of the file, and M
    ids or names of classes; there may be none. All of a picture is shown, as large as ``image_size`` has room for. A
    folder is of COCO's, Pascal VOC's or YOLO's form.
    """

    modality = Picture(320, resize="fit")
    answers: ClassVar[type[Kind]] = Detection
    read: ClassVar[Read] = staticmethod(objects_on_canvas)
    """Makes tensors of the objects of a picture."""

    @door
    def from_coco(
        cls,
        stage: Stage,
        folder: str | os.PathLike[str],
        ann_file: str | os.PathLike[str] | None = None,
        *,
        degenerate: Degenerate = "raise",
    ) -> Table:
        """Read pictures and COCO's annotations of them.

        Args:
            folder, ann_file: the folder or archive of pictures, and the JSON file; None: it lies in the folder.
            degenerate: what becomes of boxes without area: ``"raise"`` an error that names them, ``"drop"`` them.
            options: see the class.

        Raises:
            DataError: a file is missing or damaged, an id is unknown or there twice, or a box is none.
        """
        if stage.name == "predict":
            return any_files(folder, cls.modality.extensions)
        return coco_table(folder, ann_file, cls.modality.extensions, cls.encode, degenerate)

    @door
    def from_voc(
        cls,
        stage: Stage,
        folder: str | os.PathLike[str],
        split_file: str | os.PathLike[str] | None = None,
        *,
        degenerate: Degenerate = "raise",
    ) -> Table:
        """Read pictures and Pascal VOC's annotations of them.

        Args:
            folder, split_file: the folder or archive above ``JPEGImages`` and ``Annotations``, or where both lie beside
                each other; and a file of the names to take, as ``ImageSets/Main/train.txt``; None: all.
            degenerate: what becomes of boxes without area: ``"raise"`` an error that names them, ``"drop"`` them.
            options: see the class.

        Raises:
            DataError: a file is missing or damaged, or a box is none.
        """
        if stage.name == "predict":
            return any_files(folder, cls.modality.extensions)
        return voc_table(folder, cls.modality.extensions, cls.encode, split_file, degenerate)

    @door
    def from_yolo(
        cls,
        stage: Stage,
        folder: str | os.PathLike[str],
        *,
        names_file: str | os.PathLike[str] | None = None,
        degenerate: Degenerate = "raise",
        kpt_shape: Sequence[int] | None = None,
    ) -> Table:
        """Read pictures and YOLO's annotations of them: boxes, polygons with boxes around them, boxes with keypoints.

        Args:
            folder: the folder or archive of pictures and text files, ``images/`` and ``labels/`` or beside each other.
            names_file: ``data.yaml`` or ``classes.txt``; None: it is sought in the folder and above.
            degenerate: what becomes of boxes without area: ``"raise"`` an error that names them, ``"drop"`` them.
            kpt_shape: how many keypoints an object has, and 2 or 3 numbers of each, as ``(17, 3)``; ``(0, 0)``: it has
                none, and long lines are polygons. None: as ``data.yaml`` says.
            options: see the class.

        Raises:
            DataError: a file is missing or damaged, a box is none, or lines could be polygons as well as boxes with
                keypoints.
        """
        if stage.name == "predict":
            return any_files(folder, cls.modality.extensions)
        return yolo_table(folder, cls.modality.extensions, cls.encode, names_file, degenerate, kpt_shape)

    @door
    def from_via(
        cls,
        stage: Stage,
        folder: str | os.PathLike[str],
        ann_file: str | os.PathLike[str] | None = None,
        *,
        label_field: str | None = None,
        degenerate: Degenerate = "raise",
    ) -> Table:
        """Read pictures and VGG Image Annotator's annotations: boxes around rectangles, polygons, circles and ellipses.

        Args:
            folder, ann_file: the folder or archive of pictures, and the JSON or CSV file, which only those to predict
                need not have.
            label_field: the attribute of regions that is their class; None: the only one that they have.
            degenerate: what becomes of boxes without area: ``"raise"`` an error that names them, ``"drop"`` them.
            options: see the class.

        Raises:
            DataError: a file is missing or damaged, or a region is no object.
        """
        if stage.name == "predict":
            return any_files(folder, cls.modality.extensions)
        if ann_file is None:
            raise DataError(f"'{folder}' needs the file of its annotations: {stage.name}_ann_file='via.json'")
        return via_table(folder, ann_file, cls.modality.extensions, cls.encode, label_field, degenerate)

    @door
    def from_data_frame(  # type: ignore[override]  # other columns
        cls,
        stage: Stage,
        data_frame: Any,
        images_root: str | os.PathLike[str] | None = None,
        *,
        input_field: str | int | None = None,
        target_fields: str | int | None = None,
        box_fields: Sequence[str | int] | None = None,
        box_format: BoxFormat | None = None,
        degenerate: Degenerate = "raise",
    ) -> Table:
        """Read a pandas frame with a row for each box: the file of its picture, four numbers in pixels, and its class.

        A row without numbers says that its picture has no object.

        Args:
            input_field: the column with file names, relative to ``*_images_root``; None: the one that is called so.
            target_fields: the column with classes; None: the one that is called so, such as ``label``.
            box_fields: the four columns of a box; None: xmin, ymin, xmax, ymax, or x, y, w, h, or their like.
            box_format: ``"corners"``, or ``"size"`` for a corner, width and height; None: as the columns are called.
            degenerate: what becomes of boxes without area: ``"raise"`` an error that names them, ``"drop"`` them.
            data_frame, images_root: frame and root folder per stage.
            options: see the class.

        Raises:
            DataError: a column, a cell or a picture is missing, or a box is none; the message has its row, from 0.
        """
        return boxes_table(
            data_frame,
            partial(cls.modality.column, root=images_root, exist=not stage.skip),
            cls.encode,
            input_field,
            target_fields,
            box_fields,
            box_format,
            degenerate,
            stage.name == "predict",
            stage.skip,
        )

    @door
    def from_csv(  # type: ignore[override]  # other columns
        cls,
        stage: Stage,
        file: str | os.PathLike[str],
        images_root: str | os.PathLike[str] | None = None,
        *,
        input_field: str | int | None = None,
        target_fields: str | int | None = None,
        box_fields: Sequence[str | int] | None = None,
        box_format: BoxFormat | None = None,
        degenerate: Degenerate = "raise",
    ) -> Table:
        """Read a CSV file with a row for each box; see ``from_data_frame``. A root defaults to its folder.

        Args:
            input_field: the column with file names, relative to ``*_images_root``; None: the one that is called so.
            target_fields: the column with classes; None: the one that is called so, such as ``label``.
            box_fields: the four columns of a box; None: xmin, ymin, xmax, ymax, or x, y, w, h, or their like.
            box_format: ``"corners"``, or ``"size"`` for a corner, width and height; None: as the columns are called.
            degenerate: what becomes of boxes without area: ``"raise"`` an error that names them, ``"drop"`` them.
            file, images_root: comma-separated UTF-8 text whose first line names the columns, JSON or Parquet, and the
                root folder, per stage.
            options: see the class.

        Raises:
            DataError: a file is no such text; else as ``from_data_frame``.
        """
        root = Path(file).parent if images_root is None else images_root
        return boxes_table(
            file_frame(file, None),
            partial(cls.modality.column, root=root, exist=not stage.skip),
            cls.encode,
            input_field,
            target_fields,
            box_fields,
            box_format,
            degenerate,
            stage.name == "predict",
            stage.skip,
        )

    from_json = from_csv

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Annotations:
        """Take objects from memory."""
        return numbered(annotated(targets, cls.read, names))

    @classmethod
    def annotated_folder(cls, path: str | os.PathLike[str], endings: Collection[str]) -> Table:
        """Return the pictures of a folder with their objects, whichever form it has."""
        source = open_source(path)
        files = source.files()
        found = {Path(one).suffix.lower() for one in files}
        if (via := via_file(source, files)) is not None:
            return via_table(path, via, endings, cls.encode)
        if ".json" in found:
            return coco_table(path, None, endings, cls.encode)
        if ".xml" in found:
            return voc_table(path, endings, cls.encode)
        if (table := box_file(path)) is not None:
            column = partial(cls.modality.column, root=table.parent)
            return boxes_table(file_frame(table, None), column, cls.encode)
        if ".txt" in found:
            return yolo_table(path, endings, cls.encode)
        return cls.unannotated(path, endings)

    @classmethod
    def unannotated(cls, path: str | os.PathLike[str], endings: Collection[str]) -> Table:
        """Return the pictures of a folder without files of annotations, where something else tells of objects.

        Raises:
            DataError: nothing does.
        """
        raise DataError(
            f"'{path}' holds no annotations: a JSON file of COCO's form, JSON or CSV of VGG Image Annotator's, "
            "XML files of Pascal VOC's, text files of YOLO's, or a CSV file with a row for each box (file, xmin, ymin, "
            "xmax, ymax, label)"
        )


class InstanceSegmentationData(ObjectDetectionData):
    """Pictures with objects and the pixels of each; see ``ObjectDetectionData``.

    Beside boxes and labels there are M ``masks``: arrays of the picture's size, or COCO's polygons and run lengths. Or
    a picture's target is one mask whose numbers tell its objects apart, 0 for what is of none, all of class ``object``:
    an array, or a file in ``masks/`` or ``instances/`` beside ``images/``.
    """

    answers = Instances
    read = staticmethod(instances_on_canvas)

    @classmethod
    def unannotated(cls, path: str | os.PathLike[str], endings: Collection[str]) -> Table:
        """Return the pictures of a folder with masks whose numbers tell objects apart."""
        return masked_folder(path, endings, cls.encode, INSTANCES)


class KeypointDetectionData(ObjectDetectionData):
    """Pictures with objects and points of each; see ``ObjectDetectionData``.

    Beside boxes and labels there are ``keypoints`` ``[M, J, 3]``, x, y and whether it is labelled; COCO's files name
    them, and left and right ones change their places in a mirror.
    """

    answers = Keypoints
    read = staticmethod(keypoints_on_canvas)


class FaceDetectionData(ObjectDetectionData):
    """Pictures with boxes around faces; see ``ObjectDetectionData``.

    Those for which ``image_size`` has room are shown in their own pixels.
    """

    modality = Picture(1024, resize="shrink")
    answers = Faces


class StyleTransferData(ImageData):
    """Pictures to paint in a style; see ``ImageData``, and ``DataModule`` for the doors.

    They have no targets, and their folders no class folders. All of a picture is shown, as large as ``image_size`` has
    room for, and no larger than it is.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        options: see ``ImageData``.
    """

    modality = Picture(256, resize="shrink")
    answers = Style
    holds_targets = True

    def __init__(
        self,
        train: Table | None = None,
        val: Table | None = None,
        test: Table | None = None,
        predict: Table | None = None,
        **options: Any,
    ) -> None:
        train, val, test = (
            table if table is None else replace(table, annotations=self.answers.encode(range(len(table))))
            for table in (train, val, test)
        )
        super().__init__(train, val, test, predict, **options)


class SemanticSegmentationData(ImageData):
    """Pictures with a class of each pixel; see ``ImageData``, and ``DataModule`` for the doors.

    Masks are arrays ``[H, W]`` of ids, or files of grey levels or a palette, whose numbers are ids, of the size of
    their pictures. A folder has ``images/`` and ``masks/``, or ``a_mask.png`` beside ``a.jpg``. All of a picture is
    shown, as large as ``image_size`` has room for.

    Args:
        train, val, test, predict: the examples of each stage; the ``from_*`` doors make them.
        colors: of masks in colours, red, green and blue of each class by its name; other colours are of no class, and
            need ``ignore_index=255`` of the model.
        multi_label: whether a pixel may be of several classes, or of none: masks are arrays ``[C, H, W]`` then, lists
            of C masks, dicts of masks by class, or images whose channels or pages are the classes. A folder whose
            classes have masks of their own, ``masks/cat/a.png``, is read so without it.
        tile: of pictures that are too large to be shown at once, the side of square tiles in pixels, a multiple of 32:
            they are shown in their own pixels then, and ``image_size`` does not matter. Training is shown one tile of
            each picture, anywhere; validation, test and predictions go through all, see ``SemanticSegmentation``.
        tile_overlap: of tiles beside each other, as a share of their sides; default: a quarter.
        options: see ``ImageData``.
    """

    modality = Picture(256, resize="fit")
    answers = Pixels
    fixed: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        train: Table | None = None,
        val: Table | None = None,
        test: Table | None = None,
        predict: Table | None = None,
        colors: Colors | None = None,
        multi_label: bool = False,
        tile: int | None = None,
        tile_overlap: float | None = None,
        **options: Any,
    ) -> None:
        options |= given(tile=tile, tile_overlap=tile_overlap)
        if multi_label and colors is not None:
            raise ConfigError("colors tell one class of each pixel, and multi_label=True has several: leave one out")
        if multi_label:
            train, val, test = (_of_several(table) for table in (train, val, test))
        if colors is not None:
            read = partial(read_mask, colors=dict(colors))
            train, val, test = (
                table
                if table is None or table.annotations is None
                else replace(table, annotations=replace(table.annotations, read=read, names=tuple(colors)))
                for table in (train, val, test)
            )
        super().__init__(train, val, test, predict, **options)

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Annotations:
        """Take masks from memory, or the files that hold them."""
        return annotated(targets, read_mask, names)

    @classmethod
    def annotated_folder(cls, path: str | os.PathLike[str], endings: Collection[str]) -> Table:
        """Return the pictures of a folder with their masks."""
        return masked_folder(path, endings, cls.encode, by_label=True)


def _of_several(table: Table | None) -> Table | None:
    """Return a table whose masks are of several labels."""
    told = None if table is None else table.annotations
    if table is None or told is None or told.read is not read_mask:
        return table
    names = told.names or tuple(dict.fromkeys(name for item in told.items if isinstance(item, dict) for name in item))
    return replace(table, annotations=replace(told, read=partial(read_masks, names=names), names=names))


def _upright(table: Table | None) -> Table | None:
    """Return a table whose tensor has channels first, and uint8 for whole numbers."""
    if table is None or not isinstance(table.inputs, torch.Tensor) or table.inputs.ndim not in (3, 4):
        return table
    pixels = whole_numbers(table.inputs)
    if pixels.ndim == 4 and channels_last(pixels.shape[1:]) and min(pixels.shape[1:3]) > 4:
        if pixels.shape[3] in (2, 4):  # transparent ones, which become white
            mode: Literal["RGB", "L"] = "L" if pixels.shape[3] == 2 else "RGB"
            drawn = as_uint8(pixels) if pixels.is_floating_point() else pixels  # of one scale, that of all
            pixels = torch.stack([load_image(each, None, mode) for each in (pixels if drawn is None else drawn)])
        else:
            pixels = pixels.permute(0, 3, 1, 2)
    return table if pixels is table.inputs else replace(table, inputs=pixels)


class ImageTask(Task):
    """A task of pictures. The default backbone is timm's ``resnet18``."""

    modality = Picture()
    build_mix = staticmethod(build_mix)


class ImageClassifier(Classifier, ImageTask):
    """Classifies pictures; see ``Classifier`` for the arguments. The default backbone is timm's ``resnet18``."""


class ImageEmbedder(Embedder, ImageTask):
    """Embeds pictures; see ``Embedder`` for the arguments. The default backbone is timm's ``resnet18``."""


class ObjectDetector(Detector, ImageTask):
    """Finds objects in pictures; see ``Detector`` for the arguments. The default backbone is timm's resnet18."""

    modality = Picture(320, resize="fit")


class SemanticSegmentation(ImageTask):
    """Tells a class of each pixel; see ``Task`` for the arguments. The default backbone is timm's resnet18.

    Those of the answers are the options of ``kinds.semantic.SemanticSegmentation``. The backbone must make feature
    maps, as timm's do.
    """

    modality = Picture(256, resize="fit")
    answers = Pixels
    kind: Pixels


class InstanceSegmentation(ObjectDetector):
    """Finds objects and the pixels of each, by Mask R-CNN; see ``ObjectDetector``, whose options it has."""

    answers = Instances
    kind: Instances


class KeypointDetector(ObjectDetector):
    """Finds objects and points of each, by Keypoint R-CNN; see ``ObjectDetector``, whose options it has.

    Further ones are ``keypoint_names`` and ``spread``, see ``kinds.instances.Keypoints``.
    """

    answers = Keypoints
    kind: Keypoints


class FaceDetector(ObjectDetector):
    """Finds faces and five points of each, by the three trained networks of MTCNN: it is ready as it is made.

    ``predictor()`` answers at once. Further options are ``min_score``, ``min_face``, ``most`` and ``ignore``, see
    ``kinds.faces.Faces``. It is tested, and not trained: that is for ``ObjectDetector``, on faces of one's own.

    Args:
        pretrained: read the weights of the package facenet-pytorch; without them it finds nothing.
        weights: the file of its wheel; None: the package is installed, with ``--no-deps``.
        options: of ``Task``, and those further ones.

    Raises:
        MissingPackageError: the package is not installed; the message holds the commands.
        ConfigError: its files are damaged.
    """

    modality = Picture(1024, resize="shrink")
    default_backbone = "mtcnn"
    answers = Faces
    kind: Faces

    def __init__(
        self, *, pretrained: bool = True, weights: str | os.PathLike[str] | None = None, **options: Any
    ) -> None:
        super().__init__(pretrained=pretrained, **options)
        assert isinstance(self.head, Cascade)
        if pretrained:
            load_trained(self.encoder.backbone, self.head, weights)
            self.encoder.trained = True
        self.eval()
        self.load_options = dict(self.modality.options)


class StyleTransfer(ImageTask):
    """Paints pictures in the style of one; see ``Task`` for the arguments.

    Those of the answers are the options of ``kinds.style.StyleTransfer``, of which ``style`` is needed. The backbone is
    a network of its own, ``"restyling"``; ``network`` is what sees style and content, and is not trained.
    """

    modality = Picture(256, resize="shrink")
    default_backbone = "restyling"
    answers = Style
    kind: Style

    def __init__(self, *arguments: Any, style: Any = "", style_size: int = Style.style_size, **options: Any) -> None:
        style = as_address(style, style_size)  # Lightning compares what it is given, and arrays have no one answer
        super().__init__(*arguments, style=style, style_size=style_size, **options)


class ImageRegressor(Regressor, ImageTask):
    """Tells a number of each picture, such as an age; see ``Regressor``. The default backbone is timm's resnet18."""


class PoseEstimator(ObjectDetector):
    """Tells points of persons, such as elbows and knees, by a trained ViTPose of transformers: it is ready as made.

    ``predictor()`` answers at once, of one person whom the picture shows; ``estimate`` of each by the box around them,
    as a detector finds it. Further options are ``min_score``, ``spread`` and ``ignore``, see ``kinds.poses.Poses``. It
    is tested, and not trained: that is for ``KeypointDetector``.

    Args:
        backbone: its name on the Hugging Face Hub, such as ``"usyd-community/vitpose-base-simple"``, or its folder.
        options: of ``Task``, and those further ones.

    Raises:
        MissingPackageError: transformers, or scipy, is not installed.
        ConfigError: it cannot be had, or is damaged.
    """

    modality = Picture(1024, resize="shrink")
    default_backbone = "usyd-community/vitpose-base-simple"
    answers = Poses
    kind: Poses

    def estimate(self, pictures: Sequence[Any], boxes: Sequence[Any]) -> list[Any]:
        """Return the points of each person in N pictures, as ``predict`` of its predictor does.

        Args:
            pictures: paths, arrays, tensors.
            boxes: of each picture ``[M, 4]``, x and y of two corners in pixels of the file; answers are in their order.

        Raises:
            DataError: there are not as many, a picture cannot be read, or a box is none.
        """
        if len(pictures) != len(boxes):
            raise DataError(f"there are {len(pictures)} pictures and {len(boxes)} lists of boxes: each needs one")
        predictor, answers = self.predictor(), list[Any]()
        kind = replace(predictor.kind, min_score=1e-9)  # who gives a box asks for an answer
        for picture, own in zip(pictures, boxes, strict=True):
            corners = objects_of({"boxes": own, "labels": ["person"] * len(own)})["boxes"]
            inputs = stack([predictor.modality(picture)])
            inputs["boxes"] = corners[None] * (inputs["size"] / inputs["full"]).flip(-1).repeat(1, 2)[:, None]
            inputs = {name: leaf.to(predictor.device) for name, leaf in inputs.items()}
            with torch.inference_mode():
                answers += kind.answers(kind.outputs(predictor.encoder, predictor.head, inputs), "objects")
        return answers
