"""Console events: nothing is lost, nothing comes twice, whoever commits when."""

import threading
from collections.abc import Iterator

import httpx
from httpx_sse import ServerSentEvent, connect_sse

from server.events import append_events, events_after
from tcloud.wire.executions import ConsoleEvent
from tests.eventually import eventually
from tests.integration.server.conftest import PROJECT, RunningServer

WRITERS, EACH = 6, 40


def begin(executor: httpx.Client, run_id: str) -> None:
    executor.post(f"runs/{run_id}/begin", json={"environment": "prod", "trigger": "schedule"}).raise_for_status()


def tell(client: httpx.Client, run_id: str, *texts: str) -> None:
    events = [{"type": "log_status_update", "payload": {"message": text}} for text in texts]
    client.post(f"owners/{run_id}/events", json=events).raise_for_status()


def follow(client: httpx.Client, run_id: str, after: str | None = None) -> Iterator[ServerSentEvent]:
    headers = {"Last-Event-ID": after} if after else {}
    with connect_sse(client, "GET", f"runs/{run_id}/events", headers=headers) as source:
        yield from source.iter_sse()


def test_a_stream_ends_with_its_run_and_resumes(
    executor: httpx.Client, worker: httpx.Client, admin: httpx.Client
) -> None:
    begin(executor, "prod-1")
    tell(executor, "prod-1", "one", "two")
    stream = follow(admin, "prod-1")
    assert [next(stream).json()["payload"]["message"] for _ in range(2)] == ["one", "two"]
    tell(executor, "prod-1", "three")
    worker.post("runs/prod-1/status", json={"status": "failed", "error_message": "1 of 2 failed"}).raise_for_status()
    third, end = stream
    assert (third.event, third.id) == ("console", "3")
    assert (end.event, end.json()) == ("end", {"status": "failed", "error_message": "1 of 2 failed"})
    assert [event.id for event in follow(admin, "prod-1", after="2") if event.event == "console"] == ["3"]


def test_a_run_of_nothing_says_so(executor: httpx.Client, worker: httpx.Client, admin: httpx.Client) -> None:
    executor.post("runs/prod-manual-1/begin", json={"environment": "prod", "trigger": "manual"}).raise_for_status()
    worker.post("runs/prod-manual-1/status", json={"status": "nothing_to_do", "error_message": None})
    (end,) = follow(admin, "prod-manual-1")
    assert end.json()["status"] == "nothing_to_do"
    assert admin.get("runs/prod-manual-1").json()["status"] == "success"


def test_nobody_streams_what_does_not_exist(admin: httpx.Client) -> None:
    assert admin.get("runs/nothing/events").status_code == 404


def test_a_reader_never_passes_an_event_that_commits_later(server: RunningServer) -> None:
    def write(writer: int) -> None:
        for number in range(EACH):
            with server.database.transaction(PROJECT) as transaction:
                event = ConsoleEvent(type="log_status_update", payload={"message": f"{writer}.{number}"})
                append_events(transaction, "prod-1", [event, event])

    seen: list[int] = []

    def read() -> bool:
        with server.database.transaction(PROJECT) as transaction:
            seen.extend(n for n, _ in events_after(transaction, "prod-1", seen[-1] if seen else 0, limit=7))
        return len(seen) >= 2 * WRITERS * EACH

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        read()
    eventually(read)
    assert seen == list(range(1, 2 * WRITERS * EACH + 1))
