"""The partitions that a run has leased, with their unread rows and the rows without a recorded result."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
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

    def __init__(self, numbers: Iterable[int], in_use: Callable[[], set[int]] = set) -> None:
        """`in_use` are partitions with requests of redirected checks: others must not get them yet."""
        self._in_use = in_use
        self._leased: set[int] = set()
        self._returned: set[int] = set()
        self._scans: list[Scan] = []
        self._leaving: set[int] = set()
        self._unrecorded: Counter[int] = Counter()
        self._partition_of: dict[int, int] = {}  # by the ID of a profile without a recorded result
        self.lease(numbers)

    @property
    def scan(self) -> Scan | None:
        """The partitions to read next; None if everything is read."""
        return self._scans[0] if self._scans else None

    @property
    def checked(self) -> list[int]:
        """The partitions in which every row has a recorded result."""
        return self._settled(self._leased - self._leaving - self._unread)

    @property
    def has_checked_all(self) -> bool:
        """Also after a stop, if the last checks were already running."""
        return len(self.checked) == len(self._leased)

    @property
    def released(self) -> list[int]:
        """The partitions that others can have now, since none of their checks is running."""
        return self._settled(self._leaving)

    @property
    def _unread(self) -> set[int]:
        return {number for scan in self._scans for number in scan.partitions}

    def _settled(self, numbers: set[int]) -> list[int]:
        return sorted(number for number in numbers - self._in_use() if not self._unrecorded[number])

    def has(self, number: int) -> bool:
        return number in self._leased and number not in self._returned

    def disown(self, numbers: Iterable[int]) -> None:
        """They are no longer ours, even while the call is under way that makes them free. Then call `lease`."""
        self._returned = set(numbers)

    def lease(self, numbers: Iterable[int], empty: Collection[int] = ()) -> None:
        """Set the leased partitions. Nothing is pending in the `empty` ones."""
        leased = set(numbers)
        self._leaving &= leased
        self._returned = set()
        if new := leased - self._leased - set(empty):
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
        """Continue reading without these partitions, and read their rest last: thousands of rows of one slow host would
        delay the rows of others after them."""
        for number in set(numbers):
            for scan in [scan for scan in self._scans if number in scan.partitions and len(scan.partitions) > 1]:
                scan.partitions.remove(number)
                self._scans.append(Scan({number}, scan.last_id))

    def note_recorded(self, profile_ids: Iterable[int]) -> None:
        for profile_id in profile_ids:
            self._unrecorded[self._partition_of.pop(profile_id)] -= 1

    def give_half_away(self, waiting: Collection[int] = ()) -> list[int]:
        """Release half of the partitions with profiles that were not read or are `waiting`, as another worker needs
        some. Returns those that must not be checked: slow hosts would keep the partitions for long.
        """
        counts = Counter(self._partition_of[profile_id] for profile_id in waiting)
        if not self._leaving:
            running = self._unrecorded - counts
            left = sorted(self._unread | counts.keys(), key=lambda number: running[number])
            self._leaving = set(left[: len(left) // 2])
            for scan in self._scans:
                scan.partitions -= self._leaving
            self._scans = [scan for scan in self._scans if scan.partitions]
        given = [profile_id for profile_id in waiting if self._partition_of[profile_id] in self._leaving]
        self.note_recorded(given)
        return given

    def leave(self, profile_ids: Iterable[int]) -> None:
        """Release all partitions that are not completely checked. These profiles were read, and will not be checked."""
        waited = list(profile_ids)
        self._leaving |= self._unread | {self._partition_of[profile_id] for profile_id in waited}
        self._scans.clear()
        self.note_recorded(waited)
