"""How long checks usually take, to recognise slow ones."""

#: A check is slow after this many seconds, and not before it has taken this many times as long as most do.
SLOW_SECONDS, SLOW_FACTOR = 1.0, 4.0
#: How far the estimate moves with each check.
STEP = 1.05


class Pace:
    """An estimate of the median, which a few checks that never end do not move."""

    def __init__(self) -> None:
        self._median = SLOW_SECONDS / SLOW_FACTOR

    @property
    def slow_seconds(self) -> float:
        return SLOW_FACTOR * self._median

    def note(self, seconds: float) -> bool:
        """Whether a check that took so long was slow."""
        is_slow = seconds > self.slow_seconds
        median = self._median * STEP if seconds > self._median else self._median / STEP
        self._median = max(median, SLOW_SECONDS / SLOW_FACTOR)
        return is_slow
