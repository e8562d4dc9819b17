"""A PostgreSQL for the built-in way, apart from Tempomesh's, so that both warehouses can have one name."""

from collections.abc import Iterator

import pytest

from stack.postgres import Postgres
from tests.fixtures.children import running


@pytest.fixture(scope="session")
def builtin_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A running server without databases of its own."""
    folder = tmp_path_factory.mktemp("builtin")
    server = Postgres(folder, folder / "postgres.log", is_durable=False)
    server.initialize()
    with running(server.spec()):
        yield server
