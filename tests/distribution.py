"""Which tests go to one worker together, and what is begun first."""

from pathlib import PurePosixPath

from xdist.scheduler import LoadScopeScheduling

__all__ = ["Distribution", "group_of", "place_of"]

SHARED_STACK = "shared stack"
CLIENT = "client"
OWN_STACKS = frozenset({"chaos", "duckdb_project", "logs", "notifications", "pauses", "quickstart"})
"""Acceptance tests that do not use the stack of the others."""
LONGEST_FIRST = (
    SHARED_STACK,
    "tests/acceptance/test_chaos",
    "tests/equality",
    "tests/acceptance",
    CLIENT,
    "tests/i",
    "",
)
"""How groups begin: no worker should be left alone with a long one at the end."""


class Distribution(LoadScopeScheduling):
    """Gives a worker one group after another, in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.split("::", 1)[0])


def group_of(file: str) -> str:
    """The group of a file, by its path from the repository's root: itself, unless a fixture costs much to set up twice.

    Marks of pytest-xdist are of no use for this: with pytest 9.2 it does not see them, and says nothing.
    """
    path = PurePosixPath(file)
    match path.parts[1:-1]:
        case ("acceptance",) if path.stem.removeprefix("test_") not in OWN_STACKS:
            return SHARED_STACK
        case ("integration", "client"):
            return CLIENT
        case _:
            return file


def place_of(file: str) -> int:
    """The place of a file's group among all."""
    group = group_of(file)
    return next(place for place, beginning in enumerate(LONGEST_FIRST) if group.startswith(beginning))
