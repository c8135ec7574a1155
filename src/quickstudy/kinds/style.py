"""An answer is the picture itself, painted in the style of another.

Shapes: N pictures, H W pixels of the canvas that all are on, h w of a picture on it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.batches import Batch
from quickstudy.data.annotations import Annotations
from quickstudy.errors import ConfigError, check_above_zero, check_counts
from quickstudy.image.modality import load_image
from quickstudy.kinds.base import KINDS, Judged, Kind, Score
from quickstudy.kinds.losses import Loss, own_loss
from quickstudy.kinds.predictions import check_finite
from quickstudy.modality.thumbnails import from_tensor
from quickstudy.nets import Encoder
from quickstudy.nets.restyling import Painter, Perception

if TYPE_CHECKING:
    from quickstudy.kinds.metrics import Figures

_ADDRESS = "data:image/png;base64,"
_DIVIDED = 8
"""Sides of what is painted are multiples of it."""


@KINDS.register("style_transfer")
@dataclass(frozen=True)
class StyleTransfer(Kind):
    """The picture painted in a style: near it in content, and near the style in Gram matrices.

    Gatys et al. 2016, https://arxiv.org/abs/1508.06576; Johnson et al. 2016, https://arxiv.org/abs/1603.08155. Targets
    are the pictures themselves. The loss is a mean over pictures of the distance in content, ``style_weight`` times
    that in style (see ``Perception``), and ``smooth`` times the mean squared step between neighbouring pixels.

    Args:
        style: the picture of the style: a path, a PIL image, an array or a tensor; kept as the address of its data.
        style_size: pixels of its longer side.
        style_weight: of the distance in style.
        smooth: of the steps between pixels.
        network: what sees: any network of timm's that makes feature maps, such as ``"vgg16"``; by default that of
            ``quickstudy[offline]``.
        network_pretrained: whether it has its trained weights.
        content_stride, style_strides: of the feature maps that tell of content and of style, in pixels.
    """

    score: ClassVar[Score] = Score("perceptual_loss", "min")
    forms: ClassVar[tuple[str, ...]] = ("pictures",)
    schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "picture": {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"},
            "size": {"type": "array", "items": {"type": "integer"}},
        },
    }
    by_class: ClassVar[bool] = False
    annotates: ClassVar[bool] = True

    style: Any = ""
    style_size: int = 256
    style_weight: float = 1.0
    smooth: float = 0.1
    network: str = "efficientnet_lite0"
    network_pretrained: bool = True
    content_stride: int = 8
    style_strides: Sequence[int] = (2, 4, 8, 16)

    def __post_init__(self) -> None:
        check_counts(style_size=self.style_size, content_stride=self.content_stride)
        check_above_zero(style_weight=self.style_weight)
        if not self.smooth >= 0:
            raise ConfigError(f"smooth={self.smooth}: the weight of a loss is 0 or more")
        object.__setattr__(self, "style_strides", tuple(self.style_strides))
        object.__setattr__(self, "style", as_address(self.style, self.style_size))

    @classmethod
    def encode(cls, targets: Any, names: Sequence[str] | None = None) -> Annotations:
        """Take nothing of each picture, as it is its own target; see ``Kind.encode``."""
        return Annotations(range(len(targets)), _nothing)

    def meet(self, data: Any, stage: str) -> Self:
        """Return it as it is; see ``Kind.meet``.

        Raises:
            ConfigError: there is no style.
        """
        if not self.style:
            raise ConfigError("a picture of the style is needed: StyleTransfer(style='picture.jpg')")
        return self

    def perception(self) -> Perception:
        """Return what compares pictures."""
        return _perception(
            self.network, self.network_pretrained, self.content_stride, tuple(self.style_strides), self.style
        )

    def optimized(self, picture: Any, steps: int = 200, learning_rate: float = 0.02) -> Tensor:
        """Return a picture ``[3, H, W]``, uint8, whose pixels were changed to lower the loss, without a network that
        paints: slower, and nearer the style (Gatys et al. 2016).

        Args:
            picture: a path, a PIL image, an array or a tensor.
            steps, learning_rate: of Adam.
        """
        pixels: Any = load_image(picture)
        plain = _shares(pixels)[None].to(torch.get_default_dtype())
        painted = plain.clone().requires_grad_()
        optimizer = torch.optim.Adam([painted], lr=learning_rate)
        for _ in range(steps):
            optimizer.zero_grad()
            content, style = self.perception()(painted, plain)
            lost = (content + self.style_weight * style).sum() + self.smooth * _steps(painted[0])
            lost.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            with torch.no_grad():
                painted.clamp_(0, 1)
        return (painted.detach()[0] * 255).round().to(torch.uint8)

    # ---- the network

    def head(self, encoder: Encoder, example: Batch) -> nn.Module:
        """Make what paints by the features that the backbone makes of a picture."""
        pixels = torch.zeros_like(example["pixels"][:1, :, : 4 * _DIVIDED, : 4 * _DIVIDED])
        pixels = F.pad(pixels, (0, -pixels.shape[3] % _DIVIDED, 0, -pixels.shape[2] % _DIVIDED))
        with torch.no_grad(), encoder.evaluating():
            features = encoder.backbone(encoder.prepared(pixels))
        if not isinstance(features, Tensor) or features.ndim != 4:
            raise ConfigError(
                f"the backbone {type(encoder.backbone).__name__} makes no map [N, D, h, w]: leave backbone= out, or "
                "give a module that does"
            )
        return Painter(features.shape[1], pixels.shape[3] // features.shape[3])

    def outputs(self, encoder: Encoder, head: nn.Module, inputs: Batch) -> dict[str, Tensor]:
        """Return ``{"pictures": [N, 3, H, W]}`` of 0..1, and the sizes of what is painted of each."""
        pixels = inputs["pixels"]
        if torch.compiler.is_exporting():
            self.exported(None)
        painted = None
        for rows, shown in _by_size(pixels, inputs["size"]):
            height, width = shown.shape[2:]
            fill = (0, -width % _DIVIDED, 0, -height % _DIVIDED)
            features = encoder.backbone(F.pad(encoder.prepared(shown), fill, mode="replicate"))
            own = head(features)[:, :, :height, :width]
            if len(rows) == len(pixels) and own.shape[2:] == pixels.shape[2:]:
                painted = own
                break
            own = F.pad(own, (0, pixels.shape[3] - width, 0, pixels.shape[2] - height))
            painted = own.new_zeros(len(pixels), *own.shape[1:]) if painted is None else painted
            painted = painted.index_add(0, rows, own)
        assert painted is not None
        return {"pictures": painted, "size": inputs["size"]}

    # ---- how well it does

    def loss(self, asked: str | Loss | None, otherwise: Loss | None = None) -> Loss:
        """Return nothing that is called: the loss is of what a network sees.

        Raises:
            ConfigError: another is asked for.
        """
        return own_loss(asked, "here set style_weight, smooth and network")

    def judge(self, encoder: Encoder, head: nn.Module, inputs: Batch, targets: Any, loss: Loss) -> Judged:
        """Paint a batch, and judge it by what it shows; see ``Kind.judge``."""
        outputs = self.outputs(encoder, head, inputs)
        own = {"pixels": inputs["pixels"], "size": inputs["size"]}
        parts = self._parts(outputs["pictures"], own)
        steps = torch.stack([_steps(one[:, :h, :w]) for one, (h, w) in _each(outputs["pictures"], own["size"])])
        lost = parts[:, 0].mean() + self.smooth * steps.mean()
        if head.training:  # figures would ask the network twice more
            return Judged(lost, len(own["size"]), {}, own, self.figures({}, own))
        return Judged(lost, len(own["size"]), outputs, own, self.figures(outputs, own))

    def _parts(self, painted: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Return ``[N, 3]``: distances in content and style together, and each."""
        found, order = [], []
        for rows, pixels in _by_size(targets["pixels"], targets["size"]):
            height, width = pixels.shape[2:]
            content, style = self.perception()(painted[rows, :, :height, :width], _shares(pixels))
            found.append(torch.stack([content + self.style_weight * style, content, style], 1))
            order.append(rows)
        return torch.cat(found)[torch.cat(order).argsort()]

    @torch.no_grad()
    def figures(self, outputs: Any, targets: Mapping[str, Tensor]) -> Tensor:
        """Return ``[N, 7]``: the loss, its content and style; then the loss and style of the picture as it is, and the
        loss and content of one of the style's mean colour."""
        if not outputs:
            return targets["pixels"].new_empty(0, dtype=torch.float32)
        painted = outputs["pictures"]
        plain = _shares(targets["pixels"]).to(painted)
        colour = _shares(_picture_of(self.style)).mean((1, 2)).to(painted)
        flat = colour[:, None, None].expand_as(painted)
        own, itself, mean = (self._parts(each, targets) for each in (painted, plain, flat))
        return torch.cat([own, itself[:, ::2], mean[:, :2]], 1)

    def noted(self, outputs: Any, targets: Any) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the losses of pictures; see ``Kind.noted``."""
        return self.figures(outputs, targets)[:, 0], None, None

    def measure(self, per_example: bool, choices: int = 0) -> Figures:
        """Return the means of what ``figures`` tells; see ``Kind.measure``."""
        from quickstudy.kinds.metrics import Means  # torchmetrics takes long to import, and answering needs none

        names = "content_loss", "style_loss", "unchanged_loss", "unchanged_style", "mean_colour_loss"
        return Means((self.score.name, *names, "mean_colour_content"), per_example)

    # ---- answers

    @property
    def drawn(self) -> bool:
        """An answer is to be seen."""
        return True

    def answers(self, outputs: Mapping[str, Tensor], form: str) -> Any:
        """Return N pictures ``[3, h, w]``, uint8.

        Raises:
            DataError: one is no number.
        """
        check_finite(outputs["pictures"].isfinite().flatten(1).all(1))
        whole = (outputs["pictures"].detach().float() * 255).round().clamp(0, 255).to(torch.uint8).cpu()
        return [one[:, :height, :width].contiguous() for one, (height, width) in _each(whole, outputs["size"])]

    def in_json(self, answer: Tensor) -> dict[str, Any]:
        """Return the picture as PNG in base64, and its height and width; see ``Kind.in_json``."""
        return {"picture": _png(answer), "size": list(answer.shape[1:])}

    def written(self, answer: Tensor, file: str, true: Any = None, top: int = 1, unknown: bool = True) -> list[Any]:
        """Return one row, with the height and width of what is painted; see ``Kind.written``."""
        return [self.row(file, {"size": list(answer.shape[1:])})]

    def exported(self, outputs: Any) -> Tensor:
        """Say that pictures differ in size.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("pictures are painted in their own sizes, which no graph holds: save(folder) keeps the model")


def as_address(picture: Any, side: int) -> str:
    """Return a picture as the address of its data, with so many pixels on its longer side; nothing, and one, as it is.

    Args:
        picture: a path, a PIL image, an array or a tensor; or such an address.
        side: pixels.
    """
    if isinstance(picture, str) and (not picture or picture.startswith(_ADDRESS)):
        return picture
    shown: Any = load_image(picture, side, resize="fit")
    height, width = shown["size"].tolist()
    return _ADDRESS + _png(shown["pixels"][:, :height, :width])


def _nothing(item: Any, example: Batch | None) -> Tensor:
    """Return the target of a picture, which is itself."""
    return torch.zeros(1)


def _png(pixels: Tensor) -> str:
    content = io.BytesIO()
    from_tensor(pixels).convert("RGB").save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def _picture_of(address: str) -> Tensor:
    pixels: Any = load_image(base64.b64decode(address.removeprefix(_ADDRESS)))
    found: Tensor = pixels
    return found


@lru_cache(maxsize=4)
def _perception(network: str, pretrained: bool, content: int, style: tuple[int, ...], address: str) -> Perception:
    return Perception(network, pretrained, content, style, _picture_of(address))


def _shares(pixels: Tensor) -> Tensor:
    """Return pixels as numbers of 0..1."""
    return pixels if pixels.is_floating_point() else pixels / 255


def _each(pictures: Tensor, sizes: Tensor) -> Iterator[tuple[Tensor, list[int]]]:
    return zip(pictures, sizes.tolist(), strict=True)


def _by_size(pixels: Tensor, sizes: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the pictures of each size, without what fills their canvas up, and their rows."""
    for height, width in dict.fromkeys(map(tuple, sizes.tolist())):
        rows = (sizes == sizes.new_tensor([height, width])).all(1).nonzero().flatten()
        yield rows, pixels[rows, :, :height, :width]


def _steps(picture: Tensor) -> Tensor:
    """Return the mean squared step between neighbouring pixels of a picture ``[3, h, w]``."""
    return (picture.diff(dim=1).square().sum() + picture.diff(dim=2).square().sum()) / picture.numel()
