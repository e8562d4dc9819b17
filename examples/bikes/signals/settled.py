"""When an interval may be processed at all."""

from datetime import UTC, datetime, timedelta

from sqlmesh import DatetimeRanges, signal


@signal()
def settled(batch: DatetimeRanges, minutes: int = 2) -> DatetimeRanges:
    """Bikes report late: an interval counts as complete `minutes` after its end."""
    latest = datetime.now(UTC) - timedelta(minutes=minutes)
    return [(start, end) for start, end in batch if end <= latest]
