"""Whatever dies in the middle of a run: every due interval is recorded exactly once, and nothing is left behind."""

import signal
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.chaos import Chaos
from tests.fixtures.stack import RunningStack, running_stack

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    folder = tmp_path_factory.mktemp("chaos")
    with running_stack(folder / "data") as stack:
        chaos = Chaos(stack, folder / "project")
        chaos.plan()
        yield chaos


def kill_the_run_executor(chaos: Chaos) -> None:
    chaos.process("executor", "run").kill()


def stop_the_run_executor(chaos: Chaos) -> None:
    chaos.process("executor", "run").send_signal(signal.SIGTERM)


def kill_the_control_worker(chaos: Chaos) -> None:
    chaos.process("worker").kill()


def kill_the_server(chaos: Chaos) -> None:
    chaos.process("server").kill()


def kill_temporal(chaos: Chaos) -> None:
    chaos.server_of("temporal").kill()


def stop_postgres(chaos: Chaos) -> None:
    # "Fast": it breaks off what is in flight, as an administrator's restart does.
    chaos.server_of("postgres").send_signal(signal.SIGINT)


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

    chaos.busy_runner().kill()

    run = chaos.ended(run_id)
    assert run["status"] == "failed"
    failed = [e for e in run["evaluations"] if e["status"] == "failed"]
    assert [e["error_message"] for e in failed] == [
        "The runner process was killed by signal 9 (SIGKILL), as the kernel does when memory runs out."
    ]
    assert chaos.ended(chaos.start_run_again())["status"] == "success"
    chaos.check()


def test_the_stack_is_well_after_all_of_it(chaos: Chaos) -> None:
    stack: RunningStack = chaos.stack
    assert stack.process.poll() is None
    assert chaos.ended(chaos.start_run())["status"] == "success"
    chaos.check()
