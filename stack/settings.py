"""`temporal-dev.yaml`, typed."""

from datetime import timedelta
from importlib.resources import files
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stack.errors import StackError

__all__ = ["ListenSettings", "TemporalDevSettings", "load_temporal_settings"]

FILE_NAME = "temporal-dev.yaml"

SearchAttributeType = Literal["Text", "Keyword", "Int", "Double", "Bool", "Datetime"]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ListenSettings(_Settings):
    """Where the development server listens."""

    ip: IPv4Address
    port: int = Field(ge=1, le=65535)
    ui_port: int = Field(ge=1, le=65535)


class TemporalDevSettings(_Settings):
    """Everything that the embedded Temporal is told."""

    listen: ListenSettings
    namespaces: list[str] = Field(min_length=1)
    retention_days: int = Field(ge=1)
    search_attributes: dict[str, SearchAttributeType]
    sqlite_pragmas: dict[str, str]
    dynamic_config: dict[str, bool | int | float | str]

    @property
    def retention(self) -> timedelta:
        """How long closed workflows stay visible."""
        return timedelta(days=self.retention_days)


def load_temporal_settings(path: Path | None = None) -> TemporalDevSettings:
    """Reads `temporal-dev.yaml`: the one given, else the checkout's, else the copy inside the installed package.

    Raises:
        StackError: if the file is missing, is no YAML, or has a key or a value that means nothing here.
    """
    path = path or _find()
    try:
        return TemporalDevSettings.model_validate(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise StackError(f"{path} cannot be read: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise StackError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the top"
        raise StackError(f"{path}: {first['msg']} at {where}.") from error


def _find() -> Path:
    checkout = Path(__file__).resolve().parent.parent / FILE_NAME
    return checkout if checkout.is_file() else Path(str(files("stack") / FILE_NAME))
