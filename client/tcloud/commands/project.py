"""`tcloud project`: the projects of `tcloud.yaml`."""

import json
import os
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from tcloud.errors import InvalidError
from tcloud.output import Format, output_option
from tcloud.settings import FILE_NAMES, Project, home, read_file

__all__ = ["project"]


@click.group()
def project() -> None:
    """Projects that this machine knows by name."""


@project.command("add")
@click.argument("name")
@click.option("--url", prompt="URL (https://<host>/sqlmesh/<org>/<project>)", help="The project's URL.")
@click.option("--gateway", help="The gateway that `tcloud sqlmesh` selects if it is not told otherwise.")
@click.option("--token", help="The project's bearer token; better kept in TCLOUD_TOKEN.")
@click.option("--default", "is_default", is_flag=True, help="Use this project when none is named.")
def add_project(name: str, url: str, gateway: str | None, token: str | None, is_default: bool) -> None:
    """Add a project to tcloud.yaml in TCLOUD_HOME, or change it."""
    given = {"url": url, "gateway": gateway, "token": token}
    entry = {field: value for field, value in given.items() if value is not None}
    try:
        entry["url"] = Project.model_validate(entry).url
    except ValidationError as error:
        raise InvalidError(f"{error.errors()[0]['msg'].removeprefix('Value error, ')}.") from error
    path = _own_file()
    if path.exists():
        read_file(path)
    _write(path, name, entry, is_default)
    click.echo(f"Added project '{name}' to {path}.")


@project.command("list")
@output_option
def list_projects(output: Format) -> None:
    """List the projects of tcloud.yaml in TCLOUD_HOME and in this folder."""
    rows = []
    for path in dict.fromkeys((_own_file(), _file_in(Path.cwd()))):
        if path.exists():
            file = read_file(path)
            for name, entry in file.projects.items():
                is_default = name == file.default_project or len(file.projects) == 1
                row = {"name": name, "url": entry.url, "gateway": entry.gateway, "default": is_default}
                rows.append({**row, "file": str(path)})
    if output is Format.JSON:
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo("No projects. Add one with `tcloud project add NAME --url URL`, or set TCLOUD_URL.")
    for row in rows if output is Format.TABLE else []:
        click.echo(f"{'*' if row['default'] else ' '} {row['name']}  {row['url']}  {row['gateway'] or ''}".rstrip())


def _own_file() -> Path:
    return _file_in(home())


def _file_in(folder: Path) -> Path:
    return next((folder / name for name in FILE_NAMES if (folder / name).is_file()), folder / FILE_NAMES[0])


def _write(path: Path, name: str, entry: dict[str, Any], is_default: bool) -> None:
    from ruamel.yaml import YAML

    yaml = YAML()
    document = (yaml.load(path.read_text()) if path.exists() else None) or {}
    document.setdefault("projects", {})[name] = entry
    if is_default or len(document["projects"]) == 1:
        document["default_project"] = name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    # It may hold tokens.
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        yaml.dump(document, file)
    temporary.replace(path)
