"""Projects and the roles that clients have in them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from tcloud.wire.grants import Role

__all__ = ["Project", "Role", "parse_projects"]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")


@dataclass(frozen=True)
class Project:
    """One tenant: a Temporal namespace, a schema of SQLMesh state, and a key of every record."""

    org: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `<org>.<project>`.

        Raises:
            ValueError: If it is not two names of lower-case letters, digits, `_` and `-`.
        """
        org, _, name = text.partition(".")
        if not _NAME.match(org) or not _NAME.match(name):
            raise ValueError(f"'{text}' is not a project: it takes <org>.<project> of lower-case letters and digits.")
        return cls(org, name)

    @property
    def namespace(self) -> str:
        """The project's Temporal namespace, and its key in every table."""
        return f"{self.org}.{self.name}"

    @property
    def state_schema(self) -> str:
        """The PostgreSQL schema of the project's SQLMesh state."""
        return f"sqlmesh_{self.org}_{self.name}".replace("-", "_")


def parse_projects(names: Iterable[str]) -> list[Project]:
    """Reads the projects of one server.

    Raises:
        ValueError: If one is no project, or two would share a schema of state.
    """
    by_schema: dict[str, Project] = {}
    for project in map(Project.parse, names):
        other = by_schema.setdefault(project.state_schema, project)
        if other != project:
            raise ValueError(
                f"{other.namespace} and {project.namespace} would both keep their state in the schema "
                f"{project.state_schema}: rename one of them."
            )
    return list(by_schema.values())
