"""Requests for the page that have no end do not keep a server that leaves."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from quickstudy.serve import page as pages


def test_a_request_that_is_held_open_ends_with_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    class Held:
        router = SimpleNamespace(lifespan_context=lambda app: nullcontext())

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            asked.set()
            await asyncio.Event().wait()

    async def asks_and_leaves() -> None:
        page: Any = pages.Page(None, None, 1)  # type: ignore[arg-type]
        monkeypatch.setattr(page, "_make", lambda folder: (Held(), SimpleNamespace(stop_event=asyncio.Event())))
        request = asyncio.create_task(page({"type": "http", "path": "/", "method": "GET"}, None, None))
        await asked.wait()
        page.leaving = lambda: True
        await request
        await page.close()

    asked = asyncio.Event()
    monkeypatch.setattr(pages, "_PATIENCE", 0.0)
    asyncio.run(asyncio.wait_for(asks_and_leaves(), 60))
