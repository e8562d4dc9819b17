"""From what an environment asks for to a fully pinned set of packages: uv resolves, and nothing is installed."""

from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distributions, requires, version
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from envmanager.errors import PythonUnavailableError
from envmanager.interpreters import Interpreter
from envmanager.uv import Uv
from tcloud.wire.pythons import PinnedPython, PythonRequest

__all__ = ["check_index", "drivers_of", "resolve"]

_SQLMESH = "sqlmesh"
_NOTIFYING = {"slack"}
_VARIANTS = ("", "-binary")
"""A driver may be installed under another name than SQLMesh's extra has: `psycopg2-binary`."""


def drivers_of(gateway_types: Collection[str]) -> list[str]:
    """What SQLMesh's extras for these gateways and for notifications ask for, as far as the executor itself has it."""
    extras = {kind.replace("_", "") for kind in gateway_types} | set(gateway_types) | _NOTIFYING
    found: set[str] = set()
    for line in requires(_SQLMESH) or []:
        requirement = Requirement(line)
        if requirement.marker is None or "extra" not in str(requirement.marker):
            continue
        if any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            found.update(_installed(requirement))
    return sorted(found)


async def resolve(uv: Uv, request: PythonRequest, interpreter: Interpreter) -> PinnedPython:
    """Pins what a request asks for, and all that it needs, each with the hashes of its files.

    Where there is a choice, a package has the version that the executor has: that is what was tested together.

    Raises:
        PythonUnavailableError: If uv finds no solution, with its explanation, or cannot reach an index.
    """
    with TemporaryDirectory(prefix="tm-") as folder:
        # uv takes what it finds in its output file for what is preferred.
        output = Path(folder) / "requirements.txt"
        output.write_text("".join(f"{name}=={found}\n" for name, found in _own_versions().items()))
        await uv.run(
            *("pip", "compile", "-", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"),
            # Indexes, and what opens them, are each executor's own business: the set is kept by the server.
            *("--no-emit-index-url", "--no-emit-find-links"),
            *("--python", str(interpreter.path), "--output-file", str(output)),
            stdin="".join(f"{line}\n" for line in _asked_for(request)),
        )
        return PinnedPython(request=request, pinned=output.read_text())


async def check_index(uv: Uv) -> str | None:
    """Why no package index can be reached; None if one answers."""
    try:
        await uv.run(
            *("pip", "compile", "-", "--no-deps", "--quiet", "--refresh-package", _SQLMESH),
            stdin=f"{_SQLMESH}=={version(_SQLMESH)}\n",
        )
    except PythonUnavailableError as error:
        return str(error)
    return None


def _asked_for(request: PythonRequest) -> list[str]:
    named = {canonicalize_name(name) for name in request.requirements}
    own = [f"{_SQLMESH}=={request.sqlmesh_version}"]
    own += [line for line in request.drivers if canonicalize_name(Requirement(line).name) not in named]
    return own + [f"{name}=={found}" for name, found in sorted(request.requirements.items())]


def _installed(requirement: Requirement) -> Iterable[str]:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    for variant in _VARIANTS:
        name = requirement.name + variant
        try:
            yield f"{canonicalize_name(name)}{extras}=={version(name)}"
        except PackageNotFoundError:
            continue
        return


def _own_versions() -> Mapping[str, str]:
    return {canonicalize_name(found.name): found.version for found in distributions() if found.name}
