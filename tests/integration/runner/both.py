"""A project that goes both ways: through SQLMesh's built-in scheduler, and through the tasks of a runner process."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlmesh.core import constants, context_diff
from sqlmesh.core.console import get_console, set_console

from tests.equality.outcome import differences
from tests.integration.runner.projects import Project
from tests.integration.runner.sides import BuiltIn, Driven
from tests.integration.runner.warehouses import DuckDBFile, Warehouse

__all__ = ["BothWays", "both_ways", "one_file"]


@dataclass(frozen=True)
class BothWays:
    """The same project twice."""

    builtin: BuiltIn
    driven: Driven

    def edit(self, change: Callable[[Path], None]) -> None:
        """Makes the same change to both."""
        for side in (self.builtin, self.driven):
            change(side.folder)

    def plan(self, environment: str, **options: Any) -> str | None:
        """Plans both; fails unless the consoles were told the same. Returns the error's text, if it failed."""
        expected = self.builtin.plan(environment, **options)
        actual = self.driven.plan(environment, **options)
        assert repr(actual) == repr(expected), self._told()
        self.assert_equal()
        return str(expected) if expected else None

    def run(self, environment: str, **options: Any) -> str:
        """Runs both; fails unless the consoles were told the same. Returns how it went."""
        expected = self.builtin.run(environment, **options)
        actual = self.driven.run(environment, **options)
        assert actual == expected, self._told()
        self.assert_equal()
        return expected

    def assert_equal(self) -> None:
        """Fails unless state, warehouse, and what the console was told are equal."""
        found = differences(self.builtin.outcome(), self.driven.outcome())
        assert not found, "\n".join(found)
        expected, actual = Counter(self.builtin.take_events()), Counter(self.driven.take_events())
        assert actual == expected, "\n".join(
            ["only built-in:", *(expected - actual), "only here:", *(actual - expected)]
        )

    def _told(self) -> str:
        return "\n".join([*self.builtin.take_events(), "---", *self.driven.take_events()])


@contextmanager
def both_ways(
    folder: Path, project: Project, warehouses: Callable[[Path], Mapping[str, Warehouse]], *, is_forgetful: bool
) -> Iterator[BothWays]:
    """A project that nobody has planned yet, both ways.

    Args:
        folder: Where both go.
        project: What they are.
        warehouses: The gateways of the side that has this folder, the default one first.
        is_forgetful: Whether each task of a runner has a process of its own, as if the one before had died.
    """
    builtin, driven = folder / "builtin", folder / "driven"
    for path in (builtin, driven):
        path.mkdir()
    sides = BothWays(
        BuiltIn(builtin, warehouses(builtin)), Driven(driven, warehouses(driven), is_forgetful=is_forgetful)
    )
    for side in (sides.builtin, sides.driven):
        project.write(side.folder, {name: warehouse.connection for name, warehouse in side.warehouses.items()})
    console = get_console()
    with pytest.MonkeyPatch.context() as patch:
        # SQLMesh's loader forks otherwise, in a process that has threads.
        patch.setattr(constants, "MAX_FORK_WORKERS", 1)
        # It looks through all that is installed, for each plan.
        metadata: Any = vars(context_diff)["metadata"]
        patch.setattr(metadata, "packages_distributions", cache(metadata.packages_distributions))
        yield sides
    set_console(console)


def one_file(folder: Path) -> Mapping[str, Warehouse]:
    """One gateway, `warehouse`, of DuckDB."""
    return {"warehouse": DuckDBFile(folder / "warehouse.duckdb")}
