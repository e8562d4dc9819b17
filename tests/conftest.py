"""What every test can ask for; the fixtures themselves are in `tests/fixtures`."""

import os
import shutil
import sys
from pathlib import Path
from tempfile import mkdtemp

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.distribution import Distribution, place_of

pytest_plugins = ["tests.fixtures.databases", "tests.fixtures.stack", "tests.fixtures.temporal"]

OWN_PREFIXES = ("TCLOUD_", "TEMPOMESH_", "SQLMESH__", "TEMPORAL_")
_FOLDER = pytest.StashKey[Path]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Takes the developer's own configuration out of the environment, before anything reads it."""
    for name in list(os.environ):
        if name.startswith(OWN_PREFIXES):
            del os.environ[name]
    # Tests start hundreds of processes: each would compile SQLMesh and all the rest for itself.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        # pytest's own folder is closed to everybody else at the start of each session, and PostgreSQL, which does not
        # run as root, would lose its files under the feet of a session that is still running.
        config.stash[_FOLDER] = Path(mkdtemp(prefix="tm-tests-"))
        config.option.basetemp = str(config.stash[_FOLDER] / "t")


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: tests of the whole stack wait more than they compute."""
    return (os.cpu_count() or 1) + 1


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Tests that share what is dear to set up share a worker."""
    return Distribution(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts what takes long first."""
    items.sort(key=lambda item: place_of(item.nodeid.split("::", 1)[0]))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Removes the session's folder."""
    if (folder := config.stash.get(_FOLDER, None)) is not None:
        shutil.rmtree(folder, ignore_errors=True)
