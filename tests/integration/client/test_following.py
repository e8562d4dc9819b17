"""Following a plan or a run over connections that break: every event once, in order, to the end."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tcloud.api import events as following
from tcloud.api.client import Api
from tcloud.api.events import End
from tcloud.errors import NotAllowedError, NotReachableError
from tcloud.wire.executions import ConsoleEvent

EVENTS = 6
PATH = "/sqlmesh/acme/demo/api/plans/p1/events"


class Stream(BaseHTTPRequestHandler):
    """Answers like the server, but breaks off as the test wants."""

    server: "StreamServer"

    def do_GET(self) -> None:
        asked = self.headers.get("Last-Event-ID")
        self.server.asked.append((self.path, asked))
        self.server.answer(self, int(asked or 0))

    def events(self, first: int, last: int) -> None:
        """Sends some console events, and nothing after them."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for number in range(first, last + 1):
            data = json.dumps({"type": "log_status_update", "payload": {"message": f"event {number} \u2028"}})
            self.wfile.write(f": ping\r\n\r\nid: {number}\r\nevent: console\r\ndata: {data}\r\n\r\n".encode())

    def end(self) -> None:
        self.wfile.write(b'event: end\r\ndata: {"status": "success", "error_message": null}\r\n\r\n')

    def error(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """The test's output is its own."""


class StreamServer(ThreadingHTTPServer):
    answer: Callable[[Stream, int], None]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Stream)
        self.asked: list[tuple[str, str | None]] = []


@contextmanager
def serving(answer: Callable[[Stream, int], None]) -> Iterator[tuple[StreamServer, Api]]:
    with StreamServer() as server:
        server.answer = answer
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with Api(f"http://127.0.0.1:{server.server_port}/sqlmesh/acme/demo", "token") as api:
                yield server, api
        finally:
            server.shutdown()
            thread.join()


def messages(api: Api) -> list[str]:
    *shown, end = api.plan_events("p1")
    assert isinstance(end, End)
    assert end.status == "success"
    return [event.payload["message"] for event in shown if isinstance(event, ConsoleEvent)]


def test_a_broken_connection_is_taken_up_after_the_last_event() -> None:
    def two_at_a_time(stream: Stream, after: int) -> None:
        last = min(after + 2, EVENTS)
        stream.events(after + 1, last)
        if after >= EVENTS:
            stream.end()

    with serving(two_at_a_time) as (server, api):
        assert messages(api) == [f"event {number} \u2028" for number in range(1, EVENTS + 1)]
        assert server.asked == [(PATH, None), (PATH, "2"), (PATH, "4"), (PATH, "6")]


def test_a_server_that_restarts_is_waited_for() -> None:
    restarting = iter([503, 502])

    def unavailable_twice(stream: Stream, after: int) -> None:
        if after == 1 and (status := next(restarting, None)):
            stream.error(status, {"code": "TM-X", "message": "Restarting."})
        elif after == 1:
            stream.events(2, EVENTS)
            stream.end()
        else:
            stream.events(1, 1)

    with serving(unavailable_twice) as (_, api):
        assert len(messages(api)) == EVENTS


def test_a_refusal_is_final() -> None:
    with (
        serving(lambda stream, _: stream.error(403, {"code": "TM-ROLE", "message": "No."})) as (server, api),
        pytest.raises(NotAllowedError, match=r"No\."),
    ):
        messages(api)
    assert len(server.asked) == 1


def test_a_server_that_stays_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_GIVE_UP_AFTER_SECONDS", 0.0)
    with Api("http://127.0.0.1:1/sqlmesh/acme/demo", None) as api, pytest.raises(NotReachableError, match="refused"):
        messages(api)
