"""Times as they are stored. Order never hangs on a clock: what is noted later is given a later time, whatever the clock says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

TICK = timedelta(microseconds=1)  # the least that two stored times differ by


def now() -> str:
    """The time as stored: UTC, ISO 8601, microseconds."""
    return _stored(datetime.now(UTC))


def later_than(known: str | None) -> str:
    """The time, or one tick after a stored one that the clock has not reached: it went wrong then, or does so now."""
    present = now()
    return present if known is None or known < present else _stored(datetime.fromisoformat(known) + TICK)


def later_by(time: str, seconds: float) -> str:
    """A stored time so many seconds after another one."""
    return _stored(datetime.fromisoformat(time) + timedelta(seconds=seconds))


def _stored(time: datetime) -> str:
    return time.isoformat(timespec="microseconds")
