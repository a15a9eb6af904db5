"""Estimates how long checks usually take, to recognise slow ones."""

#: A check is slow when it has taken this many times as long as most do, and at least SLOW_SECONDS: where most answer in
#: 20 ms, tarpits that held their places for a second took two thirds of the others' speed.
SLOW_FACTOR, SLOW_SECONDS = 4.0, 0.125
#: Seconds. What most checks take, until we know.
FIRST_ESTIMATE = 0.25
#: How far the estimate moves with each check.
STEP = 1.05


class Pace:
    """An estimate of the median, which a few checks that never end do not move."""

    def __init__(self) -> None:
        self._median = FIRST_ESTIMATE

    @property
    def slow_seconds(self) -> float:
        return SLOW_FACTOR * self._median

    def note(self, seconds: float) -> bool:
        """Whether a check of this duration was slow."""
        is_slow = seconds > self.slow_seconds
        median = self._median * STEP if seconds > self._median else self._median / STEP
        self._median = max(median, SLOW_SECONDS / SLOW_FACTOR)
        return is_slow
