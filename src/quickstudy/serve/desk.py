"""From a request to inputs."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase

from fastapi import HTTPException, Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from quickstudy.data.samples import Loaded
from quickstudy.errors import DataError, first_line
from quickstudy.modality import Wire
from quickstudy.serve.decoding import Decoder, File
from quickstudy.serve.schemas import in_base64, sent, told

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
            forms = f"multipart/form-data, application/json or {' or '.join(wire.media)}"
            raise HTTPException(415, f"send {self._decoder.called}s as {forms}, not '{kind}'")
        self._decoder.check(len(files))
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._decoder, files)

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


def _from_json(body: bytes, wire: Wire, called: str) -> list[File]:
    try:
        given = json.loads(body, strict=False)  # the base64 command breaks its lines
        values = getattr(sent(wire).model_validate(given), wire.field)
    except ValidationError as error:
        raise DataError(told(error.errors()[0])) from error
    except json.JSONDecodeError as error:
        raise DataError(f"Invalid JSON: {error}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        why = "it is no UTF-8" if isinstance(error, UnicodeDecodeError) else "it is nested too deeply"
        raise DataError(f"Invalid JSON: {why}") from error
    if not in_base64(wire):
        return [File(value) for value in values]
    files = []
    for number, text in enumerate(values, 1):
        try:
            files.append(File(base64.b64decode("".join(_ADDRESS.sub("", text, count=1).split()), validate=True)))
        except ValueError as error:
            raise DataError(f"{called} {number}: it is no base64: {first_line(error)}") from error
    return files
