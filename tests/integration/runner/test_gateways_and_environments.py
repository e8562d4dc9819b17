"""Projects over several databases, and other ways of naming environments: as with the built-in scheduler."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from stack.postgres import Postgres
from tests.fixtures.children import running
from tests.integration.runner.both import both_ways, one_file
from tests.integration.runner.projects import Project, replace
from tests.integration.runner.warehouses import PostgresDatabase, Warehouse

DAYS = """
    MODEL (name town.days, kind INCREMENTAL_BY_TIME_RANGE (time_column ds), cron '@daily');
    SELECT d::DATE AS ds, EXTRACT(DAY FROM d)::INT AS amount
    FROM GENERATE_SERIES(@start_ds::DATE, @end_ds::DATE, INTERVAL '1 DAY') AS t(d)
"""
TWO_GATEWAYS = Project(
    {
        "models/days.sql": DAYS,
        "models/totals.sql": """
            MODEL (name town.totals, kind VIEW (materialized TRUE), cron '@daily');
            SELECT SUM(amount)::INT AS amount FROM town.days
        """,
        "models/log.sql": """
            MODEL (name town.log, kind INCREMENTAL_BY_UNIQUE_KEY (unique_key ds), cron '@daily', gateway archive,
              audits (not_null(columns := (ds))));
            SELECT d::DATE AS ds, @execution_ds AS seen
            FROM GENERATE_SERIES(@start_ds::DATE, @end_ds::DATE, INTERVAL '1 DAY') AS t(d)
        """,
        "models/first_seen.sql": """
            MODEL (name town.first_seen, kind SCD_TYPE_2_BY_COLUMN (unique_key ds, columns [seen]), cron '@daily',
              gateway archive);
            SELECT ds, seen FROM town.log
        """,
    },
    {
        "model_defaults": {"dialect": "postgres", "start": "2025-01-01"},
        "gateway_managed_virtual_layer": True,
        "before_all": ["CREATE TABLE IF NOT EXISTS public.journal (entry TEXT)"],
        "after_all": ["INSERT INTO public.journal VALUES (@this_env)"],
    },
)
ONE_FILE = Project(
    {
        "models/days.sql": """
            MODEL (name town.days, kind INCREMENTAL_BY_TIME_RANGE (time_column ds), cron '@daily');
            SELECT d::DATE AS ds, EXTRACT(DAY FROM d)::INT AS amount
            FROM UNNEST(GENERATE_SERIES(@start_dt::TIMESTAMP, @end_dt::TIMESTAMP, INTERVAL 1 DAY)) AS t(d)
            WHERE d::DATE BETWEEN @start_ds AND @end_ds
        """,
        "models/totals.sql": """
            MODEL (name town.totals, kind FULL, cron '@daily');
            SELECT SUM(amount)::INT AS amount FROM town.days
        """,
        "models/best.sql": """
            MODEL (name town.best, kind VIEW, cron '@daily');
            SELECT MAX(amount) AS top FROM town.totals
        """,
    },
    {"model_defaults": {"dialect": "duckdb", "start": "2025-01-01"}},
)


@pytest.fixture
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Postgres]]:
    """One for each side: a database's name is the default catalog, and so a part of fingerprints."""
    with ExitStack() as running_servers:
        servers = {}
        for side in ("builtin", "driven"):
            folder = tmp_path_factory.mktemp(side)
            servers[side] = Postgres(folder, folder / "postgres.log", is_durable=False)
            servers[side].initialize()
            running_servers.enter_context(running(servers[side].spec()))
            for database in ("main", "archive"):
                servers[side].create_database(database)
        yield servers


def test_models_of_two_gateways(tmp_path: Path, servers: Mapping[str, Postgres]) -> None:
    def two_databases(folder: Path) -> Mapping[str, Warehouse]:
        return {name: PostgresDatabase(servers[folder.name], name) for name in ("main", "archive")}

    with both_ways(tmp_path, TWO_GATEWAYS, two_databases, is_forgetful=True) as both:
        assert both.plan("prod", execution_time="2025-01-04 12:00:00") is None
        assert both.run("prod", execution_time="2025-01-05 12:00:00", end="2025-01-05 12:00:00") == "success"
        both.edit(lambda folder: replace(folder / "models/log.sql", "@execution_ds AS", "2 AS more, @execution_ds AS"))
        both.edit(lambda folder: replace(folder / "models/days.sql", "EXTRACT(", "3 * EXTRACT("))
        assert both.plan("dev", execution_time="2025-01-05 12:00:00") is None
        assert both.run("dev", execution_time="2025-01-06 12:00:00", end="2025-01-06 12:00:00") == "success"
        assert both.plan("prod", execution_time="2025-01-06 12:00:00") is None


@pytest.mark.parametrize(
    "setting", [{"environment_suffix_target": "catalog"}, {"virtual_environment_mode": "dev_only"}], ids=str
)
def test_environments_of_other_kinds(tmp_path: Path, setting: dict[str, Any]) -> None:
    project = Project(ONE_FILE.files, {**ONE_FILE.config, **setting})
    with both_ways(tmp_path, project, one_file, is_forgetful=True) as both:
        assert both.plan("prod", execution_time="2025-01-04 12:00:00") is None
        both.edit(lambda folder: replace(folder / "models/days.sql", "EXTRACT(", "3 * EXTRACT("))
        both.edit(lambda folder: replace(folder / "models/totals.sql", "AS amount", "AS amount, 1 AS one"))
        assert both.plan("dev", execution_time="2025-01-04 12:00:00") is None
        assert both.run("dev", execution_time="2025-01-05 12:00:00", end="2025-01-05 12:00:00") == "success"
        assert both.plan("prod", execution_time="2025-01-05 12:00:00") is None
        assert both.run("prod", execution_time="2025-01-06 12:00:00", end="2025-01-06 12:00:00") == "success"
        both.edit(lambda folder: (folder / "models/best.sql").unlink())
        assert both.plan("dev", execution_time="2025-01-06 12:00:00") is None
        assert both.plan("prod", execution_time="2025-01-06 12:00:00") is None
