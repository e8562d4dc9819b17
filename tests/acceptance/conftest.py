"""The stack that acceptance tests share."""

from collections.abc import Iterator

import pytest

from tests.fixtures.stack import RunningStack, running_stack


@pytest.fixture(scope="package")
def tempomesh_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """One stack for all tests of this process that ask for it; it stops with the last acceptance test."""
    with running_stack(tmp_path_factory.mktemp("stack") / "data") as stack:
        yield stack
