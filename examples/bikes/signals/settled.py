"""When an interval may be processed at all."""

import datetime

from sqlmesh import DatetimeRanges, signal


@signal()
def settled(batch: DatetimeRanges, minutes: int = 2) -> DatetimeRanges:
    """Bikes report late: an interval counts as complete `minutes` after its end."""
    latest = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=minutes)
    return [(start, end) for start, end in batch if end <= latest]
