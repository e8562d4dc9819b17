"""Python environments on disk: built once, whole or not at all, never changed, never removed under anybody's feet."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from envmanager.environments import runner_variables
from envmanager.errors import PythonUnavailableError
from envmanager.interpreters import describe_interpreter
from envmanager.store import EnvironmentStore, modules_in
from tcloud.wire.pythons import PinnedPython, PythonRequest
from tests.eventually import eventually
from tests.fixtures.indexes import PackageIndex, package_index

SECONDS = 60
ALWAYS = timedelta(0)
PASSWORD = "of-the-index"
PROGRAM = """
import asyncio, os, sys
from pathlib import Path
from envmanager.store import EnvironmentStore
from tcloud.wire.pythons import PinnedPython

pinned = PinnedPython.model_validate_json(sys.argv[2])
held = asyncio.run(EnvironmentStore(Path(sys.argv[1]), os.environ).hold(pinned))
print(held.environment.interpreter)
"""


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    with package_index() as index:
        yield index


@pytest.fixture
def variables(index: PackageIndex, tmp_path: Path) -> Mapping[str, str]:
    """uv's own settings: they reach it."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    cache = tmp_path / "uv"
    return {**own, "UV_DEFAULT_INDEX": index.url, "UV_CACHE_DIR": str(cache), "UV_HTTP_RETRIES": "0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path, variables: Mapping[str, str]) -> EnvironmentStore:
    return EnvironmentStore(folder, variables)


@pytest.fixture
async def pinned(index: PackageIndex) -> PinnedPython:
    here = await describe_interpreter(Path(sys.executable))
    request = PythonRequest(requirements={}, sqlmesh_version="0", python_version=here.minor, platform=here.platform)
    return PinnedPython(request=request, pinned=index.pinned)


def another(folder: Path, variables: Mapping[str, str], pinned: PinnedPython) -> subprocess.Popen[str]:
    """Another process that wants an environment."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), pinned.model_dump_json()],
        env=dict(variables),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def environments(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "environments").iterdir())


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def imported(python: Path) -> list[str]:
    """What the package says of itself there, and whether it came with bytecode."""
    program = "import os, smallthing as s; print(s.__version__, os.path.exists(s.__cached__))"
    done = subprocess.run([python, "-I", "-B", "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


async def test_a_process_that_is_killed_in_the_middle_leaves_nothing_and_of_many_one_builds(
    store: EnvironmentStore, folder: Path, variables: Mapping[str, str], index: PackageIndex, pinned: PinnedPython
) -> None:
    index.may_answer.clear()
    killed = another(folder, variables, pinned)
    assert await asyncio.to_thread(index.is_asked.wait, SECONDS)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert [name[:10] for name in environments(folder)] == [".building-"]
    assert store.stored() == []

    others = [another(folder, variables, pinned) for _ in range(3)]
    index.may_answer.set()
    printed = [(await asyncio.to_thread(other.communicate, timeout=SECONDS))[0] for other in others]

    assert len({text.splitlines()[-1] for text in printed}) == 1, printed
    assert "".join(printed).count("python_built") == 1
    (name,) = environments(folder)
    python = folder / "environments" / name / "bin" / "python"
    assert imported(python) == ["1.0", "True"]


async def test_an_index_that_goes_away_in_the_middle_leaves_nothing(
    store: EnvironmentStore, folder: Path, index: PackageIndex, pinned: PinnedPython
) -> None:
    index.is_away = True
    with pytest.raises(PythonUnavailableError) as refused:
        await store.hold(pinned)
    assert refused.value.retryable
    assert "smallthing" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert environments(folder) == []

    index.is_away = False
    with await store.hold(pinned) as held:
        assert modules_in(held.environment) == {"smallthing": ["smallthing"]}
    assert [found.key for found in store.stored()] == [pinned.key]


@pytest.mark.parametrize("way", ["its own variables", "the URL", "a proxy"])
async def test_credentials_of_an_index_reach_uv_and_stay_there(
    folder: Path, variables: Mapping[str, str], index: PackageIndex, pinned: PinnedPython, way: str
) -> None:
    index.credentials = None if way == "a proxy" else f"ada:{PASSWORD}"
    given = {
        "its own variables": {
            "UV_DEFAULT_INDEX": f"private={index.url}",
            "UV_INDEX_PRIVATE_USERNAME": "ada",
            "UV_INDEX_PRIVATE_PASSWORD": PASSWORD,
        },
        "the URL": {"UV_DEFAULT_INDEX": f"http://ada:{PASSWORD}@{index.address}/simple"},
        "a proxy": {
            "UV_DEFAULT_INDEX": "http://index.invalid/simple",
            "HTTP_PROXY": f"http://ada:{PASSWORD}@{index.address}",
        },
    }[way]
    # With wrong ones, and without any: what is said has none of them in it.
    wrong = {name: value.replace(PASSWORD, f"not-{PASSWORD}") for name, value in given.items()}
    for others in ({"UV_DEFAULT_INDEX": index.url}, wrong) if index.credentials else ():
        with pytest.raises(PythonUnavailableError, match="401 Unauthorized") as refused:
            await EnvironmentStore(folder, {**variables, **others}).hold(pinned)
        assert PASSWORD not in str(refused.value)

    with await EnvironmentStore(folder, {**variables, **given}).hold(pinned) as held:
        assert imported(held.environment.interpreter) == ["1.0", "True"]

    assert index.proxied == ({("index.invalid", f"ada:{PASSWORD}")} if way == "a proxy" else set())
    assert [path for path in files(folder) if PASSWORD.encode() in path.read_bytes()] == []
    assert PASSWORD not in str(runner_variables({**variables, **given}))


async def test_two_machines_build_the_same_bytes(
    tmp_path: Path, variables: Mapping[str, str], pinned: PinnedPython
) -> None:
    built = []
    for machine in ("one", "two"):
        of_its_own = {**variables, "UV_CACHE_DIR": str(tmp_path / f"uv-{machine}")}
        store = EnvironmentStore(tmp_path / machine, of_its_own)
        # What the server has kept is all that they have in common.
        with await store.hold(PinnedPython.model_validate_json(pinned.model_dump_json())) as held:
            root = held.environment.interpreter.parent.parent
            built.append({str(path.relative_to(root)): path.read_bytes() for path in files(root)})
    assert any(name.endswith("smallthing/__init__.py") for name in built[0])
    assert any(name.endswith(".pyc") for name in built[0])
    assert built[0] == built[1]


async def test_other_bytes_than_the_pinned_ones_are_not_installed(
    store: EnvironmentStore, folder: Path, index: PackageIndex, pinned: PinnedPython
) -> None:
    index.wheel += b"\0"
    with pytest.raises(PythonUnavailableError, match=r"(?i)hash") as refused:
        await store.hold(pinned)
    assert not refused.value.retryable
    assert environments(folder) == []


async def test_what_is_in_use_is_not_removed_and_nothing_is_built_twice(
    store: EnvironmentStore, folder: Path, variables: Mapping[str, str], index: PackageIndex, pinned: PinnedPython
) -> None:
    with await store.hold(pinned) as held:
        built = held.environment.interpreter.parent.parent
        assert [path for path in (built, *built.rglob("*")) if path.is_dir() and path.stat().st_mode & 0o222] == []
        # Nobody else's business either: the lock is the machine's.
        assert EnvironmentStore(folder, variables).prune(ALWAYS) == []
        assert held.environment.interpreter.exists()
    (await store.hold(pinned)).release()
    assert index.downloads == 1

    assert [removed.key for removed in store.prune(ALWAYS)] == [pinned.key]
    assert environments(folder) == []
    eventually(lambda: store.disk_use < 10_000, 1)
