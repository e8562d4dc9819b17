"""Tempomesh leaves the same state and the same tables as SQLMesh's built-in scheduler, on the same project and clock.

Each project goes both ways at once: the same commands, the same changes of its files, the same execution times.
After every step the two commands have said the same, and after every phase the two outcomes are equal.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.projects import Shape
from benchmarks.running_stack import running_stack
from stack.postgres import Postgres
from tests.equality.outcome import differences
from tests.equality.synthetic import break_for_good, change, write_project
from tests.equality.ways import Completed, Way, builtin_way, tempomesh_way


@dataclass(frozen=True)
class BothWays:
    """One project, gone two ways."""

    builtin: Way
    tempomesh: Way

    def edit(self, edit: Callable[[Path], None]) -> None:
        """Makes the same change to both copies of the project."""
        for way in (self.builtin, self.tempomesh):
            edit(way.project)

    def do(self, step: Callable[[Way], Completed]) -> Completed:
        """Takes a step both ways; fails unless the two said the same. Returns what the built-in scheduler said."""
        with ThreadPoolExecutor(2) as pool:
            expected, actual = pool.map(step, (self.builtin, self.tempomesh))
        said = f"built-in:\n{expected.output}\nTempomesh:\n{actual.output}"
        assert actual.exit_code == expected.exit_code, said
        assert actual.batches == expected.batches, said
        assert actual.report == expected.report, said
        return expected

    def assert_equal(self) -> None:
        """Fails, with each difference on a line, unless state and warehouse are equal."""
        with ThreadPoolExecutor(2) as pool:
            expected, actual = pool.map(Way.outcome, (self.builtin, self.tempomesh))
        found = differences(expected, actual)
        assert not found, "\n".join(found)


@pytest.fixture(params=list(Shape))
def synthetic(request: pytest.FixtureRequest, tmp_path: Path, builtin_postgres: Postgres) -> Iterator[BothWays]:
    projects = (tmp_path / "builtin", tmp_path / "tempomesh")
    for project in projects:
        write_project(project, request.param)
    with running_stack(tmp_path / "stack") as stack:
        yield BothWays(builtin_way(projects[0], builtin_postgres), tempomesh_way(projects[1], stack))


def test_synthetic_projects_are_left_the_same(synthetic: BothWays) -> None:
    planned = synthetic.do(lambda way: way.plan("prod", at="2025-01-06 12:00:00"))
    assert planned.exit_code == 0
    assert planned.batches
    synthetic.assert_equal()

    assert synthetic.do(lambda way: way.run(at="2025-01-08 12:00:00")).batches
    synthetic.assert_equal()

    failed = synthetic.do(lambda way: way.run(at="2025-01-09 12:00:00"))
    assert failed.exit_code == 1
    assert "extra.events" in " ".join(failed.batches), "independent models still run"
    assert "division by zero" in failed.report
    synthetic.assert_equal()

    synthetic.edit(change)
    assert synthetic.do(lambda way: way.plan("dev", at="2025-01-10 12:00:00")).exit_code == 0
    assert synthetic.do(lambda way: way.plan("prod", at="2025-01-10 12:00:00")).exit_code == 0
    assert synthetic.do(lambda way: way.run(at="2025-01-12 12:00:00")).exit_code == 0
    synthetic.assert_equal()

    synthetic.edit(break_for_good)
    assert synthetic.do(lambda way: way.plan("prod", at="2025-01-12 12:00:00")).exit_code == 1
    synthetic.assert_equal()
