"""What every test can ask for; the fixtures themselves are in `tests/fixtures`."""

import os

import pytest

pytest_plugins = ["tests.fixtures.databases", "tests.fixtures.stack", "tests.fixtures.temporal"]

OWN_PREFIXES = ("TCLOUD_", "TEMPOMESH_", "SQLMESH__")


def pytest_configure(config: pytest.Config) -> None:
    """Takes the developer's own configuration out of the environment, before anything reads it."""
    for name in list(os.environ):
        if name.startswith(OWN_PREFIXES):
            del os.environ[name]
