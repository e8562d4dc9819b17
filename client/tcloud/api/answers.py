"""What an answer that is no success means to a person."""

import httpx

from tcloud.errors import (
    ConflictError,
    InvalidError,
    NotAllowedError,
    NotFoundError,
    NotReachableError,
    ServerFailedError,
    TcloudError,
)

__all__ = ["raise_for_answer", "unreachable"]

_GATEWAY_ERRORS = (httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT)


def raise_for_answer(answer: httpx.Response, url: str) -> None:
    """Raises the error that an answer carries, if it carries one; its body must have been read.

    Args:
        answer: The server's answer.
        url: The project's URL, to be named where the answer says nothing.
    """
    if answer.is_success:
        return
    code, message, error_type = _error(answer)
    kind = _kind(answer.status_code)
    raise kind(message or _own_words(answer, url), code=code, error_type=error_type)


def unreachable(url: str, error: httpx.TransportError) -> NotReachableError:
    """The error for a request that got no answer."""
    reason = "it did not answer in time" if isinstance(error, httpx.TimeoutException) else _reason(error)
    return NotReachableError(
        f"Cannot reach {url}: {reason}. Check TCLOUD_URL and that the server runs (`tcloud dev` starts one here)."
    )


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
            return f"{url} does not know this token. Set TCLOUD_TOKEN, or TCLOUD_CLIENT_ID and TCLOUD_CLIENT_SECRET."
        case httpx.codes.FORBIDDEN:
            return f"{url} does not allow this: the token's role is too small."
        case httpx.codes.NOT_FOUND:
            return f"{answer.request.url} does not exist. Check TCLOUD_URL: https://<host>/sqlmesh/<org>/<project>."
        case status:
            return f"{url} answered {status} {answer.reason_phrase}. Try again; the server's log says more."


def _reason(error: httpx.TransportError) -> str:
    text = str(error)
    return "connection refused" if "refused" in text.lower() else text or type(error).__name__
