"""The partitions that a run has leased: what is left to read of them, and what of it is not recorded yet."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from batches.checking.checkers.base import ProfileToCheck


@dataclass(slots=True, eq=False)
class Scan:
    """Reads these partitions together, in the order of the batch."""

    partitions: set[int]
    last_id: int = 0


class Partitions:
    """Rows are read in the order of the batch, not partition by partition: neighbours are stored on one page of the
    database, and recording one of 500 rows of 500 pages would write 500 pages."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._leased: set[int] = set()
        self._scans: list[Scan] = []
        self._leaving: set[int] = set()
        self._unrecorded: Counter[int] = Counter()
        self._partition_of: dict[int, int] = {}  # by the ID of a profile that is not recorded
        self.lease(numbers)

    @property
    def scan(self) -> Scan | None:
        """What to read next; None if everything is read."""
        return self._scans[0] if self._scans else None

    @property
    def checked(self) -> list[int]:
        """Those in which every row has its result."""
        return self._settled(self._leased - self._leaving - self._unread)

    @property
    def has_checked_all(self) -> bool:
        return len(self.checked) == len(self._leased)

    @property
    def released(self) -> list[int]:
        """Those that others can have now: no check of theirs is under way."""
        return self._settled(self._leaving)

    @property
    def _unread(self) -> set[int]:
        return {number for scan in self._scans for number in scan.partitions}

    def _settled(self, numbers: set[int]) -> list[int]:
        return sorted(number for number in numbers if not self._unrecorded[number])

    def has(self, number: int) -> bool:
        return number in self._leased

    def lease(self, numbers: Iterable[int]) -> None:
        """From now on these are leased, and no others."""
        leased = set(numbers)
        self._leaving &= leased
        if new := leased - self._leased:
            self._scans.append(Scan(new))
        self._leased = leased

    def add(self, scan: Scan, rows: list[tuple[int, int, ProfileToCheck]], limit: int) -> list[ProfileToCheck]:
        """Note the (row ID, partition, profile) that were read, at most `limit`. Returns the profiles to check."""
        wanted = [(number, profile) for _, number, profile in rows if number in scan.partitions]
        for number, profile in wanted:
            self._partition_of[profile.profile_id] = number
            self._unrecorded[number] += 1
        if len(rows) == limit:
            scan.last_id = rows[-1][0]
        else:
            self._scans = [other for other in self._scans if other is not scan]
        return [profile for _, profile in wanted]

    def put_off(self, numbers: Iterable[int]) -> None:
        """Read on without these partitions, and only then the rest of them: thousands of rows of one slow host wait,
        and those of others come after them."""
        for number in set(numbers):
            for scan in [scan for scan in self._scans if number in scan.partitions and len(scan.partitions) > 1]:
                scan.partitions.remove(number)
                self._scans.append(Scan({number}, scan.last_id))

    def note_recorded(self, profile_ids: Iterable[int]) -> None:
        for profile_id in profile_ids:
            self._unrecorded[self._partition_of.pop(profile_id)] -= 1

    def give_half_away(self) -> None:
        """Stop reading half of the partitions that are not read to the end, since another worker has none."""
        if not self._leaving:
            unread = sorted(self._unread, key=lambda number: self._unrecorded[number])
            self._leaving = set(unread[: len(unread) // 2])
            for scan in self._scans:
                scan.partitions -= self._leaving
            self._scans = [scan for scan in self._scans if scan.partitions]

    def leave(self, profile_ids: Iterable[int]) -> None:
        """Let others have all that is not checked to the end. These profiles were read, and will not be checked."""
        waited = list(profile_ids)
        self._leaving |= self._unread | {self._partition_of[profile_id] for profile_id in waited}
        self._scans.clear()
        self.note_recorded(waited)
