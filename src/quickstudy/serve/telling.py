"""Answers that tell of parts of an input, as a page says and shows them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from typing import Any

from quickstudy.kinds.base import Kind
from quickstudy.modality import Modality

_MOST = 50
"""Parts that are named."""


def parts_said(told: Mapping[str, Any]) -> str | None:
    """Return in words which parts an answer names, as HTML; None where it is of another form.

    Args:
        told: the answer, as ``Kind.in_json`` tells it: ``objects`` or ``entities``, each with a ``label``; ``masks`` of
            classes, each with its ``share``; or a ``picture``.

    >>> parts_said({"size": [2, 2], "masks": [{"label": "sky", "share": 0.75}, {"label": "<sea>", "share": 0.25}]})
    '<b>sky</b> 75%, <b>&lt;sea&gt;</b> 25%'
    >>> parts_said({"entities": [{"label": "person", "text": "Anna", "score": 0.981}]})
    'Anna <b>person</b> 98%'
    >>> parts_said({"objects": []})
    'Nothing was found.'
    """
    if "picture" in told:
        return ""
    parts = next((told[name] for name in ("objects", "entities", "masks") if isinstance(told.get(name), list)), None)
    if parts is None:
        return None
    said = []
    for part in parts[:_MOST]:
        quoted = f"{escape(str(part['text']))} " if "text" in part else ""
        number = part.get("share", part.get("score"))
        sure = "" if number is None else f" {number:.0%}"
        said.append(f"{quoted}<b>{escape(str(part['label']))}</b>{sure}")
    more = f", and {len(parts) - _MOST:,} more" if len(parts) > _MOST else ""
    return ", ".join(said) + more if said else "Nothing was found."


def parts_drawn(kind: Kind, modality: Modality, item: Any, told: Mapping[str, Any]) -> str:
    """Return an input with an answer drawn into it, as HTML; nothing where none is drawn into such inputs.

    Args:
        kind: of the answer.
        modality: of the input.
        item: the input as it was handed over.
        told: the answer, as ``Kind.in_json`` tells it.
    """
    if not (kind.drawn and modality.drawn_as == ".jpg"):
        return ""
    drawn = base64.b64encode(modality.draw(item, told, [*map(str, kind.labels)])).decode()
    return f'<img class="drawn" src="data:image/jpeg;base64,{drawn}" alt="The answer, drawn into what was asked about">'
