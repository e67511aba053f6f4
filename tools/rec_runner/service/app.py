"""The routes as FastAPI has them, and what it tells of them."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, Callable

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from rec_runner.service.answers import JSON, Refusal, busy, dump
from rec_runner.service.calls import SCRIPTS
from rec_runner.service.records import CONTENT_TYPE
from rec_runner.service.service import Service

PAGE = Path(__file__).parent / "page"
HTML = "text/html; charset=utf-8"
# What a browser may get, and nothing else: no path of a request is ever looked up.
FILES = {
    "/": ("index.html", HTML),
    **{path: (path[1:], "text/javascript; charset=utf-8") for path in SCRIPTS},
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def create_app(service: Service) -> FastAPI:
    """The routes of a service."""
    app = FastAPI(
        title="Predictions of a share-bottom model",
        version="1",
        docs_url=None,  # FastAPI's page takes its script from an outside address
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_routes(app, service)
    for path, (name, kind) in FILES.items():
        if (PAGE / name).is_file():
            app.add_route(path, _file((PAGE / name).read_bytes(), kind), include_in_schema=False)
    app.add_route("/docs", _file(_docs(app.openapi()), HTML), include_in_schema=False)

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> Response:
        return refusal.answer()

    @app.exception_handler(HTTPException)
    async def unrouted(request: Request, error: HTTPException) -> Response:
        said = {404: "there is nothing here", 405: f"{request.method} is not for this path"}
        message = said.get(error.status_code, str(error.detail))
        return Refusal(error.status_code, message, error.headers).answer()

    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.post("/predict", response_class=Response, openapi_extra=_PREDICT, responses=_ANSWERS)
    async def predict(request: Request) -> Response:
        """Predictions of rows, in their order: a probability or a number for each task."""
        return await service.predict(request.scope["call"], request.receive)

    @app.get("/model", response_class=Response, responses=_KEYED)
    async def model(request: Request) -> Response:
        """The model in use: tasks, columns with their ranges, an example row, metrics, limits.

        A category whose "other" is false takes a text that is not among its "values", and no
        input of the model stands for it.
        """
        return Response(service.about(), media_type=JSON)

    @app.get("/health", response_class=Response)
    async def health(request: Request) -> Response:
        """Whether the process answers."""
        return Response(dump({"status": "up"}), media_type=JSON)

    @app.get("/ready", response_class=Response)
    async def ready(request: Request) -> Response:
        """Whether to send requests here: 503 while the service stops."""
        if service.draining:
            raise busy("the service is stopping")
        return Response(dump({"status": "ready"}), media_type=JSON)

    @app.get("/metrics", response_class=Response, responses=_KEYED)
    async def metrics(request: Request) -> Response:
        """What was counted, for Prometheus."""
        return Response(service.counted(), headers={"content-type": CONTENT_TYPE})

    @app.post("/reload", response_class=Response, responses={**_KEYED, **_RELOADS})
    async def reload(request: Request) -> Response:
        """Open the export's folder anew and use what lies there; only with a key."""
        answer = await service.reload()
        request.scope["call"].model = service.models.now.header
        return answer


def _file(content: bytes, kind: str) -> Callable[[Request], Any]:
    async def file(request: Request) -> Response:
        return Response(content, media_type=kind)

    return file


_ROW = {"type": "object", "additionalProperties": True}
_CELLS = {"type": "array", "items": {}}
_ROWS = {"oneOf": [{"type": "array", "items": _ROW}, {"type": "array", "items": _CELLS}]}
_PREDICT = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "description": "One row by column name; or rows, each by column name or as "
                    "cells in the order of GET /model's columns.",
                    "oneOf": [
                        _ROW,
                        *_ROWS["oneOf"],
                        {"type": "object", "properties": {"rows": _ROWS}, "required": ["rows"]},
                    ],
                }
            },
            "text/csv": {"schema": {"type": "string", "description": "With or without a header."}},
        },
    },
    "parameters": [
        {
            "name": "on_bad",
            "in": "query",
            "description": "What bad rows do: refuse the whole request, or get null.",
            "schema": {"type": "string", "enum": ["refuse", "null"], "default": "refuse"},
        }
    ],
}
_KEYED: dict[int | str, dict[str, Any]] = {
    401: {"description": "The key is missing or wrong."},
    403: {"description": "The service has no key, and the header Host names another machine."},
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": 'JSON: {"model": id, "predictions": [{task: number}, …]}; CSV where it '
        "was asked for by Accept, or sent.",
        "content": {"application/json": {}, "text/csv": {}},
    },
    400: {"description": "The body is not JSON."},
    **_KEYED,
    408: {"description": "The body came too slowly."},
    413: {"description": "Too many bytes or rows."},
    415: {"description": "Another Content-Type or Content-Encoding."},
    422: {"description": "A row is bad: error has its sentence, row, column and value."},
    503: {"description": "Too much at once, or the service stops; Retry-After tells when."},
}
_RELOADS: dict[int | str, dict[str, Any]] = {
    403: {"description": "The service has no key."},
    409: {"description": "The new export cannot be used; the model in use stays."},
}


def _docs(schema: Mapping[str, Any]) -> bytes:
    """A page of the routes, from what FastAPI tells of them; its own needs an outside address."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(schema['info']['title'])}</title><h1>{escape(schema['info']['title'])}",
        '</h1><p>For programs: <a href="/openapi.json">/openapi.json</a> (OpenAPI). A key, where ',
        "the service has one, goes into the header X-API-Key.</p>",
    ]
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts.append(f"<p>{escape(route['description'])}</p>")
            for kind, content in route.get("requestBody", {}).get("content", {}).items():
                said = escape(content["schema"]["description"])
                parts.append(f"<p>Body <code>{escape(kind)}</code>: {said}</p>")
            for parameter in route.get("parameters", []):
                said = f"{' or '.join(parameter['schema']['enum'])}: {parameter['description']}"
                parts.append(f"<p><code>?{escape(parameter['name'])}=</code>{escape(said)}</p>")
            parts.append("<ul>")
            for status, answer in route["responses"].items():
                parts.append(f"<li>{status}: {escape(answer['description'])}</li>")
            parts.append("</ul>")
    return "".join(parts).encode()
