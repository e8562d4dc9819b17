"""Values that mean nothing to PostgreSQL: whoever sent them is told so, and nobody else is alarmed."""

import psycopg2
from sqlalchemy.exc import DataError

from server.errors import ApiError

__all__ = ["UNUSABLE", "refusal_of"]

UNUSABLE = (DataError, psycopg2.DataError, ValueError, TypeError, OverflowError, RecursionError)
"""What a request with such a value may end in; not all of these errors mean one."""


def refusal_of(error: Exception) -> ApiError | None:
    """What is answered to a request that failed because of a value in it; None if it failed for another reason."""
    match error:
        case DataError():
            reason = str(error.orig)
        case psycopg2.DataError() | UnicodeError():
            reason = str(error)
        case RecursionError():
            reason = "it is nested too deeply"
        case OverflowError():
            reason = "a number or a time is too large"
        case ValueError() if "NUL" in str(error):
            reason = "a text has a NUL character"
        case TypeError() if "surrogates" in str(error):
            reason = "a text has half a character"
        case _:
            return None
    first_line = (reason.strip() or "a value is out of range").splitlines()[0]
    return ApiError(422, "TM-REQUEST", f"The request has a value that cannot be used: {first_line}.")
