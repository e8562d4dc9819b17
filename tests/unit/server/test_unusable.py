"""Which failures are a request's own."""

import psycopg2
import pytest
from sqlalchemy.exc import DataError

from server.errors import in_one_line
from server.unusable import refusal_of


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (DataError("SELECT 1", {}, psycopg2.DataError("bigint out of range\nDETAIL: a row")), "bigint out of range."),
        (ValueError("A string literal cannot contain NUL (0x00) characters."), "NUL"),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), "surrogates"),
        (TypeError("str is not valid UTF-8: surrogates not allowed"), "half a character"),
        (RecursionError(), "nested"),
        (OverflowError(), "too large"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(error: Exception, says: str) -> None:
    refusal = refusal_of(error)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (422, "TM-REQUEST")
    assert says in refusal.message
    assert len(refusal.message.splitlines()) == 1


def test_other_failures_stay_failures() -> None:
    assert refusal_of(ValueError("our own mistake")) is None
    assert refusal_of(TypeError("our own mistake")) is None
    assert refusal_of(KeyError("our own mistake")) is None


def test_a_message_is_one_line_whatever_it_quotes() -> None:
    assert in_one_line("a\x1eb\r\nc \x1b[31m d\u2028e") == "a b c [31m d e"
