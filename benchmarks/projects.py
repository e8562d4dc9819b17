"""Synthetic SQLMesh projects of any size; only the shape of the graph varies.

Every model is a trivial query, so that what is measured (or compared) is the scheduler and not the warehouse.
"""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

__all__ = ["Shape", "builtin_config", "cloud_config", "write_config", "write_models"]

GATEWAY = "warehouse"
LAYER_WIDTH = 20


class Shape(StrEnum):
    """How the models of a project depend on each other."""

    WIDE = "wide"
    """None reads another: everything is ready at once."""
    CHAIN = "chain"
    """Each reads the one before it."""
    LAYERS = "layers"
    """Layers of 20; each reads two of the layer above."""


def write_models(
    directory: Path,
    shape: Shape,
    count: int,
    *,
    cron: str = "@daily",
    kind: str = "FULL",
    start: str | None = None,
    day: bool = False,
    schema: str = "bench",
) -> None:
    """Writes `count` models `bench.m00000`, `bench.m00001`, … into the project in `directory`.

    Args:
        directory: The project's folder; created where it does not exist.
        shape: The shape of the graph.
        count: How many models.
        cron: The cron of every model.
        kind: The kind of every model, as in a `MODEL` statement.
        start: Since when every model has intervals; the project's default where there is none.
        day: Whether rows have a column `day`, the interval's.
        schema: Where the models are in place of `bench`; also the folder of their files.
    """
    models = directory / "models" / schema
    models.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        parents = list(_parents(shape, number))
        columns = "p0.id + 1 AS id" if parents else f"{number} AS id"
        columns += ", CAST(@start_ds AS DATE) AS day" if day else ""
        where = " WHERE " + " AND ".join(f"p{place}.day = @start_ds" for place, _ in enumerate(parents))
        sources = ", ".join(f"{schema}.{_name(parent)} AS p{place}" for place, parent in enumerate(parents))
        since = f", start '{start}'" if start else ""
        (models / f"{_name(number)}.sql").write_text(
            f"MODEL (name {schema}.{_name(number)}, kind {kind}, cron '{cron}'{since});\n\n"
            f"SELECT {columns}{f' FROM {sources}' if sources else ''}{where if day and parents else ''}\n"
        )


def write_config(directory: Path, config: dict[str, Any]) -> None:
    """Writes `config.yaml` of the project in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def builtin_config(gateway: dict[str, Any]) -> dict[str, Any]:
    """A configuration for SQLMesh's built-in scheduler, with the connections of its only gateway."""
    return _config({"gateways": {GATEWAY: gateway}})


def cloud_config() -> dict[str, Any]:
    """A configuration for Tempomesh: no connection, its executors have them."""
    return _config({"gateways": {GATEWAY: {"scheduler": {"type": "cloud"}}}})


def _config(scheduling: dict[str, Any]) -> dict[str, Any]:
    defaults = {"dialect": "postgres", "start": "2026-01-01"}
    return {**scheduling, "default_gateway": GATEWAY, "model_defaults": defaults, "disable_anonymized_analytics": True}


def _name(number: int) -> str:
    return f"m{number:05d}"


def _parents(shape: Shape, number: int) -> Iterator[int]:
    match shape:
        case Shape.WIDE:
            return
        case Shape.CHAIN:
            if number:
                yield number - 1
        case Shape.LAYERS:
            layer, place = divmod(number, LAYER_WIDTH)
            if layer:
                above = (layer - 1) * LAYER_WIDTH
                yield above + place
                yield above + (place + 1) % LAYER_WIDTH
