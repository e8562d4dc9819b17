"""Two repositories that share one state, together and one at a time, as with the built-in scheduler."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.runner.both import BothWays, both_ways, one_file
from tests.integration.runner.projects import Project, replace

FILES = {
    "one/models/base.sql": """
        MODEL (name one.base, kind INCREMENTAL_BY_TIME_RANGE (time_column ds), cron '@daily');
        SELECT d::DATE AS ds, 1 AS amount
        FROM UNNEST(GENERATE_SERIES(@start_dt::TIMESTAMP, @end_dt::TIMESTAMP, INTERVAL 1 DAY)) AS t(d)
        WHERE d::DATE BETWEEN @start_ds AND @end_ds
    """,
    "two/models/top.sql": """
        MODEL (name two.top, kind FULL, cron '@daily', audits (number_of_rows(threshold := 0)));
        SELECT SUM(amount)::INT AS amount FROM one.base
    """,
    "two/models/last.sql": "MODEL (name two.last, kind VIEW, cron '@daily'); SELECT amount FROM two.top",
}


@pytest.fixture
def both(tmp_path: Path) -> Iterator[BothWays]:
    project = Project(FILES, {"model_defaults": {"dialect": "duckdb", "start": "2025-01-01"}})
    with both_ways(tmp_path, project, one_file, is_forgetful=True) as both:
        both.edit(_make_repositories)
        yield both


def _make_repositories(folder: Path) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for name in ("one", "two"):
        (folder / name / "config.yaml").write_text(yaml.safe_dump({**config, "project": name}))
    (folder / "config.yaml").unlink()


def _take(both: BothWays, *repositories: str) -> None:
    for side in (both.builtin, both.driven):
        side.repositories = repositories


def test_plans_and_runs_of_two_repositories(both: BothWays) -> None:
    _take(both, "one", "two")
    assert both.plan("prod", execution_time="2025-01-04 12:00:00") is None
    assert both.run("prod", execution_time="2025-01-05 12:00:00", end="2025-01-05 12:00:00") == "success"
    both.edit(lambda folder: replace(folder / "one/models/base.sql", "1 AS amount", "2 AS amount"))
    # What reads it is in the other repository, of which this machine has no files.
    _take(both, "one")
    assert both.plan("dev", execution_time="2025-01-05 12:00:00") is None
    assert both.plan("prod", execution_time="2025-01-05 12:00:00") is None
    _take(both, "two")
    both.edit(lambda folder: replace(folder / "two/models/last.sql", "SELECT amount", "SELECT amount, 1 AS more"))
    assert both.plan("prod", execution_time="2025-01-06 12:00:00") is None
    assert both.run("prod", execution_time="2025-01-07 12:00:00", end="2025-01-07 12:00:00") == "success"
    both.edit(lambda folder: shutil.rmtree(folder / "two" / "models"))
    both.edit(lambda folder: (folder / "two" / "models").mkdir())
    _take(both, "one", "two")
    assert both.plan("prod", execution_time="2025-01-07 12:00:00") is None
