"""Checks of the conformance suite on the service: what is asked over HTTP is answered as the model answers."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from quickstudy.errors import brief, require
from quickstudy.modality import Wire
from quickstudy.model import Model
from quickstudy.testing.demands import demand, is_file

_MOST = 8
"""Items of a request."""


def check_served(folder: Path, model: Model, items: Sequence[Any], within: float) -> None:
    """Serve a saved model in this process, without a port, and ask it in every form that its inputs are sent in.

    Args:
        folder: where the model was saved.
        model: it, which answers by itself.
        items: some inputs, all of them files, or all such as JSON has; others do not travel.
        within: how far numbers may lie apart.

    Raises:
        NonconformingError: the service answers otherwise, or not at all.
        MissingPackageError: a package that serving needs is not installed.
    """
    wire, some = model.modality.wire, list(items[:_MOST])
    if wire is None:
        return
    for package in ("fastapi", "fastapi_offline", "limits", "python_multipart", "prometheus_client"):
        require(package, "serve")
    from quickstudy.serve.service import Service

    expected = [json.loads(json.dumps(model.kind.in_json(answer))) for answer in model.rank(some, 3)]
    with Service(folder) as service:
        for body in _bodies(wire, some):
            status, answer = _asked(service, body)
            demand(status == 200, "a service takes what the modality sends", f"{status}, {brief(answer)}")
            for item, one, other in zip(some, expected, answer["predictions"], strict=True):
                right = near(one, other, within)
                demand(
                    right, "a service answers as the model does", f"{brief(item)}: {brief(one)}, then {brief(other)}"
                )


def _bodies(wire: Wire, items: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Yield the requests that hold the items, as httpx takes them."""
    if all(map(is_file, items)):
        files = [Path(item) for item in items]
        yield {"files": [(wire.field, (file.name, file.read_bytes())) for file in files]}
        if wire.schema.get("contentEncoding") == "base64":
            yield {"json": {wire.field: [base64.b64encode(file.read_bytes()).decode() for file in files]}}
        return
    try:
        yield {"json": {wire.field: json.loads(json.dumps(list(items)))}}
    except (TypeError, ValueError):
        return


def _asked(service: Any, body: dict[str, Any]) -> tuple[int, Any]:
    """Return the status and the content of the answer to a request."""
    from quickstudy.serve.app import build

    httpx: Any = require("httpx", "serve")

    async def ask() -> tuple[int, Any]:
        application = httpx.ASGITransport(build(service))
        async with httpx.AsyncClient(transport=application, base_url="http://localhost") as client:
            answer = await client.post("/predict?top=3", **body)
        return answer.status_code, answer.json()

    with ThreadPoolExecutor(1) as thread:  # whoever checks may be within a loop of events, as notebooks are
        return thread.submit(asyncio.run, ask()).result()


def near(one: Any, other: Any, within: float) -> bool:
    """Whether answers are alike: numbers by how far they are apart, all else to the letter."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(near(one[name], other[name], within) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(near(*pair, within) for pair in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, (float, int)):
        return abs(one - other) <= within * max(1.0, abs(one))
    return bool(one == other)
