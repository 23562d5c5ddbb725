"""A page that is there until it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from modelkin.serving.wishes import Served, ServeWishes
from modelkin.settings import Settings
from modelkin.wishes import Listener
from modelkin_indexer.errors import ServeError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

NEEDS_EXTRA = "a page needs Starlette, uvicorn and python-multipart: pip install 'modelkin[serve]'"
MOST_AT_ONCE = 1024  # connections; who comes after them is told to come again
SECONDS_TO_END = 10  # that begun requests have when it is stopped


def served(settings: Settings, wishes: ServeWishes, listener: Listener, each: Callable[[Served], None]) -> Served:
    """Serve until somebody stops it (Ctrl-C, or a signal to end). `each` is told as soon as it is there.

    Raises:
        ServeError: what it needs is not installed, the address is taken, or tokens or answers have no place.
        RegistryError: the registry cannot be opened.
        ReportError: a language that there are no texts of.
        ValueError: wishes that contradict each other.
    """
    wishes = wishes.checked()
    try:
        import python_multipart  # noqa: F401  # Starlette reads forms with it, and says so only when one comes
        import uvicorn  # noqa: F401

        from modelkin.serving.application import application
        from modelkin.serving.site import Site
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("python_multipart", "starlette", "uvicorn"):
            raise
        raise ServeError(NEEDS_EXTRA) from error
    with Site(settings, wishes, listener) as site, listening_at(wishes) as listening:
        host, port = listening.getsockname()[:2]
        told = Served(
            url=f"http://{f'[{host}]' if ':' in host else host}:{port}/",
            registry=site.name,
            models=site.models,
            read_only=wishes.read_only,
            writing=site.allowed.writing,
            hub=site.allowed.hub,
            weights=wishes.weights,
            answers=str(site.kept.folder) if site.kept.lasts else None,
            requests=0,
        )
        guard = application(site)
        each(told)
        until_stopped(guard, listening)
        return replace(told, requests=guard.requests)


def until_stopped(app: ASGIApp, listening: socket.socket) -> None:
    """Answer what comes in there until a signal to end comes; one more ends it at once."""
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # a client could name any address as its own, and have that one's rate
            limit_concurrency=MOST_AT_ONCE,
            timeout_graceful_shutdown=SECONDS_TO_END,
        )
    )
    with suppress(KeyboardInterrupt):  # which uvicorn raises once all is answered: stopping it is no failure
        server.run(sockets=[listening])


def listening_at(wishes: ServeWishes) -> socket.socket:
    """A socket that is listened at. Raises ServeError where the address is taken, or is none."""
    family = socket.AF_INET6 if ":" in wishes.host else socket.AF_INET
    try:
        listening = socket.create_server((wishes.host, wishes.port), family=family, backlog=512)
        # asyncio does this itself only for sockets made with IPPROTO_TCP, which create_server leaves at 0; without, a body that follows its
        # headers waits for the other side's delayed acknowledgement, 40 ms. Connections inherit it.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        remedy = "Give another --port (0 takes a free one), or another --host."
        raise ServeError(f"{wishes.host}, port {wishes.port}: cannot be listened at ({why}). {remedy}") from error
