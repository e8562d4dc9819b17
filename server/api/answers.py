"""What routes answer when they do not answer what was asked for, as the OpenAPI document declares it."""

from typing import Any

from pydantic import BaseModel

__all__ = ["EVERYWHERE", "Problem", "json_body", "problems"]


class Problem(BaseModel):
    """An error: the body of every answer that is no success."""

    code: str
    """Stable, `TM-…`; docs/api.md lists them."""
    message: str
    """What, where, and what to do; one line for a person."""
    error_type: str | None = None
    """Name of SQLMesh's exception class, where SQLMesh refused."""


_MEANINGS = {
    400: "The request is not HTTP as the server understands it (`TM-HTTP`).",
    401: "No token, or one that is not valid for the project (`TM-TOKEN`).",
    403: "Nothing that is granted to the token's owner is enough (`TM-ROLE`).",
    404: "The project (`TM-PROJECT`) or what the path names does not exist.",
    409: "What is there already, or its state, stands in the way.",
    413: "The body is larger than this server takes (`TM-SIZE`).",
    422: "The request means nothing here (`TM-REQUEST`), or SQLMesh refuses it (`TM-STATE`).",
    503: "PostgreSQL (`TM-DATABASE`) or Temporal (`TM-TEMPORAL`) does not answer: try again.",
}


def problems(**meanings: str) -> dict[int | str, dict[str, Any]]:
    """Declares error answers of a route, on top of `EVERYWHERE`.

    Args:
        meanings: `s409="…"` for the status 409 and when it is answered.
    """
    return {int(name[1:]): {"model": Problem, "description": text} for name, text in meanings.items()}


EVERYWHERE = problems(**{f"s{status}": text for status, text in _MEANINGS.items() if status != 409})
"""What every route of a project may answer."""


def json_body(description: str) -> dict[str, Any]:
    """Declares a JSON body that a route reads by itself."""
    content = {"application/json": {"schema": {"type": "object"}}}
    return {"requestBody": {"required": True, "description": description, "content": content}}
