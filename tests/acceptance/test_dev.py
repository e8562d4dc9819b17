"""`tcloud dev` as its users meet it."""

import json
import signal
import stat
import subprocess
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2

from stack.ports import free_ports
from stack.processes import tcloud_command
from tests.acceptance.processes import command
from tests.eventually import eventually
from tests.fixtures.stack import RunningStack, running_stack

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "bikes"


def options(data_dir: Path) -> list[str]:
    server, temporal, ui = (str(port) for port in free_ports(3))
    return ["dev", "--data-dir", str(data_dir), "--port", server, "--temporal-port", temporal, "--temporal-ui-port", ui]


def listing(stack: RunningStack, *arguments: str) -> list[dict[str, object]]:
    result = stack.tcloud(*arguments, "list", "-o", "json")
    assert result.returncode == 0, result.stderr
    found: list[dict[str, object]] = json.loads(result.stdout)
    return found


def rows(stack: RunningStack, query: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(stack.warehouse_dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def test_everything_is_still_there_after_a_restart_and_nothing_after_a_kill(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with running_stack(data_dir) as stack:
        assert stat.S_IMODE((data_dir / "client.env").stat().st_mode) == 0o600
        assert {executor["kind"] for executor in listing(stack, "executors")} == {"run", "apply"}
        applied = stack.tcloud("sqlmesh", "-p", str(EXAMPLE), "plan", "prod", "--auto-apply", "--no-prompts")
        assert applied.returncode == 0, applied.stdout + applied.stderr
        plans = listing(stack, "plans")
        schedules = {schedule["schedule_id"] for schedule in listing(stack, "schedules")}
        trips = rows(stack, "SELECT COUNT(*), MIN(trip_id) FROM bikes.trips")
        assert stack.tcloud("sqlmesh", "-p", str(EXAMPLE), "run").returncode == 0
        runs = listing(stack, "runs")
        before, ports = dict(stack.client_environment), stack.ports

    with running_stack(data_dir, ports=ports) as stack:
        assert stack.client_environment == before
        assert listing(stack, "plans") == plans
        assert {schedule["schedule_id"] for schedule in listing(stack, "schedules")} == schedules
        assert rows(stack, "SELECT COUNT(*), MIN(trip_id) FROM bikes.trips") == trips
        known = {run["run_id"] for run in runs}
        assert known <= {run["run_id"] for run in listing(stack, "runs")}
        # The schedules go on by themselves.
        eventually(lambda: {run["run_id"] for run in listing(stack, "runs")} - known, 150)

        family = psutil.Process(stack.process.pid).children(recursive=True)
        stack.process.kill()
        stack.process.wait()
        # Only its own guard does that: that of the tests comes later.
        eventually(lambda: not [child for child in family if child.is_running()], 60)


def test_a_second_stack_is_told_what_is_in_its_way(tempomesh_stack: RunningStack, tmp_path: Path) -> None:
    def refusal(data_dir: Path, *arguments: str) -> str:
        result = subprocess.run(
            [*tcloud_command(), *options(data_dir), *arguments], capture_output=True, text=True, check=False, timeout=60
        )
        assert result.returncode == 1
        return result.stderr.strip()

    stack = tempomesh_stack
    said = refusal(stack.data_dir)
    assert said.startswith(f"Error: {stack.data_dir} is in use by process {stack.process.pid} (")
    said = refusal(tmp_path / "other", "--temporal-port", str(stack.ports[1]))
    assert said.startswith(f"Error: Port {stack.ports[1]} is taken by process ")
    assert said.endswith("(temporal): stop it, or choose another with --temporal-port.")


def test_a_start_that_is_broken_off_leaves_no_process(tmp_path: Path) -> None:
    with command(tmp_path / "output", *options(tmp_path / "data")) as dev:
        dev.wait_for("server ")
        assert dev.end(signal.SIGTERM) == 0, dev.text()
