"""Which server and project to talk to: `TCLOUD_*` variables, and `tcloud.yaml` in `TCLOUD_HOME` or a project folder.

A project that is named on the command line wins over variables, variables win over files, and the file in the
project folder wins over the one in `TCLOUD_HOME`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tcloud.errors import InvalidError

__all__ = [
    "ALL_PROJECTS",
    "FILE_NAMES",
    "Project",
    "ProjectFile",
    "Settings",
    "Variables",
    "home",
    "load",
    "project_url",
    "read_file",
    "variables",
]

FILE_NAMES = ("tcloud.yaml", "tcloud.yml")
ALL_PROJECTS = "tbk:scope:projects"
_PATH_PARTS = 3
_HOW_TO_SET = (
    "Set TCLOUD_URL to https://<host>/sqlmesh/<org>/<project>, or name a project with `tcloud project add`; "
    "`tcloud dev` starts a server on this machine."
)


def _split_commas(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Extras = Annotated[list[str], BeforeValidator(_split_commas)]


class Project(BaseModel):
    """One entry of `projects` in `tcloud.yaml`."""

    model_config = ConfigDict(extra="forbid")

    url: str
    """`https://<host>/sqlmesh/<org>/<project>`."""
    gateway: str | None = None
    """The gateway that `tcloud sqlmesh` selects if it is not told otherwise."""
    token: SecretStr | None = None
    """The bearer token for this project."""
    extras: Extras = []
    """Extras of SQLMesh that the project needs; kept for clients that install SQLMesh themselves."""
    pip_executable: str | None = None
    """Which pip installs them; kept for the same clients."""

    @field_validator("url")
    @classmethod
    def _is_project_url(cls, url: str) -> str:
        return project_url(url)


class ProjectFile(BaseModel):
    """The content of `tcloud.yaml`."""

    model_config = ConfigDict(extra="forbid")

    projects: dict[str, Project] = {}
    default_project: str | None = None
    """The project to use when none is named; needless if there is only one."""


class Variables(BaseSettings):
    """The `TCLOUD_*` environment variables."""

    model_config = SettingsConfigDict(env_prefix="TCLOUD_", env_ignore_empty=True, extra="forbid")

    url: str | None = None
    """The project's URL."""
    token: SecretStr | None = None
    """The bearer token."""
    gateway: str | None = None
    """The gateway that `tcloud sqlmesh` selects if it is not told otherwise."""
    extras: Annotated[list[str], NoDecode, BeforeValidator(_split_commas)] | None = None
    """Comma list, as in `tcloud.yaml`."""
    pip_executable: str | None = None
    """As in `tcloud.yaml`."""
    home: Path = Field(default_factory=lambda: Path.home() / ".tcloud")
    """Where `tcloud.yaml` is, if it is not in the project folder, and the tokens of whoever signed in."""
    client_id: str | None = None
    """Names a client of the server."""
    client_secret: SecretStr | None = None
    """The client's secret, traded for tokens where `TCLOUD_TOKEN` is not set."""
    auth_url: str | None = None
    """Where people sign in."""
    token_url: str | None = None
    """Where a client trades its secret for a token."""
    scope: str = ALL_PROJECTS
    """What a token is asked for."""
    env_file: Path | None = None
    """A `.env` whose SQLMesh variables (`SQLMESH__…`) are set for SQLMesh."""


class Settings(BaseModel):
    """Everything that a command needs to know about one project."""

    model_config = ConfigDict(frozen=True)

    url: str
    name: str | None = None
    """The project's name in `tcloud.yaml`, if it came from there."""
    token: SecretStr | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    auth_url: str | None = None
    """Where people sign in, if not at `<server>/auth`."""
    token_url: str | None = None
    """Where tokens are got, if not at `<server>/auth/token`."""
    scope: str = ALL_PROJECTS
    """What a client's token is asked for."""
    home: Path = Path()
    """`TCLOUD_HOME`, where tokens are kept."""
    gateway: str | None = None
    extras: list[str] = []
    pip_executable: str | None = None


def project_url(url: str) -> str:
    """A project's URL as it is used: checked, and without a slash at its end.

    Raises:
        ValueError: If it is not of the form `https://<host>/sqlmesh/<org>/<project>`.
    """
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        # What is not to be seen is not repeated.
        raise ValueError("the URL has a user or password in it; a token goes into TCLOUD_TOKEN")
    path = [part for part in parts.path.split("/") if part]
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.query
        or parts.fragment
        or len(path) < _PATH_PARTS
        or path[-_PATH_PARTS] != "sqlmesh"
    ):
        raise ValueError(f"'{url}' is not of the form https://<host>/sqlmesh/<org>/<project>")
    try:
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"'{url}' has a port that is none: it is a number up to 65535") from error
    return url.rstrip("/")


def variables() -> Variables:
    """The `TCLOUD_*` variables as they are now.

    Raises:
        InvalidError: If one of them is malformed.
    """
    try:
        return Variables()
    except ValidationError as error:
        raise InvalidError(f"The TCLOUD_* variables: {_reason(error)}.") from error


def home() -> Path:
    """The folder of the user's own `tcloud.yaml`."""
    return variables().home.expanduser()


def load(project: str | None = None, folders: Iterable[Path] = ()) -> Settings:
    """Finds out which project is meant.

    Args:
        project: The name given on the command line.
        folders: Project folders to look for `tcloud.yaml` in, the current folder if there is none.

    Raises:
        InvalidError: If nothing says which project, or what says it is malformed.
    """
    given = variables()
    file = _merged_file([*(list(folders) or [Path.cwd()]), given.home.expanduser()])
    name = project or file.default_project or (next(iter(file.projects)) if len(file.projects) == 1 else None)
    entry = file.projects.get(name) if name else None
    if name and not entry and (project or not given.url):
        known = ", ".join(sorted(file.projects)) or "none"
        raise InvalidError(f"tcloud.yaml has no project '{name}' (known: {known}); add it with `tcloud project add`.")
    if not project and entry and given.url and given.url.rstrip("/") != entry.url:
        # The variables mean another project: nothing of this one, least of all its token, belongs there.
        entry = None
    if not entry and not given.url:
        raise InvalidError(f"No project is named. {_HOW_TO_SET}")
    sources = [source for source in ((entry, given) if project else (given, entry)) if source is not None]

    def first(field: str) -> Any:
        return next((value for source in sources if (value := getattr(source, field))), None)

    try:
        url = Project(url=first("url")).url
    except ValidationError as error:
        raise InvalidError(f"TCLOUD_URL: {_reason(error)}. {_HOW_TO_SET}") from error
    return Settings(
        url=url,
        name=name if entry else None,
        token=first("token"),
        client_id=given.client_id,
        client_secret=given.client_secret,
        auth_url=given.auth_url,
        token_url=given.token_url,
        scope=given.scope,
        home=given.home.expanduser(),
        gateway=first("gateway"),
        extras=first("extras") or [],
        pip_executable=first("pip_executable"),
    )


def read_file(path: Path) -> ProjectFile:
    """Reads one `tcloud.yaml`.

    Raises:
        InvalidError: If it is no YAML, or has a key or a value that means nothing here.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return ProjectFile.model_validate(YAML(typ="safe").load(path.read_text()) or {})
    except OSError as error:
        raise InvalidError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidError(f"{path} is not a text in UTF-8: it cannot be read from byte {error.start} on.") from error
    except YAMLError as error:
        raise InvalidError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    except ValidationError as error:
        raise InvalidError(f"{path}: {_reason(error)}.") from error


def _merged_file(folders: list[Path]) -> ProjectFile:
    merged = ProjectFile()
    for folder in reversed(folders):
        for path in (folder / name for name in FILE_NAMES):
            if path.is_file():
                found = read_file(path)
                merged.projects.update(found.projects)
                merged.default_project = found.default_project or merged.default_project
                break
    return merged


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key '{where}'"
    if first["type"] in ("model_type", "dict_type"):
        return f"'{where}' has to be a mapping of keys to values" if where else "it has to begin with `projects:`"
    reason = first["msg"].removeprefix("Value error, ")
    return f"'{where}': {reason}" if where and where != "url" else reason
