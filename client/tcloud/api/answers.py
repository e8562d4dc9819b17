"""What an answer that is no success means to a person."""

from collections.abc import Callable
from typing import TypeVar

import httpx
from pydantic import ValidationError

from tcloud.credentials import SignInError
from tcloud.errors import (
    ConflictError,
    InvalidError,
    NotAllowedError,
    NotFoundError,
    NotReachableError,
    ServerFailedError,
    TcloudError,
)

__all__ = ["not_signed_in", "raise_for_answer", "understood", "unreachable"]

Understood = TypeVar("Understood")

_GATEWAY_ERRORS = (httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT)


_SAID_BY_PROXIES = (*_GATEWAY_ERRORS, httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.TOO_MANY_REQUESTS)
"""Answers that come from what stands before a server, and are no sign that there is none."""


def raise_for_answer(answer: httpx.Response, url: str) -> None:
    """Raises the error that an answer carries, if it carries one; its body must have been read.

    Args:
        answer: The server's answer.
        url: The project's URL, to be named where the answer says nothing.
    """
    if answer.is_success:
        return
    code, message, error_type = _error(answer)
    if message is None and answer.status_code not in _SAID_BY_PROXIES:
        raise _somebody_else(answer, url)
    kind = _kind(answer.status_code)
    raise kind(message or _own_words(answer, url), code=code, error_type=error_type)


def understood(read: Callable[[bytes], Understood], answer: httpx.Response, url: str) -> Understood:
    """What the body of a successful answer says.

    Args:
        read: Reads it.
        answer: The server's answer.
        url: The project's URL, to be named where the body is not what this client knows.

    Raises:
        InvalidError: If the body is not what a server of this version answers.
    """
    try:
        return read(answer.content)
    except ValidationError as error:
        if "json" in answer.headers.get("content-type", ""):
            first = error.errors()[0]
            raise InvalidError(
                f"{url} answered something that this version of tcloud does not know "
                f"({'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}). "
                "Install the version of tempomesh-client that the server has."
            ) from error
        raise _somebody_else(answer, url) from error


def unreachable(url: str, error: httpx.TransportError) -> NotReachableError:
    """The error for a request that got no answer."""
    reason = "it did not answer in time" if isinstance(error, httpx.TimeoutException) else _reason(error)
    return NotReachableError(
        f"Cannot reach {url}: {reason}. Check TCLOUD_URL and that the server runs (`tcloud dev` starts one here)."
    )


def not_signed_in(error: SignInError) -> TcloudError:
    """The error for a request that there is no token for."""
    return _kind(error.status)(str(error)) if error.is_refusal else NotReachableError(str(error))


def _kind(status: int) -> type[TcloudError]:
    match status:
        case httpx.codes.UNAUTHORIZED | httpx.codes.FORBIDDEN:
            return NotAllowedError
        case httpx.codes.NOT_FOUND:
            return NotFoundError
        case httpx.codes.CONFLICT:
            return ConflictError
        case status if status in _GATEWAY_ERRORS:
            return NotReachableError
        case status if httpx.codes.is_client_error(status):
            return InvalidError
        case _:
            return ServerFailedError


def _error(answer: httpx.Response) -> tuple[str | None, str | None, str | None]:
    try:
        body = answer.json()
    except ValueError:
        return None, None, None
    if not isinstance(body, dict) or not isinstance(body.get("message"), str):
        return None, None, None
    return body.get("code"), body["message"], body.get("error_type")


def _own_words(answer: httpx.Response, url: str) -> str:
    match answer.status_code:
        case httpx.codes.UNAUTHORIZED:
            return (
                f"{url} does not know this token. Sign in with `tcloud auth login`, or set TCLOUD_TOKEN, "
                "or TCLOUD_CLIENT_ID and TCLOUD_CLIENT_SECRET."
            )
        case httpx.codes.FORBIDDEN:
            return f"{url} does not allow this: nothing that is granted is enough."
        case status:
            return f"{url} answered {status} {answer.reason_phrase}. Try again; the server's log says more."


def _somebody_else(answer: httpx.Response, url: str) -> InvalidError:
    said = f"{answer.status_code} {answer.reason_phrase}".rstrip()
    if answer.has_redirect_location:
        said += f" and points to {answer.headers['location']}"
    return InvalidError(
        f"No Tempomesh server answers at {url}: whoever does said {said}. "
        "Check TCLOUD_URL: https://<host>/sqlmesh/<org>/<project>."
    )


def _reason(error: httpx.TransportError) -> str:
    text = str(error)
    return "connection refused" if "refused" in text.lower() else text or type(error).__name__
