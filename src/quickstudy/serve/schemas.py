"""What the service takes and gives, and how its description tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, Field, Strict, create_model

from quickstudy.modality import Wire

Class = str | bool | int
"""As it was taught: text, a whole number, or true and false."""


class Encoded(BaseModel):
    """Pictures in JSON."""

    images: list[str] = Field(
        min_length=1, description="files of pictures (JPEG, PNG, ...), each in base64 or as a data: address"
    )


def in_base64(wire: Wire) -> bool:
    """Whether an input is sent in JSON as the base64 of its file."""
    return wire.schema.get("contentEncoding") == "base64"


def takes_files(wire: Wire) -> bool:
    """Whether a text in JSON is the base64 of a file, where not all inputs are sent so."""
    return in_base64(wire) or any(one.get("contentEncoding") == "base64" for one in wire.schema.get("oneOf", ()))


def takes_texts(wire: Wire) -> bool:
    """Whether a text in JSON may be an input itself: where the schema does not say that it is something else."""
    told = wire.schema.keys() & {"type", "oneOf"}
    return not takes_files(wire) and (not told or "string" in wire.schema.get("type", ()))


@cache
def _sent(field: str, base64: bool) -> type[BaseModel]:
    if field == "images" and base64:
        return Encoded
    kind = list[str] if base64 else list[Any]
    about = "files, each in base64 or as a data: address" if base64 else "one each"
    fields: Any = {field: (kind, Field(min_length=1, description=about))}
    made: type[BaseModel] = create_model("Sent", **fields)
    return made


def sent(wire: Wire) -> type[BaseModel]:
    """Return the form of inputs in JSON."""
    return _sent(wire.field, in_base64(wire))


class Ranked(BaseModel):
    """A class that a picture may be of."""

    name: Class
    probability: float


class Near(BaseModel):
    """A support example near a picture."""

    name: Class
    number: int = Field(description="among the examples of its class, from 0")
    distance: float
    thumbnail: str = Field(description="a small JPEG in base64; empty where there is none")


class Predicted(BaseModel):
    """What is said of a picture."""

    label: Class = Field(description="the likeliest class, or 'unknown'")
    ranking: list[Ranked]
    nearest: list[Near]


class Predictions(BaseModel):
    """What is said of each picture, in their order."""

    predictions: list[Predicted]


class Answered(BaseModel):
    """What a model that does not learn says of a picture: a label, or a number."""

    label: Class | list[Class] | None = Field(
        None, description="the likeliest class; of several labels those above their thresholds"
    )
    ranking: list[Ranked] = []
    nearest: list[Near] = Field([], description="none, as it keeps no examples")
    number: float | None = None


class AllAnswered(BaseModel):
    """What is said of each picture, in their order."""

    predictions: list[Answered]


class Known(BaseModel):
    """A class."""

    name: Class
    examples: int


class Shown(Known):
    """A class that was shown examples."""

    warnings: list[str] = Field([], description="what looks wrong with these examples; left out where nothing does")


class Learned(BaseModel):
    """What was learned of numbers."""

    examples: int = Field(description="how many there are now")


class Classes(BaseModel):
    """A part of the classes, in the order in which they were learned."""

    total: int
    classes: list[Known]


class Accuracy(BaseModel):
    """How many held-out examples were given their own class."""

    accuracy: float | None = Field(description="from 0 to 1; null where there are none, or no other class")
    ci95: float | None = Field(description="how far its 95% interval (Wilson's) reaches")
    examples: int


class ClassAccuracy(Accuracy):
    """Of one class."""

    name: Class


class WholeAccuracy(Accuracy):
    """Of all classes."""

    by_class: list[ClassAccuracy] = Field(description="the weakest first, 1000 at most")
    source: str = Field(description="of the examples, in words")


class About(BaseModel):
    """What the model is."""

    name: str = Field(description="of its folder")
    written: str = Field(description="when it was last written whole; further changes may have been made since")
    strategy: str
    backbone: str | None = Field(description="its name; null where it was given as code")
    classes: int
    examples: int
    held_out_accuracy: WholeAccuracy


class AboutNumbers(BaseModel):
    """What a model is that learns numbers."""

    name: str = Field(description="of its folder")
    written: str = Field(description="when it was last written whole; further changes may have been made since")
    strategy: str
    backbone: str | None = Field(description="its name; null where it was given as code")
    classes: int = Field(description="none")
    examples: int


class AboutTrained(BaseModel):
    """What a model is that does not learn."""

    name: str = Field(description="of its folder, or its run's")
    written: str = Field(description="when it was saved; empty where it comes from a checkpoint")
    backbone: str | None = Field(description="its name; null where it was given as code")
    classes: int
    labels: list[str] = Field(description="the classes")
    thresholds: dict[str, float] = Field(
        {}, description="of several labels per input the probability above which one is named, where it is not 0.5"
    )


class Renamed(BaseModel):
    """Another name for a class."""

    name: Annotated[str, Field(min_length=1, max_length=256)] | Annotated[bool, Strict()] | Annotated[int, Strict()]


class State(BaseModel):
    """Whether the service lives, and answers."""

    status: str
    version: str


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


def bodies(wire: Wire) -> dict[str, Any]:
    """Return what OpenAPI says of the body of a request with inputs."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    form = {"type": "object", "required": [wire.field], "properties": {wire.field: files}}
    values = sent(wire).model_json_schema()
    if not in_base64(wire):
        values["properties"][wire.field]["items"] = dict(wire.schema)
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                "application/json": {"schema": values},
                **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in wire.media},
            },
        }
    }


def of_schema(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what OpenAPI says of answers that a kind has a schema of its own for."""
    predictions = {"type": "array", "items": dict(answer)}
    schema = {"type": "object", "required": ["predictions"], "properties": {"predictions": predictions}}
    return {"content": {"application/json": {"schema": schema}}}


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": why}
    for status, why in {
        400: "The request is damaged.",
        401: "The token is missing or wrong.",
        403: "It comes from a page of another site.",
        413: "It is too large.",
        415: "It holds no pictures in a form that is known.",
        422: "A picture or a value cannot be used.",
        429: "There are too many requests from one address.",
        503: "Too much is waiting, the changes cannot be read, or the service is shutting down.",
        507: "The change could not be written; nothing was changed.",
    }.items()
}
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "There is no such class."}}
TAKEN: dict[int | str, dict[str, Any]] = {409: {"model": Problem, "description": "There is another such class."}}


_WRONG = {
    "missing": "is missing",
    "string_type": "must be text, in quotes",
    "list_type": "must be a list, [...]",
    "int_parsing": "must be a whole number",
    "model_attributes_type": "must be a JSON object, {...}: a dictionary of names and values",
    "model_type": "must be a JSON object, {...}: a dictionary of names and values",
    "too_short": "must hold something",
}
"""By pydantic's kind of problem."""


def told(problem: Any) -> str:
    """Return what is wrong with a value that does not fit, and where it stands, in words of a request."""
    if problem["type"] == "json_invalid":
        return f"Invalid JSON: {problem['ctx']['error']}"
    part, *place = (
        problem["loc"] if problem["loc"][:1] in (("query",), ("path",), ("body",)) else ("body", *problem["loc"])
    )
    # What stands below a field by name is pydantic's own, of one type among several.
    named = "".join([*map(str, place[:1]), *(f"[{each}]" for each in place[1:] if isinstance(each, int))])
    shown = f"{named} in the {part}" if named else f"the {part}"
    wrong = _WRONG.get(problem["type"]) or re.sub(r"^(Input|String|List|Value) should", "must", problem["msg"])
    return f"{shown} {wrong}"
