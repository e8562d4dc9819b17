"""A model that misbehaves costs its own evaluation, and nobody else anything."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlmesh.core import constants
from sqlmesh.core.console import get_console, set_console

from envmanager.pools import RunnerLimits
from tests.eventually import eventually
from tests.integration.runner.pooled import Pooled, pooled_runners
from tests.integration.runner.projects import Project
from tests.integration.runner.warehouses import DuckDBFile

MODEL = """
import os
import subprocess
import sys
import time
import pandas as pd
import sqlmesh.core.scheduler
from sqlmesh import model

@model("hostile.{name}", kind="FULL", columns={{"what": "text"}}, cron="@daily")
def execute(context, start, end, execution_time, **kwargs):
    what = "done"
    {code}
    return pd.DataFrame({{"what": [str(what)]}})
"""

SECRET = "hunter2"
MEMORY = 1_500_000_000
BEHAVIOURS = {
    # In the order in which they are evaluated: each is followed by one that would suffer from what it does.
    "a_exits": "os._exit(3)",
    "b_forks": "what = os.fork()",
    "c_leaves_a_process": "what = subprocess.Popen(['sleep', '600'], start_new_session=True).pid",
    "d_fills_memory": "what = len([b'x' * 10_000_000 for _ in range(10_000)])",
    "e_prints": "print('x' * 10_000_000 + 'the end'); os.write(1, b'past Python')",
    "f_sleeps": "time.sleep(600)",
    "g_moves": "os.chdir('/'); os.environ['HOME'] = '/nowhere'; sys.path.insert(0, '/nowhere')",
    "h_patches": "sqlmesh.core.scheduler.Scheduler.evaluate = None",
    "i_closes": "os.closerange(3, 1000)",
    "i_ends_itself": "sys.exit(5)",
    "j_is_killed": "os.kill(os.getpid(), 11)",
    # What the kernel does when memory runs out.
    "j_runs_out_of_memory": "os.kill(os.getpid(), 9)",
    "k_sees": "what = [os.getcwd(), sys.path[0], os.environ.get('HOME'), [n for n in os.environ if n[:2] in 'TCUV']]",
}


@pytest.fixture
def side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pooled]:
    monkeypatch.setattr(constants, "MAX_FORK_WORKERS", 1)
    warehouse = DuckDBFile(tmp_path / "warehouse.duckdb")
    models = {f"models/{name}.py": MODEL.format(name=name, code=code) for name, code in BEHAVIOURS.items()}
    project = Project(models, {"model_defaults": {"dialect": "duckdb", "start": "2025-01-01"}})
    project.write(tmp_path, {"warehouse": warehouse.connection})
    variables = {
        "SQLMESH__DEFAULT_GATEWAY": "warehouse",
        **{f"SQLMESH__GATEWAYS__WAREHOUSE__CONNECTION__{k.upper()}": str(v) for k, v in warehouse.connection.items()},
        "TCLOUD_CLIENT_SECRET": SECRET,
        "UV_INDEX_PRIVATE_PASSWORD": SECRET,
    }
    console = get_console()
    with pooled_runners(variables, RunnerLimits(memory_limit_bytes=MEMORY)) as runners:
        yield Pooled(tmp_path, {"warehouse": warehouse}, runners=runners, evaluation_seconds=8)
    set_console(console)


def test_it_fails_alone(side: Pooled) -> None:
    assert side.plan("prod", execution_time="2025-01-02 12:00:00") is not None

    (evaluated,) = side.evaluated
    names = [unit["snapshot"] for unit in evaluated.execution["units"]]
    by_name: dict[str, dict[str, Any]] = {}
    for number, outcome in evaluated.outcomes.items():
        by_name[evaluated.execution["snapshots"][names[number]]["name"].split('"')[-2]] = outcome
    failed = {name: outcome["error"] for name, outcome in by_name.items() if outcome["status"] == "failed"}
    assert failed.keys() == {
        *("a_exits", "d_fills_memory", "f_sleeps", "i_closes", "i_ends_itself", "j_is_killed", "j_runs_out_of_memory")
    }
    assert "exited with code 3" in failed["a_exits"]
    assert "MemoryError" in failed["d_fills_memory"]
    assert "has reached its limit of 1,500 MB of memory" in failed["d_fills_memory"]
    assert "as the kernel does when memory runs out" in failed["j_runs_out_of_memory"]
    assert failed["i_ends_itself"] == "It called sys.exit(5)."
    assert "signal 11 (SIGSEGV)" in failed["j_is_killed"]
    log = by_name["e_prints"]["log"]
    assert len(log) < 70_000
    assert "the end" in log

    rows = side.outcome().relations
    told = {name: relation.rows for name, relation in rows.items()}
    seen = next(rows for name, rows in told.items() if "k_sees" in name)
    assert str(Path.cwd()) in str(seen)
    assert "nowhere" not in str(seen)
    assert ("TCLOUD" in str(seen), "UV_" in str(seen)) == (False, False)
    left = next(rows for name, rows in told.items() if "c_leaves" in name)
    pid = int("".join(c for c in str(left) if c.isdigit()))
    eventually(lambda: not psutil.pid_exists(pid), 10)
