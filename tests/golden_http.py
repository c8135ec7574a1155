"""Requests to ``quickstudy serve`` and its answers, in tests/golden/http: ``python tests/golden_http.py`` writes more.

What is there already stays, so that a new request is added here and an old answer is not changed. Requests are made one
after the other to the model ``golden/format-1/nearest_neighbour``, which some of them change.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import httpx
import safetensors.torch
from PIL import Image

from quickstudy.serve.app import build
from quickstudy.serve.gate import Rules
from quickstudy.serve.service import Service

GOLDEN = Path(__file__).parent / "golden"
FOLDER = GOLDEN / "http"
JSON = {"content-type": "application/json"}


def pngs() -> list[str]:
    """Return pictures of the colours that the model knows, in base64."""
    found = []
    for image in safetensors.torch.load_file(GOLDEN / "format-1" / "pictures.safetensors")["asked"]:
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(content := io.BytesIO(), "PNG")
        found.append(base64.b64encode(content.getvalue()).decode())
    return found


def requests() -> dict[str, dict[str, Any]]:
    """Return what is asked, in this order: files are in base64, rules those of the service."""
    red, _, green, _, blue, _, white = pngs()
    predict, teach = {"method": "POST", "path": "/predict"}, {"method": "POST", "path": "/classes/grey/examples"}
    rename = {"method": "PATCH", "path": "/classes/grey", "headers": JSON}
    return {
        "healthz": {"method": "GET", "path": "/healthz"},
        "readyz": {"method": "GET", "path": "/readyz"},
        "classes": {"method": "GET", "path": "/classes"},
        "classes-part": {"method": "GET", "path": "/classes?start=1&count=2"},
        "model": {"method": "GET", "path": "/model"},
        "predict-files": {**predict, "files": [red, green]},
        "predict-json": {**predict, "json": {"images": [blue, "data:image/png;base64," + white]}},
        "predict-picture": {**predict, "content": green, "headers": {"content-type": "image/png"}},
        "predict-near": {**predict, "path": "/predict?top=1&nearest=2", "files": [red]},
        "teach-files": {**teach, "files": [white, blue]},
        "teach-json": {**teach, "json": {"images": [white]}},
        "rename": {**rename, "json": {"name": "a/b"}},
        "classes-changed": {"method": "GET", "path": "/classes"},
        "forget": {"method": "DELETE", "path": "/classes/a%2Fb"},
        "classes-again": {"method": "GET", "path": "/classes"},
        "400": {**predict, "content": "eA==", "headers": {"content-type": "multipart/form-data"}},
        "401": {"method": "GET", "path": "/classes", "rules": {"token": "secret"}},
        "403": {"method": "GET", "path": "/classes", "headers": {"origin": "http://evil.example"}},
        "404": {"method": "DELETE", "path": "/classes/purple"},
        "404-path": {"method": "GET", "path": "/nothing"},
        "405": {"method": "PUT", "path": "/predict"},
        "409": {"method": "PATCH", "path": "/classes/green", "headers": JSON, "json": {"name": "rouge"}},
        "413": {**predict, "files": [red], "rules": {"max_bytes": 10}},
        "415": {**predict},
        "422-picture": {**predict, "content": "eA==", "headers": {"content-type": "image/png"}},
        "422-query": {**predict, "path": "/predict?top=0", "files": [red]},
        "422-option": {**predict, "path": "/predict?topp=1", "files": [red]},
        "422-body": {**predict, "json": {"images": "x"}},
        "429": {"method": "GET", "path": "/classes", "rules": {"rate": "1/day"}, "times": 2},
        "openapi": {"method": "GET", "path": "/openapi.json"},
    }


def answered(service: Service, request: dict[str, Any]) -> dict[str, Any]:
    """Return the status, the kind and the body of an answer, without what each moment and version has of its own."""
    files = [("images", ("x.png", base64.b64decode(each))) for each in request.get("files", ())]
    body: dict[str, Any] = {"json": request["json"]} if "json" in request else {"files": files or None}
    if "content" in request:
        body = {"content": base64.b64decode(request["content"])}

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(build(service, Rules(**request.get("rules", {}))))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for _ in range(request.get("times", 1)):
                answer = await client.request(
                    request["method"], request["path"], headers=request.get("headers"), **body
                )
            return answer

    answer = asyncio.run(ask())
    told = answer.json() if answer.content else None
    if request["path"] == "/openapi.json":
        told = described(told)
    if isinstance(told, dict):
        told = {name: value for name, value in told.items() if name not in ("version", "written")}
    for each in told.get("predictions", ()) if isinstance(told, dict) else ():
        for near in each["nearest"]:  # JPEGs, which each library writes in its way
            near["thumbnail"] = list(Image.open(io.BytesIO(base64.b64decode(near["thumbnail"]))).size)
    return {"status": answer.status_code, "kind": answer.headers.get("content-type"), "body": told}


def described(document: dict[str, Any]) -> dict[str, Any]:
    """Return what an interface's description says programs may build on: paths, parameters, statuses, fields."""
    return {
        "paths": {
            f"{method.upper()} {path}": {
                "parameters": [f"{each['in']} {each['name']}" for each in operation.get("parameters", ())],
                "bodies": sorted(operation.get("requestBody", {}).get("content", ())),
                "answers": sorted(operation["responses"]),
            }
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        },
        "fields": {
            name: {"all": sorted(schema.get("properties", ())), "required": sorted(schema.get("required", ()))}
            for name, schema in sorted(document["components"]["schemas"].items())
        },
    }


def served(folder: Path) -> Service:
    """Return a service of a copy of the model."""
    copied = folder / "model"
    shutil.copytree(GOLDEN / "format-1" / "nearest_neighbour", copied, ignore=shutil.ignore_patterns("expected.json"))
    return Service(copied)


def main() -> None:
    """Write the exchanges that are not there yet."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as service:
        for number, (name, request) in enumerate(requests().items()):
            answer = answered(service, request)
            path = FOLDER / f"{number:02}-{name}.json"
            if not path.exists():
                path.write_text(json.dumps({"request": request, "answer": answer}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
