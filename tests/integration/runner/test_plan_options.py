"""Every option of a plan, applied by a runner's tasks, does what it does with the built-in scheduler."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmesh.core.plan import EvaluatablePlan, Plan
from sqlmesh.core.snapshot import SnapshotChangeCategory
from sqlmesh.utils.errors import SQLMeshError

from tests.equality.outcome import differences
from tests.integration.runner.both import BothWays, both_ways, one_file
from tests.integration.runner.projects import Project, replace

NOON = "12:00:00"

LEDGER = Project(
    {
        "models/events.sql": """
            MODEL (name ledger.events, kind INCREMENTAL_BY_TIME_RANGE (time_column ds), cron '@daily');
            SELECT d::DATE AS ds, EXTRACT(DAY FROM d)::INT AS amount, 1 AS shop_id
            FROM UNNEST(GENERATE_SERIES(@start_dt::TIMESTAMP, @end_dt::TIMESTAMP, INTERVAL 1 DAY)) AS t(d)
            WHERE d::DATE BETWEEN @start_ds AND @end_ds
        """,
        "models/days.sql": """
            MODEL (name ledger.days, kind INCREMENTAL_BY_TIME_RANGE (time_column ds, on_destructive_change ERROR,
              on_additive_change ALLOW), cron '@daily', tags [restated]);
            SELECT ds, SUM(amount)::INT AS amount, @execution_ds AS seen
            FROM ledger.events WHERE ds BETWEEN @start_ds AND @end_ds GROUP BY ds
        """,
        "models/fixed.sql": """
            MODEL (name ledger.fixed, kind INCREMENTAL_BY_TIME_RANGE (time_column ds, disable_restatement TRUE),
              cron '@daily');
            SELECT ds, amount, @execution_ds AS seen FROM ledger.days WHERE ds BETWEEN @start_ds AND @end_ds
        """,
        "models/total.sql": """
            MODEL (name ledger.total, kind FULL, cron '@daily');
            SELECT SUM(amount)::INT AS amount FROM ledger.days
        """,
        "models/top.sql": """
            MODEL (name ledger.top, kind VIEW, cron '@daily');
            SELECT MAX(amount) AS amount FROM ledger.total
        """,
        "models/weeks.sql": """
            MODEL (name ledger.weeks, kind FULL, cron '@weekly');
            SELECT DATE_TRUNC('week', ds) AS week, COUNT(*)::INT AS days FROM ledger.days GROUP BY 1
        """,
    },
    {"model_defaults": {"dialect": "duckdb", "start": "2025-01-01"}},
)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[BothWays]:
    """The ledger, planned at noon of 6 January."""
    with both_ways(tmp_path, LEDGER, one_file, is_forgetful=True) as both:
        assert both.plan("prod", execution_time=f"2025-01-06 {NOON}") is None
        yield both


def test_what_is_backfilled(both: BothWays) -> None:
    both.edit(lambda folder: replace(folder / "models/days.sql", "SUM(amount)", "2 * SUM(amount)"))
    at = f"2025-01-06 {NOON}"
    assert both.plan("dev", execution_time=at, start="2025-01-03", end="2025-01-04") is None
    assert both.plan("empty", execution_time=at, empty_backfill=True) is None
    assert both.plan("later", execution_time=at, skip_backfill=True, include_unmodified=True) is None
    both.edit(lambda folder: replace(folder / "models/total.sql", "SUM(amount)", "3 * SUM(amount)"))
    selected = ["ledger.total", "ledger.weeks"]
    assert both.plan("part", execution_time=at, select_models=selected, backfill_models=["ledger.weeks"]) is None
    # Two days are there already, from the plan of `dev`; gaps are not allowed.
    assert both.plan("prod", execution_time=at, no_gaps=True) is None
    assert both.run("dev", execution_time=f"2025-01-07 {NOON}", end=f"2025-01-07 {NOON}") == "success"
    assert both.plan("prod", execution_time=f"2025-01-08 {NOON}", run=True) is None
    tomorrow = {"execution_time": f"2025-01-09 {NOON}", "end": f"2025-01-09 {NOON}"}
    assert both.run("prod", select_models=["ledger.total"], no_auto_upstream=True, **tomorrow) == "success"
    assert both.run("prod", select_models=["ledger.fixed"], **tomorrow) == "success"
    assert both.run("prod", ignore_cron=True, **tomorrow) == "success"


def test_restatement(both: BothWays) -> None:
    at = f"2025-01-06 {NOON}"
    both.edit(lambda folder: replace(folder / "models/total.sql", "SUM(amount)", "3 * SUM(amount)"))
    assert both.plan("dev", execution_time=at, include_unmodified=True) is None
    both.edit(lambda folder: replace(folder / "models/total.sql", "3 * SUM(amount)", "SUM(amount)"))
    restated = {"execution_time": f"2025-01-07 {NOON}", "start": "2025-01-02", "end": "2025-01-03"}
    assert both.plan("prod", restate_models=["tag:restated"], **restated) is None
    assert both.plan("dev", restate_models=["ledger.total"], **restated) is None
    assert both.run("dev", execution_time=f"2025-01-07 {NOON}", end=f"2025-01-07 {NOON}") == "success"


def test_forward_only(both: BothWays) -> None:
    both.edit(lambda folder: replace(folder / "models/days.sql", "SUM(amount)::INT AS amount", "7 AS amount"))
    at = f"2025-01-06 {NOON}"
    assert both.plan("dev", execution_time=at, forward_only=True, effective_from="2025-01-04") is None
    assert both.run("dev", execution_time=f"2025-01-07 {NOON}", end=f"2025-01-07 {NOON}") == "success"
    assert both.plan("prod", execution_time=f"2025-01-07 {NOON}", forward_only=True) is None

    both.edit(lambda folder: replace(folder / "models/events.sql", ", 1 AS shop_id", ""))
    both.edit(lambda folder: replace(folder / "models/days.sql", ", @execution_ds AS seen", ""))
    destructive = {"execution_time": f"2025-01-07 {NOON}", "forward_only": True, "skip_backfill": True}
    assert both.plan("prod", allow_destructive_models=["ledger.events", "ledger.days"], **destructive) is None
    assert both.run("prod", execution_time=f"2025-01-08 {NOON}", end=f"2025-01-08 {NOON}") == "success"

    both.edit(lambda folder: (folder / "models/weeks.sql").unlink())
    both.edit(lambda folder: (folder / "models/top.sql").unlink())
    assert both.plan("prod", execution_time=f"2025-01-08 {NOON}") is None
    assert both.plan("dev", execution_time=f"2025-01-08 {NOON}") is None


def test_what_is_planned_from_what_and_changes_of_columns(both: BothWays) -> None:
    at = f"2025-01-06 {NOON}"
    both.edit(lambda folder: replace(folder / "models/total.sql", "SUM(amount)", "3 * SUM(amount)"))
    choice = {'"warehouse"."ledger"."total"': SnapshotChangeCategory.NON_BREAKING}
    chosen = {"execution_time": at, "no_auto_categorization": True}
    assert both.plan("dev", choices=choice, **chosen) is None
    # Nothing of its own, all of `dev`.
    both.edit(lambda folder: replace(folder / "models/total.sql", "3 * SUM(amount)", "SUM(amount)"))
    both.edit(lambda folder: replace(folder / "models/top.sql", "MAX(amount)", "MIN(amount)"))
    selected = {"create_from": "dev", "select_models": ["ledger.top"], "include_unmodified": True}
    assert both.plan("copy", execution_time=at, **selected) is None
    assert both.plan("short", execution_time=at, start="2025-01-05", min_intervals=3, include_unmodified=True) is None
    assert both.plan("prod", execution_time=f"2025-01-07 {NOON}", run=True, ignore_cron=True) is None

    both.edit(
        lambda folder: replace(folder / "models/fixed.sql", "disable_restatement TRUE", "on_additive_change ERROR")
    )
    at = f"2025-01-08 {NOON}"
    assert both.plan("prod", execution_time=at, forward_only=True) is None
    both.edit(lambda folder: replace(folder / "models/fixed.sql", "amount, @", "amount, 1 AS more, @"))
    added = {"execution_time": at, "forward_only": True, "allow_additive_models": ["ledger.fixed"]}
    assert both.plan("dev", enable_preview=True, **added) is None
    assert both.plan("prod", **added) is None
    assert both.run("prod", execution_time=f"2025-01-09 {NOON}", end=f"2025-01-09 {NOON}") == "success"


def test_plans_that_nobody_made(both: BothWays, monkeypatch: pytest.MonkeyPatch) -> None:
    both.edit(lambda folder: replace(folder / "models/total.sql", "SUM(amount)", "3 * SUM(amount)"))
    made = Plan.to_evaluatable
    before = both.driven.outcome()

    def of_another_project(plan: Plan) -> EvaluatablePlan:
        evaluatable = made(plan)
        return evaluatable.copy(update={"new_snapshots": []})

    def malformed(plan: Plan) -> EvaluatablePlan:
        evaluatable = made(plan)
        return evaluatable.copy(update={"environment": evaluatable.environment.copy(update={"start_at": None})})

    for change, says in (
        (of_another_project, '^The plan names 2 snapshots that the project\'s state does not have, such as .*"top"'),
        (malformed, r"^The plan cannot be read by SQLMesh .* \(environment.start_at: "),
    ):
        monkeypatch.setattr(Plan, "to_evaluatable", change)
        with pytest.raises(SQLMeshError, match=says) as refused:
            raise both.driven.plan("dev", execution_time=f"2025-01-06 {NOON}") or AssertionError("it was applied")
        assert "\n" not in str(refused.value)
    assert not differences(before, both.driven.outcome())


def test_a_seed_of_many_rows(tmp_path: Path) -> None:
    files = {
        "seeds/readings.csv": "reading_id,shop_id\n" + "".join(f"{n},{n % 7}\n" for n in range(100_000)),
        "models/readings.sql": "MODEL (name lab.readings, kind SEED (path '../seeds/readings.csv'));",
    }
    project = Project(files, {"model_defaults": {"dialect": "duckdb", "start": "2025-01-01"}})
    with both_ways(tmp_path, project, one_file, is_forgetful=True) as both:
        assert both.plan("prod", execution_time=f"2025-01-06 {NOON}") is None
