"""The Python environments that models of one environment run in: what is asked for, and what it was pinned to."""

import json
from hashlib import sha256

from pydantic import BaseModel, ConfigDict

__all__ = [
    "BuiltPython",
    "Package",
    "PinnedPython",
    "PlanPython",
    "PythonOfEnvironment",
    "PythonRequest",
    "Requirement",
]

_KEY_CHARACTERS = 24


class PythonRequest(BaseModel):
    """What a Python environment is resolved from: the same request has the same answer as long as the project lives."""

    model_config = ConfigDict(frozen=True)

    requirements: dict[str, str]
    """`Environment.requirements` of SQLMesh: package to version."""
    sqlmesh_version: str
    drivers: list[str] = []
    """Drivers of the executor's warehouses, each as a requirement with a version."""
    python_version: str
    """Major and minor: `3.12`."""
    platform: str
    """As the interpreter names it, such as `x86_64-linux-gnu`."""

    @property
    def key(self) -> str:
        """Names the request."""
        return _key(self.model_dump(mode="json"))


class Package(BaseModel):
    """A package of a Python environment."""

    name: str
    version: str


class PinnedPython(BaseModel):
    """A fully pinned set: whoever builds it has the same bytes, today and in a month."""

    model_config = ConfigDict(frozen=True)

    request: PythonRequest
    pinned: str
    """A requirements file in which every package has its version and the hashes of its files."""

    @property
    def key(self) -> str:
        """Names what is built of it, whatever it was resolved from."""
        return _key(
            [self.pinned, self.request.python_version, self.request.platform, self.request.sqlmesh_version],
        )

    @property
    def packages(self) -> list[Package]:
        """The packages, by name."""
        lines = (line.partition("==") for line in self.pinned.splitlines() if line[:1].isalnum())
        found = ((name.partition("[")[0].strip(), version.split()[0].rstrip(";\\")) for name, _, version in lines)
        return [Package(name=name, version=version) for name, version in sorted(found)]


class PlanPython(BaseModel):
    """Which Python environment a plan's models run in."""

    key: str
    modules: dict[str, list[str]] = {}
    """Of what is built: packages, in lower case with dashes, and what each of them is imported as."""


class BuiltPython(BaseModel):
    """A Python environment that an executor has built, and what runs in it."""

    key: str
    python_version: str
    """With the patch: `3.12.1`."""
    size_bytes: int = 0
    """Of its files; those that it shares with others are counted, too."""
    busy: int = 0
    """Runner processes that are at work in it."""
    idle: int = 0
    """Runner processes that wait for work."""


class Requirement(BaseModel):
    """A package that an environment asks for, and why."""

    name: str
    version: str
    models: list[str] = []
    """Whose code imports it; empty where only the project's lock file asks for it."""


class PythonOfEnvironment(BaseModel):
    """What the models of an environment run in."""

    environment: str
    plan_id: str
    key: str | None = None
    """None is the executors' own interpreter: nothing is asked for."""
    python_version: str | None = None
    sqlmesh_version: str | None = None
    platform: str | None = None
    requirements: list[Requirement] = []
    packages: list[Package] = []
    executors: list[str] = []
    """Executors that have built it."""


def _key(content: object) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_KEY_CHARACTERS]
