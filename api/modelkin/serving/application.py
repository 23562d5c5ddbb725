"""Every address of a page, and what becomes of errors."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelkin.errors import Failure
from modelkin.serving import interface, openapi, pages
from modelkin.serving.incoming.guards import Guard
from modelkin.serving.incoming.refusals import Refusal, told
from modelkin.serving.interface import JSON, Handler
from modelkin.serving.site import Site, whole

PAGES: tuple[tuple[str, Handler, tuple[str, ...]], ...] = (
    ("/", pages.home, ("GET",)),
    ("/search", pages.search, ("GET",)),
    ("/models", pages.models, ("GET",)),
    ("/model", pages.model, ("GET",)),
    ("/relatives", pages.relatives, ("GET",)),
    ("/tree", pages.tree, ("GET",)),
    ("/ask", pages.ask, ("POST",)),
    ("/compare", pages.compare, ("GET", "POST")),
    ("/answers/{digest}", pages.answer, ("GET",)),
    ("/registry", pages.registry, ("GET",)),
    ("/api", pages.interface, ("GET",)),
)


def application(site: Site) -> Guard:
    """All of it as an ASGI application."""
    routes = [Route(path, _handled(site, handler), methods=list(methods)) for path, handler, methods in PAGES]
    routes += [Route(one.path, _handled(site, interface.checked(one)), methods=[one.method]) for one in interface.OPERATIONS]
    routes += [Route("/api/openapi.json", _handled(site, _description)), Route("/style.css", _handled(site, _style))]

    async def refused(request: Request, error: Exception) -> Response:
        return _refused(site, request.url.path, error)

    inner = Starlette(routes=routes, exception_handlers={HTTPException: refused, 404: refused, 405: refused})
    return Guard(inner, site.wishes, functools.partial(_refused, site))


def _handled(site: Site, handler: Handler) -> Callable[[Request], object]:
    async def handle(request: Request) -> Response:
        try:
            return await handler(site, request)
        except HTTPException:
            raise
        except Exception as error:
            return _refused(site, request.url.path, error)

    return handle


def _refused(site: Site, path: str, error: Exception) -> Response:
    """An error as JSON or as a page, by where it came from; one that nobody foresaw is told to who runs this too."""
    if isinstance(error, HTTPException):
        error = Refusal(error.status_code, "HTTP", str(error.detail), headers=error.headers)
    number, problem, headers = told(error, site.name)
    if number == 500:
        site.listener.fault(error)
    headers = {**headers, "Cache-Control": "no-store"}
    if path.startswith("/api/"):
        return Response(json.dumps(Failure(problem).to_dict(), ensure_ascii=False), number, headers, JSON)
    where = f"{problem.path}: " if problem.path else ""
    page = pages.error_page(site, number, f"{where}{problem.message}", problem.remedy)
    return Response(page, number, headers, pages.HTML)


async def _description(site: Site, request: Request) -> Response:
    return whole(request, json.dumps(openapi.description(), ensure_ascii=False), JSON)


async def _style(site: Site, request: Request) -> Response:
    styles = (files("modelkin.reporting") / "templates" / "page.css", files("modelkin.serving") / "templates" / "serve.css")
    return whole(request, "\n".join(one.read_text(encoding="utf-8") for one in styles), "text/css")
