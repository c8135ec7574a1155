"""From a request to pictures."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

from fastapi import HTTPException, Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from torch import Tensor

from quickstudy.errors import DataError, first_line
from quickstudy.serve.decoding import Decoder, File
from quickstudy.serve.schemas import Encoded, told

_ADDRESS = re.compile(r"\s*data:[^,]*;base64,", re.IGNORECASE)


class Desk:
    """Takes pictures from requests, in threads of its own.

    Args:
        decoder: of what they hold.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._pool = ThreadPoolExecutor(os.cpu_count(), "quickstudy-decode")  # bounds the memory of decoding, too

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    async def pictures(self, request: Request) -> list[Tensor]:
        """Return the pictures in a request.

        Raises:
            DataError: there are none, or too many, or one cannot be read.
            HTTPException: they come in no form that is known.
        """
        kind = kind_of(request)
        if kind == "multipart/form-data":
            files = await self._from_form(request)
        elif kind == "application/json":
            files = _from_json(await request.body())
        elif kind.startswith("image/") or kind == "application/octet-stream":
            files = [File(await request.body())]
        else:
            raise HTTPException(415, f"send pictures as multipart/form-data, application/json or image/*, not '{kind}'")
        self._decoder.check(len(files))
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._decoder, files)

    async def _from_form(self, request: Request) -> list[File]:
        most = self._decoder.limits.images
        async with request.form(max_files=most, max_fields=most) as form:
            return [
                File(await each.read(), each.filename) if isinstance(each, UploadFile) else File(each.encode())
                for each in form.getlist("images")
            ]


def kind_of(request: Request) -> str:
    """Return the media type of a request's body."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _from_json(body: bytes) -> list[File]:
    try:
        texts = Encoded.model_validate(json.loads(body, strict=False)).images  # the base64 command breaks its lines
    except ValidationError as error:
        raise DataError(told(error.errors()[0])) from error
    except json.JSONDecodeError as error:
        raise DataError(f"Invalid JSON: {error}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        why = "it is no UTF-8" if isinstance(error, UnicodeDecodeError) else "it is nested too deeply"
        raise DataError(f"Invalid JSON: {why}") from error
    files = []
    for number, text in enumerate(texts, 1):
        try:
            files.append(File(base64.b64decode("".join(_ADDRESS.sub("", text, count=1).split()), validate=True)))
        except ValueError as error:
            raise DataError(f"picture {number}: it is no base64: {first_line(error)}") from error
    return files
