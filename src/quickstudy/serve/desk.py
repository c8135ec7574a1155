"""From a request to inputs."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile

from quickstudy.data.samples import Loaded
from quickstudy.errors import DataError, brief, closest, first_line
from quickstudy.modality import Wire
from quickstudy.serve.decoding import Decoder, File
from quickstudy.serve.schemas import sent, takes_files, told

_ADDRESS = re.compile(r"\s*data:[^,]*;base64,", re.IGNORECASE)


class Desk:
    """Takes inputs from requests, in threads of its own.

    Args:
        decoder: of what they hold.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._pool = ThreadPoolExecutor(os.cpu_count(), "quickstudy-decode")  # bounds the memory of decoding, too

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    async def inputs(self, request: Request) -> list[Loaded]:
        """Return the inputs in a request, as they are loaded.

        Raises:
            DataError: there are none, or too many, or one cannot be read.
            HTTPException: they come in no form that is known.
        """
        kind, wire = kind_of(request), self._decoder.wire
        if kind == "multipart/form-data":
            files = await self._from_form(request, wire.field)
        elif kind == "application/json":
            files = _from_json(await request.body(), wire, self._decoder.called)
        elif kind == "application/octet-stream" or any(fnmatchcase(kind, each) for each in wire.media):
            files = [File(await request.body())]
        else:
            typed = f"curl -F {wire.field}=@{'who.jpg' if wire.field == 'images' else 'file'}"
            forms = f"multipart/form-data ({typed}), {' or '.join(dict.fromkeys(('application/json', *wire.media)))}"
            raise HTTPException(415, f"send {self._decoder.called}s as {forms}, {not_as(kind)}")
        self._decoder.check(len(files))
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._decoder, files)

    async def marked(self, request: Request, marks: str) -> tuple[list[Loaded], list[bytes]]:
        """Return the inputs in a form, and what marks parts of each, in the form's files of that name.

        Raises:
            DataError: there are none, or too many, one cannot be read, or has no mark.
            HTTPException: they come in no form.
        """
        kind, field = kind_of(request), self._decoder.wire.field
        typed = f"curl -F {field}=@who.jpg -F {marks}=@who.png"
        if kind != "multipart/form-data":
            raise HTTPException(415, f"send {self._decoder.called}s with {marks} as a form ({typed}), {not_as(kind)}")
        files, marking = list[File](), list[bytes]()
        async with request.form(max_files=2 * self._decoder.limits.images, max_fields=0) as form:
            for name, each in form.multi_items():
                if isinstance(each, UploadFile) and name == field:
                    files.append(File(await each.read(), each.filename or ""))
                elif isinstance(each, UploadFile) and name == marks:
                    marking.append(await each.read())
        if len(files) != len(marking):
            raise DataError(f"{len(files)} {field} and {len(marking)} {marks}: each needs one, {typed}")
        self._decoder.check(len(files))
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._decoder, files), marking

    async def _from_form(self, request: Request, field: str) -> list[File]:
        most = self._decoder.limits.images
        async with request.form(max_files=most, max_fields=most) as form:
            return [
                File(await each.read(), each.filename or "") if isinstance(each, UploadFile) else File(each.encode())
                for each in form.getlist(field)
            ]


def kind_of(request: Request) -> str:
    """Return the media type of a request's body."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def not_as(kind: str) -> str:
    """Return in words that a body of a media type is not taken."""
    return f"not as '{kind}'" if kind else "and say so in content-type: this request has none"


Form = TypeVar("Form", bound=BaseModel)


def read_json(body: bytes, form: type[Form]) -> Form:
    """Return what a JSON body holds.

    Args:
        body: of a request.
        form: what it must hold, and nothing else.

    Raises:
        DataError: it does not, a name stands twice, or it is no JSON.
    """
    try:
        given = json.loads(body, strict=False, object_pairs_hook=_once)  # the base64 command breaks its lines
        for name in given if isinstance(given, dict) else ():
            if name not in form.model_fields:
                near, known = closest(name, form.model_fields), ", ".join(map(repr, form.model_fields))
                raise DataError(f"the body has {brief(name)}, which is not known{near} It takes: {known}")
        return form.model_validate(given)
    except ValidationError as error:
        raise DataError(told(error.errors()[0])) from error
    except DataError:
        raise
    except json.JSONDecodeError as error:
        raise DataError(f"Invalid JSON: {error}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        why = "it is no UTF-8" if isinstance(error, UnicodeDecodeError) else "it is nested too deeply"
        raise DataError(f"Invalid JSON: {why}") from error
    except ValueError as error:  # Python reads no whole number of so many digits
        raise DataError(
            f"Invalid JSON: it has a number of more than {sys.get_int_max_str_digits():,} digits"
        ) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, of whose names Python would take the last of several."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise DataError(f"the body has {brief(name)} twice in one object: give each name once")
        found[name] = value
    return found


def _from_json(body: bytes, wire: Wire, called: str) -> list[File]:
    values = getattr(read_json(body, sent(wire)), wire.field)
    if not takes_files(wire):
        return [File(value) for value in values]
    files = []
    for number, text in enumerate(values, 1):
        if not isinstance(text, str):
            files.append(File(text))
            continue
        try:
            files.append(File(base64.b64decode("".join(_ADDRESS.sub("", text, count=1).split()), validate=True)))
        except ValueError as error:
            raise DataError(f"{called} {number}: it is no base64: {first_line(error)}") from error
    return files
