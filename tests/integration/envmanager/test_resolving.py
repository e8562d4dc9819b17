"""What uv makes of requirements, and how it says that it cannot."""

import os
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from envmanager.errors import PythonUnavailableError
from envmanager.interpreters import describe_interpreter, find_interpreter
from envmanager.resolving import check_index, drivers_of, resolve
from envmanager.uv import Uv
from tcloud.wire.pythons import Package, PinnedPython, PythonRequest

DRIVER = "psycopg2-binary"


async def resolved(tmp_path: Path, **requirements: str) -> PinnedPython:
    here = await describe_interpreter(Path(sys.executable))
    request = PythonRequest(
        requirements=requirements,
        sqlmesh_version=version("sqlmesh"),
        drivers=drivers_of({"postgres"}),
        python_version=here.minor,
        platform=here.platform,
    )
    return await resolve(Uv(os.environ, tmp_path), request, here)


async def test_all_is_pinned_and_what_is_free_is_as_the_executor_has_it(tmp_path: Path) -> None:
    # A file of uv's settings counts, but for what would tell the server where the packages come from.
    (tmp_path / "uv.toml").write_text("[pip]\nemit-index-url = true\n")
    pinned = await resolved(tmp_path, humanize="4.9.0")
    assert "index-url" not in pinned.pinned
    packages = {package.name: package.version for package in pinned.packages}
    assert packages["humanize"] == "4.9.0" != version("humanize")
    assert packages[DRIVER] == version(DRIVER)
    others = {name: found for name, found in packages.items() if name != "humanize"}
    assert others == {name: version(name) for name in others}
    assert pinned.pinned.count("--hash=sha256:") >= len(packages)


@pytest.mark.parametrize(
    ("requirements", "said"),
    [
        ({"humanize": "99.0"}, "there is no version of humanize==99.0"),
        ({"no-such-package-of-tempomesh": "1.0"}, "no-such-package-of-tempomesh was not found"),
        ({"sqlglot": "20.0.0"}, f"sqlmesh=={version('sqlmesh')}"),
    ],
)
async def test_what_has_no_solution_is_explained(tmp_path: Path, requirements: dict[str, str], said: str) -> None:
    with pytest.raises(PythonUnavailableError) as refused:
        await resolved(tmp_path, **requirements)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not refused.value.retryable
    assert requirements.keys() <= refused.value.packages


async def test_an_index_that_does_not_answer_is_another_matter(tmp_path: Path) -> None:
    variables = {**os.environ, "UV_DEFAULT_INDEX": "http://127.0.0.1:1/simple", "UV_HTTP_RETRIES": "0"}
    said = await check_index(Uv(variables, tmp_path))
    assert said is not None
    assert said.startswith("Failed to fetch: http://127.0.0.1:1/simple")
    assert "error: Connection refused" in said
    assert await check_index(Uv(os.environ, tmp_path)) is None


async def test_interpreters_are_those_that_are_there(tmp_path: Path) -> None:
    uv = Uv(os.environ, tmp_path)
    here = ".".join(map(str, sys.version_info[:2]))
    assert (await find_interpreter(uv, here)).minor == here
    with pytest.raises(
        PythonUnavailableError, match=r"This executor has no Python 3\.99: install one there"
    ) as refused:
        await find_interpreter(uv, "3.99")
    assert not refused.value.retryable


def test_packages_are_read_from_what_is_pinned() -> None:
    request = PythonRequest(requirements={}, sqlmesh_version="1", python_version="3.11", platform="here")
    text = "a-b[x,y]==1.0 ; python_version < '4' \\\n    --hash=sha256:aa\nc==2.0.post1 \\\n    --hash=sha256:bb\n"
    packages = [Package(name="a-b", version="1.0"), Package(name="c", version="2.0.post1")]
    assert PinnedPython(request=request, pinned=text).packages == packages
