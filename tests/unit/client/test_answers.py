"""What an answer means: the kind of error, its exit code and its words."""

import httpx
import pytest

from tcloud.api.answers import raise_for_answer, unreachable
from tcloud.errors import TcloudError

URL = "https://tempomesh.test/sqlmesh/acme/demo"


def answer(status: int, body: object = None) -> httpx.Response:
    request = httpx.Request("GET", f"{URL}/api/plans")
    return httpx.Response(status, json=body, request=request) if body else httpx.Response(status, request=request)


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [(400, 2), (401, 3), (403, 3), (404, 2), (409, 1), (413, 2), (422, 2), (500, 1), (502, 4), (503, 4), (504, 4)],
)
def test_exit_codes(status: int, exit_code: int) -> None:
    with pytest.raises(TcloudError) as raised:
        raise_for_answer(answer(status, {"code": "TM-X", "message": "What, where, what to do."}), URL)
    assert raised.value.exit_code == exit_code
    assert raised.value.code == "TM-X"
    assert str(raised.value) == "What, where, what to do."


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, "TCLOUD_TOKEN"), (403, "granted"), (404, "TCLOUD_URL"), (500, "TCLOUD_URL"), (502, "502")],
)
def test_words_for_answers_of_others(status: int, hint: str) -> None:
    for body in (None, {"detail": "Not Found"}, ["no object"]):
        with pytest.raises(TcloudError, match=hint):
            raise_for_answer(answer(status, body), URL)


def test_a_success_is_no_error() -> None:
    raise_for_answer(answer(201, {"message": "fine"}), URL)


def test_unreachable_names_the_url() -> None:
    timeout = unreachable(URL, httpx.ReadTimeout("timed out"))
    assert timeout.exit_code == 4
    assert f"Cannot reach {URL}: it did not answer in time." in str(timeout)
