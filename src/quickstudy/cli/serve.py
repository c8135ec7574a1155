"""Answer over HTTP with a saved model, and let it learn classes where it was not trained on fixed ones."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from quickstudy.cli.models import device_of, find_model, load_task, model_here
from quickstudy.errors import ConfigError, DataError, require
from quickstudy.saved.model_folder import instead

if TYPE_CHECKING:
    from quickstudy.model import Model

_LOG = logging.getLogger("quickstudy.serve")
_CONNECTIONS = 1000
_RESERVED = 128  # files for what is not a connection
_FILES = 65_536  # more than any number of connections needs


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM (exit status 0) or Ctrl-C (130); what was asked for by then is answered."""
    loopback = args.host in ("localhost", "::1") or args.host.startswith("127.")
    token = _token(args.token_file)
    if token is None and not loopback:
        raise ConfigError(
            f"--host {args.host} can be reached from other machines: set a token, QUICKSTUDY_TOKEN=... or "
            "--token-file FILE, or keep to --host 127.0.0.1"
        )
    if not 0 <= args.port < 65536:
        raise ConfigError(f"--port {args.port}: it must be from 0 to 65535; 0 is any that is free")
    for name in ("batch_size", "max_images", "max_megabytes", "max_megapixels"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {getattr(args, name)}: it must be at least 1")
    device = device_of(args)
    uvicorn = require("uvicorn", "serve")
    for package in ("fastapi", "fastapi_offline", "limits", "python_multipart", "prometheus_client"):
        require(package, "serve")
    from quickstudy.serve.app import build
    from quickstudy.serve.decoding import Decoder, Limits
    from quickstudy.serve.gate import LOOPBACK, Rules
    from quickstudy.serve.page import Page
    from quickstudy.serve.service import Service

    hosts = dict.fromkeys((*LOOPBACK, args.host)) if loopback and token is None else ()
    rules = Rules(token, tuple(hosts), args.max_megabytes << 20, args.rate)
    limits = Limits(args.max_images, args.max_megapixels * 1_000_000)
    model, name = _model(args.model, device)
    with (
        _logged(),
        Service(model, device, args.batch_size, name=name) as service,
        _listening(args.host, args.port) as listening,
    ):
        page = None if args.no_page else Page(service, Decoder(service, limits), rules.max_bytes)
        app = build(service, rules, limits, page)
        host = f"[{args.host}]" if ":" in args.host else args.host
        url = f"http://{host}:{listening.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            proxy_headers="FORWARDED_ALLOW_IPS" in os.environ,  # else a caller on this machine could give any address
            limit_concurrency=most_connections(),
            timeout_graceful_shutdown=30,
        )
        server = uvicorn.Server(config)
        if page is not None:
            page.leaving = lambda: bool(server.should_exit)
        ended_by: list[int] = []

        def end(number: int, _: object) -> None:
            """Note who ends it: uvicorn hands on its signals after its own end, and before its start they come here."""
            ended_by.append(number)
            server.should_exit = True

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
        print(
            f"{model if isinstance(model, Path) else args.model}: {url} (programs: /docs; to stop: Ctrl-C)",
            file=sys.stderr,
            flush=True,
        )
        if service.replayed:
            _LOG.info("recovered: replayed %d changes, up to number %d", service.replayed, service.change_number)
        server.run([listening])
    return 130 if signal.SIGINT in ended_by else 0


def _model(typed: str, device: torch.device) -> tuple[Path | Model, str]:
    """Return the model to serve, or the folder that it follows; and a name where it has no folder."""
    here = model_here(typed)
    if here is None or here.saved:
        return _folder(typed), ""
    task = load_task(here.path, device)
    if task.procedure.by_class:
        strategy = task.hparams["training_strategy"]
        raise DataError(f"'{typed}' was trained with '{strategy}' and has no fixed classes{instead(here.path)}")
    return task.predictor(), here.path.parent.resolve().name


def _folder(typed: str) -> Path:
    """Return the folder to serve, which is its own: what a service learns goes there, and not into the Hub's cache."""
    if model_here(typed) or Path(typed).expanduser().is_dir():
        return Path(typed).expanduser()
    found, folder = find_model(typed), Path(typed)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.copytree(found.path, unfinished)
    unfinished.rename(folder)
    print(f"{typed} was copied from the Hugging Face Hub into this folder, where it learns", file=sys.stderr)
    return folder


@contextmanager
def _logged() -> Iterator[None]:
    """Write the service's log to standard error: a line for each change, for what was recovered, for what failed."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S%z"))
    _LOG.setLevel(logging.INFO)
    _LOG.addHandler(handler)
    try:
        yield
    finally:
        _LOG.removeHandler(handler)


def _token(file: str | None) -> str | None:
    if file is None:
        return os.environ.get("QUICKSTUDY_TOKEN") or None
    try:
        token = Path(file).read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file {file} cannot be read: {error}") from error
    if not token:
        raise ConfigError(f"--token-file {file} has an empty first line: write the token there")
    return token


def most_connections() -> int:
    """Raise the limit of open files as far as may be; return for how many connections they are."""
    if sys.platform == "win32":
        return _CONNECTIONS
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _FILES:
        return _CONNECTIONS
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    with suppress(OSError, ValueError):  # macOS has another limit, which it does not tell
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return min(_CONNECTIONS, max(soft - _RESERVED, soft // 2))


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(f"--host {host} --port {port}: {error}. Choose another port, or 0 for any") from error
