"""The client that a command works with."""

import click

from tcloud.api.client import Api
from tcloud.credentials import credentials_of
from tcloud.settings import load

__all__ = ["project_api", "project_name"]


def project_api() -> Api:
    """A client for the project that the command line and the settings mean."""
    settings = load(project_name())
    return Api(settings.url, credentials_of(settings))


def project_name() -> str | None:
    """What was given as `--project`."""
    name: str | None = click.get_current_context().meta.get("tcloud.project")
    return name
