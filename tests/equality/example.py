"""The example project, with beginnings that do not depend on today, and the changes that are made to it."""

import shutil
from pathlib import Path
from typing import Any

import yaml

__all__ = ["CRONS", "change", "write_project"]

CRONS = ("* * * * *", "*/5 * * * *", "@hourly", "@daily")

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "bikes"


def write_project(directory: Path, scheduling: dict[str, Any] | None = None) -> None:
    """Copies the example; `scheduling` replaces what its gateway says about connection and scheduler."""
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns(".cache", "logs"))
    _replace(directory, "models/availability.sql", "start '1 hour ago'", "start '2025-01-06 11:00:00'")
    _replace(directory, "models/dock_readings.sql", "start '1 day ago'", "start '2025-01-05'")
    path = directory / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["model_defaults"]["start"] = "2024-12-30"
    if scheduling:
        config["gateways"]["warehouse"] = scheduling
    path.write_text(yaml.safe_dump(config))


def change(directory: Path) -> None:
    """A model and a seed change; much is downstream of both."""
    _replace(directory, "models/trips.sql", "MOD(dice, 3) > 0", "MOD(dice, 3) > 1")
    _replace(directory, "seeds/stations.csv", ",40", ",44")


def _replace(directory: Path, file: str, old: str, new: str) -> None:
    path = directory / file
    text = path.read_text()
    assert old in text, f"{file} has changed: there is no {old!r}"
    path.write_text(text.replace(old, new))
