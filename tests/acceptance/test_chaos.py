"""Whatever dies in the middle of a run: every due interval is recorded exactly once, and nothing is left behind."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from tests.acceptance.chaos import Chaos
from tests.acceptance.clocks import Clocks
from tests.fixtures.clocks import clock_off
from tests.fixtures.networks import network
from tests.fixtures.processes import run_executor
from tests.fixtures.stack import RunningStack, running_stack

pytestmark = pytest.mark.timeout(400)

AWAY_SECONDS = 20
"""Less than a lease: what an executor has in flight stays its own."""


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    folder = tmp_path_factory.mktemp("chaos")
    with running_stack(folder / "data") as stack:
        chaos = Chaos(stack, folder / "project")
        chaos.plan()
        yield chaos


def kill_the_run_executor(chaos: Chaos) -> None:
    chaos.processes.of("executor", "run").kill()


def stop_the_run_executor(chaos: Chaos) -> None:
    chaos.processes.of("executor", "run").send_signal(signal.SIGTERM)


def kill_the_control_worker(chaos: Chaos) -> None:
    chaos.processes.of("worker").kill()


def kill_the_server(chaos: Chaos) -> None:
    chaos.processes.of("server").kill()


def kill_temporal(chaos: Chaos) -> None:
    chaos.processes.server_of("temporal").kill()


def stop_postgres(chaos: Chaos) -> None:
    # "Fast": it breaks off what is in flight, as an administrator's restart does.
    chaos.processes.server_of("postgres").send_signal(signal.SIGINT)


@pytest.mark.parametrize(
    "disturb",
    [
        kill_the_run_executor,
        stop_the_run_executor,
        kill_the_control_worker,
        kill_the_server,
        kill_temporal,
        stop_postgres,
    ],
)
def test_a_run_survives(chaos: Chaos, disturb: Callable[[Chaos], None]) -> None:
    run_id = chaos.start_run()

    disturb(chaos)

    run = chaos.ended(run_id)
    assert run["status"] == "success", run
    assert {e["status"] for e in run["evaluations"]} == {"success"}
    chaos.check()


def test_a_runner_that_is_killed_fails_its_evaluation_and_nothing_else(chaos: Chaos) -> None:
    run_id = chaos.start_run()

    chaos.processes.newest_runner().kill()

    run = chaos.ended(run_id)
    assert run["status"] == "failed"
    failed = [e for e in run["evaluations"] if e["status"] == "failed"]
    assert [e["error_message"] for e in failed] == [
        "The runner process was killed by signal 9 (SIGKILL), as the kernel does when memory runs out."
    ]
    assert chaos.ended(chaos.start_run_again())["status"] == "success"
    chaos.check()


def test_a_run_survives_a_network_that_is_gone_for_a_while(chaos: Chaos, tmp_path: Path) -> None:
    """Between the executor and the server, that is: Temporal and the warehouse stay within reach."""
    with network(chaos.stack.ports[0]) as between, ExitStack() as stack:
        url = chaos.stack.url.replace(f":{chaos.stack.ports[0]}/", f":{between.port}/")
        executor = stack.enter_context(run_executor(chaos.stack, tmp_path / "executor.log", {"TCLOUD_URL": url}))
        stack.enter_context(chaos.processes.without_run_executor())
        run_id = chaos.start_run()

        between.cut()
        time.sleep(AWAY_SECONDS)
        between.restore()

        run = chaos.ended(run_id)
    assert run["status"] == "success", run
    ends = {(e["status"], e["executor"], e["attempt"]) for e in run["evaluations"]}
    assert ends == {("success", executor, 1)}, "nothing had to be repeated"
    chaos.check()


@pytest.mark.parametrize("minutes", [-10, 10])
def test_what_is_due_is_no_matter_of_an_executors_clock(chaos: Chaos, tmp_path: Path, minutes: int) -> None:
    variables = clock_off(tmp_path, timedelta(minutes=minutes))
    clocks = Clocks(chaos.stack, tmp_path / "project", f"clock_{'slow' if minutes < 0 else 'fast'}")
    clocks.plan()
    with ExitStack() as stack:
        executor = stack.enter_context(run_executor(chaos.stack, tmp_path / "executor.log", variables))
        stack.enter_context(chaos.processes.without_run_executor())
        run = chaos.ended(chaos.start_run())
        of_now = chaos.ended(clocks.start_run())
    assert run["status"] == "success", run
    assert {(e["status"], e["executor"]) for e in run["evaluations"]} == {("success", executor)}
    clocks.check(of_now)
    chaos.check()


def test_the_stack_is_well_after_all_of_it(chaos: Chaos) -> None:
    stack: RunningStack = chaos.stack
    assert stack.process.poll() is None
    assert chaos.ended(chaos.start_run())["status"] == "success"
    chaos.check()
