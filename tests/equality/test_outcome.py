"""The comparison finds what it is there to find."""

from contextlib import closing
from copy import deepcopy

import psycopg2
import pytest

from benchmarks.projects import Shape
from stack.postgres import Postgres
from tests.equality.outcome import Outcome, differences, read_relations
from tests.equality.synthetic import write_project
from tests.equality.ways import Way, builtin_gateway, builtin_way


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory, builtin_postgres: Postgres) -> Way:
    project = tmp_path_factory.mktemp("compared")
    write_project(project, [Shape.CHAIN], builtin_gateway(builtin_postgres))
    way = builtin_way(project, builtin_postgres)
    planned = way.plan("prod", at="2025-01-06 12:00:00")
    assert planned.exit_code == 0, planned.output
    return way


@pytest.fixture(scope="module")
def outcome(way: Way) -> Outcome:
    return way.outcome()


def test_an_outcome_equals_itself_read_again(way: Way, outcome: Outcome) -> None:
    assert len(outcome.relations) == 26
    assert len(outcome.state["snapshots"]) == 13
    assert differences(outcome, way.outcome()) == []


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("UPDATE extra.events SET amount = amount + 1 WHERE ds = '2025-01-03'", "extra__events"),
        ("ALTER TABLE sqlmesh__extra.{totals} ADD COLUMN more INT", "extra__totals"),
        ("CREATE OR REPLACE VIEW extra.latest AS SELECT DATE '2025-01-05' AS ds", "extra.latest"),
        ("DROP VIEW chain.m00007", "chain.m00007"),
        ("CREATE TABLE chain.left_behind (id INT)", "chain.left_behind"),
    ],
)
def test_a_change_of_the_warehouse_is_found(way: Way, outcome: Outcome, statement: str, name: str) -> None:
    (totals,) = (name for _, _, name in (key.partition(".") for key in outcome.relations) if "__totals" in name)
    with closing(psycopg2.connect(way.warehouse)) as connection:
        with connection.cursor() as cursor:
            cursor.execute(statement.format(totals=totals))
        changed = Outcome(outcome.state, read_relations(connection))
    assert any(name in difference for difference in differences(outcome, changed))


def test_a_missing_interval_is_found(outcome: Outcome) -> None:
    changed = deepcopy(outcome)
    snapshot = next(s for key, s in changed.state["snapshots"].items() if "events" in key)
    snapshot["intervals"][-1][1] -= 86_400_000
    (difference,) = differences(outcome, changed)
    assert "events" in difference
    assert "intervals" in difference


def test_a_snapshot_that_is_not_promoted_is_found(outcome: Outcome) -> None:
    changed = deepcopy(outcome)
    changed.state["environments"]["prod"]["environment"]["snapshots"].pop()
    assert differences(outcome, changed)
