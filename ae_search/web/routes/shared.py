"""What routes have in common: the service of the process, bodies that hold an image, and how they are documented."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile

from ae_search.web.access_keys import Role
from ae_search.web.answers import ProblemAnswer
from ae_search.web.problems import MEDIA_TYPE, Problem
from ae_search.web.service import Service

Parameters = TypeVar("Parameters", bound=BaseModel)

MAX_FILES = 1000
_TOLD = 3
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def service_of(request: Request) -> Service:
    """Return what the process holds."""
    service: Service = request.app.state.service
    return service


def role_of(request: Request) -> Role:
    """Return what the caller may do."""
    role: Role = request.state.role
    return role


def media_type_of(request: Request) -> str:
    """Return the type of the body, in lower case and without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_image(media_type: str) -> bool:
    """Return whether a body of that type is an image file."""
    return media_type.startswith("image/") or media_type == "application/octet-stream"


def checked(kind: type[Parameters], raw: Mapping[str, Any]) -> Parameters:
    """Return parameters.

    Raises:
        Problem: They are malformed.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise malformed(error.errors()) from error


def parameters_of(request: Request, kind: type[Parameters], lists: Collection[str]) -> Parameters:
    """Return the parameters of an address, as FastAPI would, which takes longer for it than a search does.

    Args:
        request: The request.
        kind: What they are.
        lists: Names that may occur more than once.

    Raises:
        Problem: They are malformed, or one that may occur once occurs twice.
    """
    return checked(kind, named_once(request.query_params.multi_items(), lists))


def named_once(pairs: Iterable[tuple[str, Any]], lists: Collection[str]) -> dict[str, Any]:
    """Return names and values as a mapping, with a list where a name may occur more than once.

    Raises:
        Problem: Another one occurs twice.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in lists:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise Problem("BadRequest", f"{name!r:.80} may occur once.")
        else:
            found[name] = value
    return found


def described(kind: type[BaseModel]) -> list[dict[str, Any]]:
    """Return how the parameters of an address are documented."""
    properties = kind.model_json_schema()["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": told} for name, told in properties.items()]


def malformed(faults: Sequence[Mapping[str, Any]]) -> Problem:
    """Return the problem that parameters are malformed, told by pydantic."""
    told = [f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in faults[:_TOLD]]
    return Problem("BadRequest", "; ".join(told).replace("\n", " ")[:1000])


async def image_of(request: Request) -> bytes:
    """Return the image of a body: the body itself, or the file `image` of a form.

    Raises:
        Problem: There is none.
    """
    media_type = media_type_of(request)
    if is_image(media_type):
        return some(await request.body())
    if media_type == "multipart/form-data":
        async with request.form(max_files=1, max_fields=100) as form:
            return await file_of(form.get("image"), "image")
    raise unsupported()


async def file_of(part: object, name: str) -> bytes:
    """Return the bytes of a file of a form.

    Raises:
        Problem: It is none.
    """
    if not isinstance(part, UploadFile):
        raise Problem("BadRequest", f"The form must have a file {name!r}.")
    return some(await part.read())


def some(image: bytes) -> bytes:
    """Return an image.

    Raises:
        Problem: There are no bytes.
    """
    if not image:
        raise Problem("BadRequest", "The body must be an image file. Received: nothing.")
    return image


def unsupported() -> Problem:
    """Return the problem that a body is of another type."""
    return Problem(
        "UnsupportedMediaType",
        "The body must be an image file (image/* or application/octet-stream), a form (multipart/form-data), or JSON "
        "where it is taken.",
    )


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return how a route's problems are documented."""
    every = sorted({400, 401, 403, 421, 429, 500, 503, 504, *statuses})
    content = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemAnswer.__name__}"}}}
    return {status: {"description": "A problem (RFC 9457).", "content": content} for status in every}


def image_body(
    form: Mapping[str, Any], json: Mapping[str, Any] | None = None, *, needed: bool = True
) -> dict[str, Any]:
    """Return how a body that holds images is documented.

    Args:
        form: Schema of the form.
        json: Reference to the schema of JSON, where it is taken.
        needed: Whether there must be a body.
    """
    content: dict[str, Any] = {
        "image/*": _BINARY,
        "application/octet-stream": _BINARY,
        "multipart/form-data": {"schema": form},
    }
    if json is not None:
        content["application/json"] = {"schema": json}
    return {"requestBody": {"required": needed, "content": content}}
