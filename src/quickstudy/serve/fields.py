"""The fields of the page that inputs are given in: files are chosen, sounds recorded too, text and JSON are typed.

A row of a table has a field for each of its columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from quickstudy.data.samples import Loaded
from quickstudy.errors import DataError, first_line
from quickstudy.serve.decoding import Decoder, File
from quickstudy.serve.schemas import takes_files

_IN_JSON = ", in JSON: one, or a list of them"
_TYPED = {"text": ", one a line", "json": _IN_JSON, "cells": ""}
"""Forms in which inputs are typed, and how several are."""
_MOST_CELLS = 60
"""Of a row, that have fields of their own."""
_FAMILIES = {"image", "audio", "video", "text"}
"""Of media types, those by which Gradio offers files."""


class Fields:
    """How inputs are given that travel in some way.

    Args:
        decoder: says in which, and makes inputs of what was given.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder, self._wire, self.noun = decoder, decoder.wire, decoder.called
        families = {media.partition("/")[0] for media in self._wire.media}
        if "image" in families:
            self._form = "picture"
        elif families == {"audio"}:
            self._form = "sound"
        elif takes_files(self._wire):
            self._form = "file"
        else:
            self._form = "text" if self._wire.schema.get("type") == "string" else "json"
        self._cells: Mapping[str, Any] = self._wire.schema.get("properties", {})
        if self._form == "json" and 0 < len(self._cells) <= _MOST_CELLS:
            self._form = "cells" if all("type" in cell for cell in self._cells.values()) else "json"
        self.typed = self._form in _TYPED
        """Whether they are; else they are chosen."""
        self._or_files = self._form == "json" and any("json" not in media for media in self._wire.media)
        self.places = {"sound": 2, "cells": len(self._cells) + 1}.get(self._form, 1 + self._or_files)
        """How many fields ``several`` makes."""

    def one(self) -> list[Any]:
        """Return the fields for an input that is asked about."""
        label = self.noun.capitalize()
        if self._form == "cells":
            return self._row("cell")
        if self.typed:
            return [self._text(label, "input"), *self._chosen("Or a file", "input-file")]
        if self._form == "file":
            return [gr.File(label=label, file_types=self._types(), height=170, elem_id="input")]
        if self._form == "sound":
            return [_sound(label, ["upload", "microphone"], "input")]
        picture = gr.Image(
            label=label,
            type="filepath",
            sources=["upload", "webcam", "clipboard"],
            height=260,
            buttons=[],
            elem_id="picture",
        )
        picture.preprocess = _path  # type: ignore[method-assign]  # the decoder's checks, not Gradio's, come first
        return [picture]

    def several(self) -> list[Any]:
        """Return the fields for the examples of a class; of sounds there is one to record in, too."""
        label = f"{self.noun.capitalize()}s of it{_TYPED.get(self._form, '')}"
        if self._form == "cells":
            cells = self._row("example")
            with gr.Accordion("Several at once", open=False):
                return [*cells, self._text(label + _IN_JSON, "examples")]
        if self.typed:
            return [self._text(label, "examples"), *self._chosen("Or files", "example-files", "multiple")]
        chosen = gr.File(label=label, file_count="multiple", file_types=self._types(), height=170, elem_id="examples")
        return [chosen, _sound("Or record one", ["microphone"], "recorded")] if self._form == "sound" else [chosen]

    def read(self, given: Sequence[Any], one: bool = False) -> list[Loaded]:
        """Return the inputs that fields hold; none where nothing was given.

        Args:
            given: what Gradio makes of each.
            one: whether they are the fields for one.

        Raises:
            DataError: there are too many, one cannot be used, or it is no JSON.
        """
        files: list[File | str] = []
        if self._form == "cells":
            row = {name: None if cell == "" else cell for name, cell in zip(self._cells, given, strict=False)}
            files = [File(row)] * any(cell is not None for cell in row.values())
            given = given[len(row) :]
        for place, each in enumerate(given):
            if self.typed and not (self._or_files and place):
                files += self._values((each or "").strip(), one)
            else:
                files += [each] if isinstance(each, str) else each or []
        if one and len(files) > 1:
            raise DataError(f"That is one {self.noun} in words and one in a file: leave one of them out.")
        if len(files) > self._decoder.limits.images:
            most = self._decoder.limits.images
            raise DataError(f"{len(files)} {self.noun}s are too many at once: choose up to {most}.")
        inputs = []
        for number, file in enumerate(files, 1):
            which = f"{self.noun.capitalize()} {number} of {len(files)}" if len(files) > 1 else f"The {self.noun}"
            try:
                inputs.append(self._decoder.one(File(Path(file).read_bytes(), file) if isinstance(file, str) else file))
            except DataError as error:
                raise DataError(f"{which} cannot be used: {error}") from error
            except OSError as error:
                raise DataError(f"{which} is no longer here: choose it again.") from error
        return inputs

    def _chosen(self, label: str, name: str, count: Any = "single") -> list[Any]:
        """Return a field for files beside one that is typed in, where such inputs are in files as well."""
        if not self._or_files:
            return []
        return [gr.File(label=label, file_count=count, file_types=self._types(), height=130, elem_id=name)]

    def _text(self, label: str, name: str) -> Any:
        return gr.Textbox(label=label, lines=6, max_lines=12, placeholder=self._example(), elem_id=name)

    def _row(self, name: str) -> list[Any]:
        """Return a field for each cell, of which those that stay empty are missing."""
        with gr.Row(elem_classes="cells"):
            return [
                _cell(column, schema, f"{name}-{place}") for place, (column, schema) in enumerate(self._cells.items())
            ]

    def _values(self, text: str, one: bool) -> list[File]:
        if not text or self._form == "text":
            return [File(part) for part in ([text] if one else text.splitlines()) if part.strip()]
        try:
            value = json.loads(text)
        except ValueError as error:
            raise DataError(f"That is no JSON: {first_line(error)}.") from error
        listed = isinstance(value, list) and not one
        if listed and self._wire.schema.get("type") == "array":  # one is a list itself
            listed = all(isinstance(each, list) for each in value)
        return [File(each) for each in (value if listed else [value])]

    def _types(self) -> list[str] | None:
        """Return which files are offered; None: any."""
        families = {media.partition("/")[0] for media in self._wire.media}
        return sorted(families) if families and families <= _FAMILIES else None

    def _example(self) -> str | None:
        """Return what stands in an empty field: an example, or the names of the values."""
        schema = self._wire.schema
        if self._form == "json" and schema.get("examples"):
            return json.dumps(schema["examples"][0])
        cells = {name: next(iter(cell.get("examples", [])), "...") for name, cell in self._cells.items()}
        return json.dumps(cells) if cells else None


def _cell(label: str, schema: Mapping[str, Any], name: str) -> Any:
    """Return a field for a number or a date, or for a word, which may be another than those that are offered."""
    looks: dict[str, Any] = {"label": label, "elem_id": name, "min_width": 130}
    number, examples = "string" not in schema["type"], schema.get("examples", [])
    if examples and not number and "format" not in schema:
        return gr.Dropdown(examples, value=None, allow_custom_value=True, **looks)
    example = f"such as {examples[0]:.4g}" if examples and number else next(iter(examples), None)
    # A field of Gradio for numbers begins with 0, which somebody else may not have meant.
    return gr.Textbox(placeholder=example, max_lines=1, **looks)


def _sound(label: str, sources: list[Any], name: str) -> Any:
    """Return a field for a sound, which the browser records as WAV, and plays."""
    sound = gr.Audio(label=label, type="filepath", sources=sources, editable=False, buttons=[], elem_id=name)
    sound.preprocess = _path  # type: ignore[method-assign]  # as above
    return sound


def _path(payload: Any) -> str | None:
    return None if payload is None else payload.path
