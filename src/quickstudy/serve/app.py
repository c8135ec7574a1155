"""The service's HTTP interface."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from quickstudy import __version__
from quickstudy.errors import (
    ConfigError,
    DataError,
    QuickstudyError,
    TakenError,
    UnknownClassError,
    check_options,
    closest,
    one_line,
)
from quickstudy.serve.decoding import Decoder, Limits
from quickstudy.serve.desk import Desk, kind_of, not_as, read_json
from quickstudy.serve.gate import Gate, Rules, hung_up
from quickstudy.serve.metrics import Metrics
from quickstudy.serve.page import Page
from quickstudy.serve.schemas import (
    REFUSALS,
    TAKEN,
    UNKNOWN,
    About,
    AboutNumbers,
    AboutTrained,
    AllAnswered,
    Classes,
    Learned,
    Predictions,
    Renamed,
    Shown,
    State,
    bodies,
    of_schema,
    told,
)
from quickstudy.serve.service import BusyError, Service, UnwrittenError

_STATUS = {
    UnknownClassError: 404,
    TakenError: 409,
    DataError: 422,
    ConfigError: 422,
    BusyError: 503,
    OSError: 503,
    UnwrittenError: 507,
}
_MOST_CLASSES = 1000  # in one answer
_LEARNS = ", says when it does not know, and learns a class from a few examples"
_LEFT = ("/", "/examples", "/classes", "/classes/", "/classes/examples")
"""Paths of a class called '..' or '.' without it."""
_JSON = re.compile(r"application/(.+\+)?json")
_LOG = logging.getLogger(__name__)


Name = Annotated[str, Path(min_length=1, max_length=256, description="of a class; any characters, slashes too")]


class AnyName(PathConvertor):
    """Slashes and line breaks are parts of a name."""

    regex = r"[\s\S]*"


register_url_convertor("any", AnyName())


def build(service: Service, rules: Rules | None = None, limits: Limits | None = None, page: Page | None = None) -> Gate:
    """Return the application that asks and changes a service's model; the service is closed with it.

    Args:
        service: what answers.
        rules: what requests must pass.
        limits: of one request's pictures.
        page: for people, at ``/``; it is closed with the service.
    """
    metrics = Metrics(service)
    decoder = Decoder(service, limits or Limits())
    desk, body = Desk(decoder), bodies(decoder.wire)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if page is not None:
            await page.close()
        await asyncio.to_thread(service.close)
        desk.close()

    app = FastAPIOffline(
        redoc_url=None,
        static_url="/docs/static",
        swagger_ui_parameters={"validatorUrl": None},  # another host's, which Swagger would show the description
        title="quickstudy",
        version=__version__,
        description=_described(service, decoder.called),
        dependencies=[Depends(_checked)],
        lifespan=lifespan,
        responses=REFUSALS,
    )
    for error in _STATUS:
        app.add_exception_handler(error, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ClientDisconnect, hung_up)
    app.add_exception_handler(404, _astray)
    app.add_exception_handler(405, _astray)

    @app.get("/healthz", tags=["state"], responses={200: {"model": State}})
    async def alive() -> Response:
        """Say that the process lives."""
        return JSONResponse({"status": "alive", "version": __version__})

    @app.get("/readyz", tags=["state"], responses={200: {"model": State}})
    async def ready() -> Response:
        """Say whether it answers; 503 where it does not."""
        if not service.ready:
            raise BusyError("the service is shutting down")
        return JSONResponse({"status": "ready", "version": __version__})

    @app.get("/metrics", tags=["state"], response_class=Response)
    async def measured() -> Response:
        """Return counters and times for Prometheus."""
        return Response(metrics.text(), media_type=metrics.media_type)

    kind = service.kind
    models: tuple[type[BaseModel], type[BaseModel]] = (AllAnswered, AboutNumbers if service.learns else AboutTrained)
    if service.by_class:
        models = (Predictions, About)
    answers = of_schema(kind.schema) if kind.schema else {"model": models[0]}

    @app.post("/predict", tags=["pictures"], responses={200: answers}, openapi_extra=body)
    async def predict(
        request: Request,
        top: Annotated[int, Query(ge=1, le=100, description="how many of the likeliest classes to name")] = 5,
        nearest: Annotated[int, Query(ge=0, le=20, description="how many of the nearest examples to show")] = 0,
    ) -> Response:
        """Classify pictures."""
        inputs = await desk.inputs(request)
        found = await asyncio.wrap_future(service.predict(inputs, top, nearest))
        return JSONResponse({"predictions": [kind.in_json(each) for each in found]})

    @app.get("/model", tags=["classes"], responses={200: {"model": models[1]}})
    async def about() -> Response:
        """Say what the model is, and what accuracy to expect on pictures that come as its examples came."""
        return JSONResponse(await asyncio.wrap_future(service.about()))

    if service.by_class:
        _add_classes(app, service, desk, body)
    elif service.learns:
        _add_examples(app, service, desk, body)
    if page is not None:
        app.router.default = page  # a mount would answer a known path with a wrong method, too
    gate = Gate(app, rules or Rules(), metrics.request)
    metrics.under_way.set_function(lambda: gate.under_way)
    return gate


def _add_classes(app: FastAPI, service: Service, desk: Desk, body: dict[str, Any]) -> None:
    """Add what names, teaches and forgets classes."""

    @app.get("/classes", tags=["classes"], responses={200: {"model": Classes}})
    async def classes(
        start: Annotated[int, Query(ge=0, le=1 << 31, description="how many classes to leave out")] = 0,
        count: Annotated[int, Query(ge=1, le=_MOST_CLASSES, description="how many to name")] = _MOST_CLASSES,
    ) -> Response:
        """Name the classes that are known."""
        known = await asyncio.wrap_future(service.classes())
        part = [{"name": name, "examples": number} for name, number in list(known.items())[start : start + count]]
        return JSONResponse({"total": len(known), "classes": part})

    @app.post("/classes/{name:any}/examples", tags=["classes"], responses={200: {"model": Shown}}, openapi_extra=body)
    async def teach(request: Request, name: Name) -> Response:
        """Show examples of a class, known or new; it is on the disk when the answer comes."""
        if service.marks:
            inputs, marks = await desk.marked(request, service.marks)
            taught = await _certain(service.teach(name, inputs, _caller(request), marks))
        else:
            taught = await _certain(service.teach(name, await desk.inputs(request), _caller(request)))
        known = {"name": await asyncio.wrap_future(service.as_class(name)), "examples": taught.examples}
        return JSONResponse({**known, "warnings": taught.warnings} if taught.warnings else known)

    @app.delete("/classes/{name:any}", tags=["classes"], status_code=204, responses=UNKNOWN)
    async def forget(request: Request, name: Name) -> Response:
        """Forget a class; it is on the disk when the answer comes."""
        await _certain(service.forget(name, _caller(request)))
        return Response(status_code=204)

    @app.patch("/classes/{name:any}", tags=["classes"], status_code=204, responses={**UNKNOWN, **TAKEN})
    async def rename(request: Request, name: Name, new: Renamed) -> Response:
        """Call a class by another name; it is on the disk when the answer comes."""
        if not _JSON.fullmatch(kind := kind_of(request)):
            raise HTTPException(415, _in_json(kind))
        new = read_json(await request.body(), Renamed)  # again, for what must not be in it
        await _certain(service.rename(name, new.name, _caller(request)))
        return Response(status_code=204)


def _add_examples(app: FastAPI, service: Service, desk: Desk, body: dict[str, Any]) -> None:
    """Add what shows examples with numbers."""

    @app.post("/examples", tags=["examples"], responses={200: {"model": Learned}}, openapi_extra=body)
    async def show(
        request: Request,
        number: Annotated[list[float], Query(description="of each example, in their order: ?number=1.5&number=2")],
    ) -> Response:
        """Show examples with their numbers; they are on the disk when the answer comes."""
        inputs = await desk.inputs(request)
        return JSONResponse({"examples": await _certain(service.show(inputs, number, _caller(request)))})


def _described(service: Service, called: str) -> str:
    """Say what the service does."""
    if service.learns and not service.by_class:
        return f"Tells a number of each of some {called}s, and learns it from a few examples."
    does = "Classifies" if service.by_class or service.kind.labels else "Answers"
    return f"{does} {called}s{_LEARNS if service.learns else ''}."


def _caller(request: Request) -> str:
    return request.client.host if request.client else ""


async def _certain(future: Future[Any]) -> Any:
    """Wait for a change; a caller who hangs up does not undo it half-way."""
    return await asyncio.shield(asyncio.wrap_future(future))


async def _refused(_: Request, error: Exception) -> Response:
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    headers = {"retry-after": "1"} if status == 503 else None
    told = str(error)
    if not isinstance(error, QuickstudyError):
        _LOG.error("a request was refused: %s", error)
        why = getattr(error, "strerror", None)
        told = f"the service could not use its files{f' ({why})' if why else ''}: try again; its log says more"
    return JSONResponse({"detail": told}, status, headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problem, kind = error.errors()[0], kind_of(request)
    if problem["loc"] == ("body",) and not _JSON.fullmatch(kind):
        return JSONResponse({"detail": _in_json(kind)}, 415)
    return JSONResponse({"detail": told(problem)}, 422)


def _in_json(kind: str) -> str:
    typed = """curl -H 'content-type: application/json' -d '{"name": "yak"}'"""
    return f"send the body with content-type: application/json ({typed}), {not_as(kind)}"


async def _astray(request: Request, error: Exception) -> Response:
    """Say what there is in place of a path that there is not, or of a method that its path does not take."""
    routes = [route for route in request.app.routes if isinstance(route, APIRoute) and route.include_in_schema]
    taken = {name for route in routes if route.matches(request.scope)[0] != Match.NONE for name in route.methods or ()}
    methods = sorted(taken) or re.findall(r"\w+", (getattr(error, "headers", None) or {}).get("allow", ""))
    path, docs = request.scope["path"], "GET /docs describes them"
    if methods:
        told = f"{one_line(path)} takes no {request.method}: ask with {' or '.join(methods)}; {docs}"
        there = [route.path_format for route in routes if route.matches(request.scope)[0] != Match.NONE]
        below = [route for route in routes if request.method in (route.methods or ()) and _below(route, there)]
        if below:
            told = f"{told}. Or do you mean {' or '.join(f'{request.method} {each.path_format}' for each in below)}?"
    else:
        known = ", ".join(f"{name} {route.path_format}" for route in routes for name in sorted(route.methods or ()))
        near = closest(path, [route.path_format for route in routes])
        told = f"there is no {request.method} {one_line(path)}{near} There are: {known}; {docs}"
    if path in _LEFT and request.method != "GET":
        told += ". Most programs cut '..' and '.' out of a path: for a class that is called so, curl --path-as-is"
    return JSONResponse({"detail": told}, 405 if methods else 404, {"allow": ", ".join(methods)} if methods else None)


def _below(route: APIRoute, paths: Sequence[str]) -> bool:
    """Whether a path goes on where another ends."""
    return any(route.path_format.startswith(f"{path}/") for path in paths)


async def _checked(request: Request) -> None:
    """Refuse what would be taken for something else.

    Raises:
        ConfigError: the query has a parameter that the path does not take.
        DataError: the path is no UTF-8; names that differ would become one.
    """
    route = request.scope["route"]
    if "state" in route.tags:  # which probes and collectors may ask as they are used to
        return
    known = [each.alias for each in route.dependant.query_params]
    asked = f"{request.method} {request.url.path}"
    if request.query_params and not known:
        raise ConfigError(f"{asked} takes nothing in its query")
    check_options(f"the query of {asked}", request.query_params, known)
    try:
        unquote_to_bytes(request.scope["raw_path"]).decode()
    except UnicodeDecodeError as error:
        raise DataError("the path is no UTF-8: write names in UTF-8, and that in %xx") from error
