"""A project of somebody's own on files of DuckDB, which only one process can open at a time: `tcloud dev --project`."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent

import duckdb

from stack.processes import tcloud_command
from tests.eventually import eventually
from tests.fixtures.stack import RunningStack, running_stack
from tests.fixtures.strangers import stranger
from tests.integration.runner.features import SEED_ROWS

FILES = {
    "config.yaml": """
        gateways:
          warehouse:
            connection: {type: duckdb, database: warehouse.duckdb}
            scheduler: {type: cloud}
          archive:
            connection: {type: duckdb, database: archive.duckdb}
            scheduler: {type: cloud}
        default_gateway: warehouse
        model_defaults: {dialect: duckdb, start: 2025-01-01}
        gateway_managed_virtual_layer: true
        before_all: [CREATE TABLE IF NOT EXISTS journal (entry TEXT)]
        after_all: ["INSERT INTO journal VALUES (@this_env)"]
    """,
    "seeds/readings.csv": "reading_id,shop_id\n" + "".join(f"{n},{n % 7}\n" for n in range(SEED_ROWS)),
    "models/readings.sql": """
        MODEL (name town.readings, kind SEED (path '../seeds/readings.csv'), columns (reading_id INT, shop_id INT));
    """,
    "models/shops.sql": """
        MODEL (name town.shops, kind FULL, cron '@daily');
        SELECT shop_id, COUNT(*)::INT AS readings FROM town.readings GROUP BY shop_id
    """,
    "models/days.sql": """
        MODEL (name town.days, kind INCREMENTAL_BY_TIME_RANGE (time_column ds, batch_size 2), cron '@daily');
        SELECT @start_ds::DATE AS ds, 1 AS amount
    """,
    "models/log.sql": """
        MODEL (name town.log, kind FULL, cron '@daily', gateway archive);
        SELECT @execution_ds AS seen
    """,
    "audits/no_empty_shop.sql": """
        AUDIT (name no_empty_shop, standalone TRUE, cron '@daily');
        SELECT * FROM town.shops WHERE readings = 0
    """,
}
EVENING, MORNING = "2025-01-06 20:00:00", "2025-01-07 08:00:00"
UNATTENDED = ("--auto-apply", "--no-prompts")
TWICE = """
    from sqlmesh import CustomMaterialization

    class Twice(CustomMaterialization):
        NAME = "twice"
"""


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))


def value(path: Path, query: str) -> object:
    def read() -> tuple[object]:
        try:
            with duckdb.connect(str(path), read_only=True) as connection:
                return connection.execute(query).fetchone() or (None,)
        except duckdb.IOException as error:
            raise AssertionError("a runner has its turn") from error

    return eventually(read)[0]


def plan(stack: RunningStack, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return stack.tcloud("sqlmesh", "-p", str(folder), "plan", *UNATTENDED, *options)


def test_executors_take_turns_on_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    for name, text in FILES.items():
        write(folder, name, text)
    with running_stack(tmp_path / "stack", "--project", str(folder)) as stack:
        applied = plan(stack, folder, "--execution-time", EVENING)
        assert applied.returncode == 0, applied.stdout + applied.stderr
        assert value(folder / "warehouse.duckdb", "SELECT SUM(readings) FROM town.shops") == SEED_ROWS
        assert value(folder / "archive.duckdb", "SELECT seen FROM town.log") == "2025-01-06"

        # A plan and a run at once: two executors, several processes, one file.
        with ThreadPoolExecutor() as pool:
            dev = pool.submit(plan, stack, folder, "dev", "--include-unmodified", "--execution-time", MORNING)
            ran = stack.tcloud("runs", "start", "--environment", "prod", "--execution-time", MORNING)
            for ended in (dev.result(), ran):
                assert ended.returncode == 0, ended.stdout + ended.stderr
        assert value(folder / "warehouse.duckdb", "SELECT COUNT(*) FROM journal") == 3

        # Somebody who takes no turns is named and waited for.
        with (
            stranger(folder / "warehouse.duckdb") as process,
            subprocess.Popen(
                [
                    *tcloud_command(),
                    "runs",
                    "start",
                    "--environment",
                    "prod",
                    "--execution-time",
                    MORNING,
                    "--ignore-cron",
                ],
                env={**os.environ, **stack.client_environment},
                stdout=subprocess.PIPE,
                text=True,
            ) as waiting,
        ):
            assert waiting.stdout
            # A terminal breaks long lines, wherever that falls.
            told = ""
            named = f"(PID {process.pid})"
            for line in waiting.stdout:
                told += line
                if named in " ".join(told.split()):
                    break
            assert named in " ".join(told.split()), told
            process.kill()
            assert waiting.wait(240) == 0

        write(folder, "materializations/twice.py", TWICE)
        write(
            folder,
            "models/twice.sql",
            "MODEL (name town.twice, kind CUSTOM (materialization 'twice'), cron '@daily'); SELECT 1 AS one",
        )
        unknown = plan(stack, folder, "--execution-time", MORNING)
        assert unknown.returncode == 1
        assert "Materialization strategy with name 'twice' was not found" in unknown.stdout
        assert "sqlmesh.materializations" in unknown.stdout
