"""The OpenAPI document: what FastAPI makes of the routes, with our problems in place of its own, and examples."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from ae_search.web.answers import ProblemAnswer
from ae_search.web.parameters import SearchBody

_FOUND = {
    "rank": 1,
    "key": "test/7.png",
    "label": "Bag",
    "similarity": 0.98,
    "distance": 0.2,
    "metadata": {"price": 12.5},
}
_MODEL = {"name": "fashion", "version": 1, "fingerprint": "9f86d081884c7d65"}
_SEARCH = {
    "query": {"key": "test/3.png", "image": None, "like": [], "unlike": [], "where": None},
    "model": _MODEL,
    "plain": None,
    "trust": None,
    "verdict": None,
    "neighbours": [_FOUND],
    "next": None,
    "more": False,
    "took_ms": 2.5,
}
_TRUST = {"familiar": True, "distance": 0.31, "distance_share": 0.42, "error": None, "error_share": None}
_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
_EXPLANATION = {
    "key": "test/7.png",
    "similarity": 0.98,
    "query": _PNG,
    "item": _PNG,
    "agreement": _PNG,
    "parts": [{"dimension": 12, "contribution": 0.2, "where": _PNG}],
    "rest": 0.78,
    "walk": [_PNG, _PNG],
}
_ITEM = {"key": "test/7.png", "label": "Bag", "metadata": {"price": 12.5}, "thumbnail": None}
# By operation; FastAPI would leave out what is null.
_EXAMPLES: dict[str, Any] = {
    "search": _SEARCH,
    "search_by_body": _SEARCH
    | {"query": {"key": None, "image": None, "like": [], "unlike": [], "where": None}}
    | {"trust": _TRUST},
    "explain": _EXPLANATION,
    "keep_image": {"image": 64 * "0", "width": 4000, "height": 3000, "bytes": 5_200_000},
    "list_items": {"items": [_ITEM], "next": None},
    "get_item": _ITEM,
    "list_labels": {"labels": [{"label": "Bag", "count": 60}, {"label": None, "count": 3}], "items": 63, "more": False},
    "add_items": {"added": 1},
    "describe_items": {"updated": 2},
    "replace_image": {"updated": 1},
    "remove_items": {"removed": 2},
    "get_session": {"read": True, "write": False, "read_key": False, "write_key": True},
    "log_in": {"read": True, "write": True, "read_key": False, "write_key": True},
    "healthz": {"status": "ok"},
    "readyz": {"status": "ready", "model": _MODEL},
}


def document_of(app: FastAPI) -> dict[str, Any]:
    """Return the document, which is made once."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas: dict[str, Any] = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for kind in (ProblemAnswer, SearchBody):
        schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[kind.__name__] = schema
    for operations in document["paths"].values():
        for operation in operations.values():
            _complete(operation)
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{}, {"key": []}]
    app.openapi_schema = document
    return document


def _complete(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422", "")):
        del responses["422"]
    if (example := _EXAMPLES.get(operation["operationId"])) is not None:
        done = next(response for status, response in responses.items() if status.startswith("2"))
        done["content"]["application/json"]["example"] = example
