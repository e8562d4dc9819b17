"""croniter's answers, remembered: SQLMesh asks for the next tick of each model's cron, and most models share theirs.

SQLMesh builds a `croniter` for every question, which takes half of the time of finding out that nothing is due. The
answer depends on the cron and the moment alone, so the thousandth model is given what croniter said for the first.
"""

import typing as t
from datetime import datetime, tzinfo
from functools import lru_cache

from sqlmesh.utils import cron as sqlmesh_cron

__all__ = ["remember_crons"]

_REMEMBERED = 4096
_croniter: t.Any = vars(sqlmesh_cron)["croniter"]


def remember_crons() -> None:
    """Has SQLMesh ask croniter each question once in this process."""
    setattr(sqlmesh_cron, "croniter", _remembering)  # noqa: B010 (SQLMesh does not export what it imports)


def _remembering(cron: str, start: datetime | None = None) -> t.Any:
    # Without a moment it is asked from now on, which is another question each time.
    return _croniter(cron) if start is None else _Remembering(cron, start)


class _Remembering:
    def __init__(self, cron: str, start: datetime):
        # Moments that are equal but in different time zones, or on different sides of a clock change, have different
        # ticks, and compare as equal: what tells them apart is part of the question.
        self._question = cron, start.replace(tzinfo=None), start.tzinfo, start.fold

    def get_next(self) -> float:
        return _tick(*self._question, ahead=True)

    def get_prev(self) -> float:
        return _tick(*self._question, ahead=False)


@lru_cache(_REMEMBERED)
def _tick(cron: str, start: datetime, zone: tzinfo | None, fold: int, *, ahead: bool) -> float:
    asked = _croniter(cron, start.replace(tzinfo=zone, fold=fold))
    return float(asked.get_next() if ahead else asked.get_prev())
