"""Tempomesh leaves the same state and the same tables as SQLMesh's built-in scheduler, on the same project and clock.

Each project goes both ways at once: the same commands, the same changes of its files, the same execution times.
After every step the two commands have said the same, and after every phase the two outcomes are equal.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.projects import Shape
from stack.postgres import Postgres
from tests.equality import example, synthetic
from tests.equality.outcome import differences
from tests.equality.schedules import hold_schedules
from tests.equality.ways import Completed, Way, builtin_gateway, builtin_way, tempomesh_way
from tests.fixtures.stack import running_stack

pytestmark = pytest.mark.timeout(600)


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


@pytest.fixture
def synthetic_project(tmp_path: Path, builtin_postgres: Postgres) -> Iterator[BothWays]:
    synthetic.write_project(tmp_path / "builtin", Shape, builtin_gateway(builtin_postgres))
    synthetic.write_project(tmp_path / "tempomesh", Shape)
    with _both_ways(tmp_path, builtin_postgres, synthetic.CRONS) as both:
        yield both


@pytest.fixture
def example_project(tmp_path: Path, builtin_postgres: Postgres) -> Iterator[BothWays]:
    example.write_project(tmp_path / "builtin", builtin_gateway(builtin_postgres))
    example.write_project(tmp_path / "tempomesh")
    with _both_ways(tmp_path, builtin_postgres, example.CRONS) as both:
        yield both


@contextmanager
def _both_ways(folder: Path, builtin_postgres: Postgres, crons: Sequence[str]) -> Iterator[BothWays]:
    with running_stack(folder / "stack") as stack:
        hold_schedules(stack, crons)
        yield BothWays(builtin_way(folder / "builtin", builtin_postgres), tempomesh_way(folder / "tempomesh", stack))


def test_the_example_is_left_the_same(example_project: BothWays) -> None:
    both = example_project
    assert both.do(lambda way: way.plan("prod", at="2025-01-06 12:00:30")).exit_code == 0
    both.assert_equal()

    assert both.do(lambda way: way.run(at="2025-01-06 13:07:00")).batches
    both.assert_equal()

    both.edit(example.change)
    assert both.do(lambda way: way.plan("prod", at="2025-01-06 13:07:00")).exit_code == 0
    both.assert_equal()

    assert both.do(lambda way: way.run(at="2025-01-08 12:00:00")).batches
    both.assert_equal()


def test_graphs_of_every_shape_are_left_the_same(synthetic_project: BothWays) -> None:
    both = synthetic_project
    planned = both.do(lambda way: way.plan("prod", at="2025-01-06 12:00:00"))
    assert planned.exit_code == 0
    assert planned.batches
    both.assert_equal()

    assert both.do(lambda way: way.run(at="2025-01-08 12:00:00")).batches
    both.assert_equal()

    failed = both.do(lambda way: way.run(at="2025-01-09 12:00:00"))
    assert failed.exit_code == 1
    assert "extra.events" in " ".join(failed.batches), "independent models still run"
    assert "division by zero" in failed.report
    both.assert_equal()

    both.edit(synthetic.change)
    assert both.do(lambda way: way.plan("dev", at="2025-01-10 12:00:00")).exit_code == 0
    assert both.do(lambda way: way.plan("prod", at="2025-01-10 12:00:00")).exit_code == 0
    assert both.do(lambda way: way.run(at="2025-01-12 12:00:00")).exit_code == 0
    both.assert_equal()

    both.edit(synthetic.break_for_good)
    assert both.do(lambda way: way.plan("prod", at="2025-01-12 12:00:00")).exit_code == 1
    both.assert_equal()
