"""A project that goes both ways: through SQLMesh's built-in scheduler, and through the tasks of a runner process."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlmesh.core import constants
from sqlmesh.core.console import get_console, set_console

from tests.equality.outcome import differences
from tests.integration.runner.projects import write_project
from tests.integration.runner.sides import BuiltIn, Driven


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
        assert repr(actual) == repr(expected), f"{self.builtin.take_events()}\n{self.driven.take_events()}"
        self.assert_equal()
        return str(expected) if expected else None

    def run(self, environment: str, **options: Any) -> str:
        """Runs both; fails unless the consoles were told the same. Returns how it went."""
        expected = self.builtin.run(environment, **options)
        actual = self.driven.run(environment, **options)
        assert actual == expected, "\n".join([*self.builtin.take_events(), "---", *self.driven.take_events()])
        self.assert_equal()
        return expected

    def assert_equal(self) -> None:
        """Fails unless state, warehouse, and what the console was told are equal."""
        found = differences(self.builtin.outcome(), self.driven.outcome())
        assert not found, "\n".join(found)
        expected, actual = self.builtin.take_events(), self.driven.take_events()
        assert Counter(expected) == Counter(actual)


@pytest.fixture(params=["one process", "a process per task"])
def both(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BothWays]:
    """A project that nobody has planned yet, both ways."""
    is_crashing = request.param != "one process"
    # SQLMesh's loader forks otherwise, in a process that has threads.
    monkeypatch.setattr(constants, "MAX_FORK_WORKERS", 1)
    sides = BothWays(BuiltIn(tmp_path / "builtin"), Driven(tmp_path / "driven", is_forgetful=is_crashing))
    for side in (sides.builtin, sides.driven):
        write_project(side.folder)
    console = get_console()
    yield sides
    set_console(console)
