"""What the service takes and gives, and how its description tells it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, Strict

Class = str | bool | int
"""As it was taught: text, a whole number, or true and false."""


class Encoded(BaseModel):
    """Pictures in JSON."""

    images: list[str] = Field(min_length=1, description="files of pictures (JPEG, PNG, ...), each in base64")


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


class Known(BaseModel):
    """A class."""

    name: Class
    examples: int


class Classes(BaseModel):
    """A part of the classes, in the order in which they were learned."""

    total: int
    classes: list[Known]


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


PICTURES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
            "application/json": {"schema": Encoded.model_json_schema()},
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
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


def told(problem: Any) -> str:
    """Return what is wrong with a value that does not fit, and where it stands, in words."""
    place = ".".join(map(str, problem["loc"]))
    return f"{place}: {problem['msg']}" if place else str(problem["msg"])
