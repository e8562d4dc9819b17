"""A runner's tasks, one after another, do what the built-in scheduler does: to state, rows and console."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.runner.both import BothWays, both_ways, one_file
from tests.integration.runner.projects import SHOP, change_forward_only, change_totals


@pytest.fixture
def both(tmp_path: Path) -> Iterator[BothWays]:
    with both_ways(tmp_path, SHOP, one_file, is_forgetful=False) as both:
        yield both


def test_plans_and_runs_are_those_of_sqlmesh(both: BothWays) -> None:
    assert both.plan("prod", execution_time="2025-01-06 12:00:00") is None
    assert both.run("prod", execution_time="2025-01-08 12:00:00", end="2025-01-08 12:00:00") == "success"
    # A model without time column is due again whenever somebody asks: SQLMesh's own answer is what counts.
    both.run("prod", execution_time="2025-01-08 12:00:00", end="2025-01-08 12:00:00")

    both.edit(change_totals)
    both.edit(change_forward_only)
    assert both.plan("dev", execution_time="2025-01-08 13:00:00", forward_only=True) is None
    assert both.run("dev", execution_time="2025-01-09 13:00:00", end="2025-01-09 13:00:00") == "success"
    assert both.plan("prod", execution_time="2025-01-09 13:00:00", forward_only=True) is None
    assert both.run("dev", execution_time="2025-01-09 13:00:00", end="2025-01-09 13:00:00") == "success"

    assert both.run("prod", execution_time="2025-01-11 12:00:00", end="2025-01-11 12:00:00") == "failure"
