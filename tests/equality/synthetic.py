"""A synthetic project for the comparison, and the changes that are made to it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.projects import Shape, builtin_config, cloud_config, write_config, write_models

__all__ = ["CRONS", "SIZES", "break_for_good", "change", "write_project"]

CRONS = ("@daily",)
SIZES = {Shape.WIDE: 12, Shape.CHAIN: 8, Shape.LAYERS: 40}

EVENTS = """\
MODEL (
  name extra.events,
  kind INCREMENTAL_BY_TIME_RANGE (time_column ds, batch_size 2),
  cron '@daily',
  audits (not_null(columns := (ds)), UNIQUE_VALUES(columns := (ds)))
);

SELECT d::date AS ds, 7 * EXTRACT(DAY FROM d)::int AS amount
FROM GENERATE_SERIES(@start_ds::date, @end_ds::date, '1 day'::interval) AS t(d)
"""

TOTALS = """\
MODEL (name extra.totals, kind FULL, cron '@daily');

SELECT COUNT(*) AS days, SUM(amount) AS amount FROM extra.events
"""

LATEST = """\
MODEL (name extra.latest, kind VIEW, cron '@daily');

SELECT MAX(ds) AS ds FROM extra.events
"""

FRAGILE = """\
MODEL (name extra.fragile, kind FULL, cron '@daily');

SELECT 1 / (DATE '2025-01-09' - CAST(@execution_ds AS DATE)) AS quotient
"""

AFTER_FRAGILE = """\
MODEL (name extra.after_fragile, kind FULL, cron '@daily');

SELECT quotient FROM extra.fragile
"""


def write_project(directory: Path, shapes: Iterable[Shape], scheduling: dict[str, Any] | None = None) -> None:
    """Writes a project: shapes, each a schema, a few models of other kinds, and one that fails on 9 January 2025.

    `scheduling` is its gateway; without one it goes through Tempomesh.
    """
    config = builtin_config(scheduling) if scheduling else cloud_config()
    write_config(directory, {**config, "model_defaults": {"dialect": "postgres", "start": "2025-01-01"}})
    for shape in shapes:
        write_models(directory, shape, SIZES[shape], schema=shape.value)
    extra = directory / "models" / "extra"
    extra.mkdir()
    (extra / "events.sql").write_text(EVENTS)
    (extra / "totals.sql").write_text(TOTALS)
    (extra / "latest.sql").write_text(LATEST)
    (extra / "fragile.sql").write_text(FRAGILE)
    (extra / "after_fragile.sql").write_text(AFTER_FRAGILE)


def change(directory: Path) -> None:
    """A breaking change of a model that others read."""
    _replace(directory, "7 * EXTRACT", "8 * EXTRACT")


def break_for_good(directory: Path) -> None:
    """A change with which a model can be planned, but never evaluated."""
    _replace(directory, "SUM(amount) AS amount", "1 / (COUNT(*) - COUNT(*)) AS amount")


def _replace(directory: Path, old: str, new: str) -> None:
    (path,) = (path for path in (directory / "models").rglob("*.sql") if old in path.read_text())
    path.write_text(path.read_text().replace(old, new))
