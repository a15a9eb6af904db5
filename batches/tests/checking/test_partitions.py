"""The partitions of a run: reading them, checking them completely, and releasing some."""

from batches.checking.checkers.base import ProfileToCheck
from batches.checking.partitions import Partitions


def rows(*numbers, first=1):
    """Rows of these partitions, with the same ID for a row and its profile."""
    return [(pk, number, ProfileToCheck(pk, f"https://{pk}.example/")) for pk, number in enumerate(numbers, first)]


def read(partitions, *numbers, first=1, limit=100):
    found = partitions.add(partitions.scan, rows(*numbers, first=first), limit)
    return [profile.profile_id for profile in found]


def test_pages_are_read_until_one_is_not_full():
    partitions = Partitions([1, 2])
    assert read(partitions, 1, 2, 1, limit=3) == [1, 2, 3]
    assert (partitions.scan.partitions, partitions.scan.last_id) == ({1, 2}, 3)
    assert read(partitions, 2, first=4, limit=3) == [4]
    assert partitions.scan is None


def test_partitions_that_are_leased_later_are_read_from_the_beginning():
    partitions = Partitions([1])
    read(partitions, 1, 1, limit=2)
    partitions.lease([1, 2])
    read(partitions, 1, first=3)
    assert (partitions.scan.partitions, partitions.scan.last_id) == ({2}, 0)


def test_a_postponed_partition_is_read_after_the_others():
    partitions = Partitions([1, 2, 3])
    read(partitions, 1, 1, 2, limit=3)
    partitions.put_off([1])
    assert (partitions.scan.partitions, partitions.scan.last_id) == ({2, 3}, 3)
    assert read(partitions, 1, 2, 3, first=4) == [5, 6]
    assert (partitions.scan.partitions, partitions.scan.last_id) == ({1}, 3)
    partitions.put_off([1])  # there is nothing else to read
    assert read(partitions, 1, first=4) == [4]
    partitions.note_recorded([1, 2, 3, 5, 6])
    assert (partitions.scan, partitions.checked) == (None, [2, 3])


def test_a_partition_is_checked_when_it_is_read_and_everything_is_recorded():
    partitions = Partitions([1, 2, 3])
    read(partitions, 1, 2, limit=2)
    partitions.note_recorded([1, 2])
    assert partitions.checked == []
    read(partitions, 2, first=3)
    assert partitions.checked == [1, 3]
    partitions.note_recorded([3])
    assert partitions.checked == [1, 2, 3]
    partitions.lease([2])
    assert partitions.checked == [2]


def test_half_of_the_unread_partitions_are_released_after_their_checks_are_recorded():
    partitions = Partitions([1, 2, 3, 4])
    read(partitions, 1, 2, 3, 4, 1, 2, 3, 1, limit=8)
    partitions.give_half_away()
    assert partitions.scan.partitions == {1, 3}
    assert partitions.released == []
    partitions.note_recorded([4])
    assert partitions.released == [4]
    partitions.give_half_away()  # not again before the others have got them
    assert partitions.scan.partitions == {1, 3}
    partitions.note_recorded([2, 6])
    assert partitions.released == [2, 4]
    partitions.lease([1, 3])
    assert partitions.released == []
    partitions.give_half_away()
    assert partitions.scan.partitions == {1}


def test_partitions_with_profiles_that_wait_are_released_without_checking_these():
    """Those without a running check first: others can have them at once."""
    partitions = Partitions([1, 2, 3, 4])
    read(partitions, 1, 2, 3, 4, 1, 2, 3, 1)
    assert partitions.give_half_away([4, 6, 8]) == [4]
    assert (partitions.released, partitions.checked) == ([4], [])
    partitions.lease([1, 2, 3])
    assert partitions.give_half_away([6, 8]) == [6]
    assert partitions.released == []
    partitions.note_recorded([2])
    assert partitions.released == [2]
    assert partitions.give_half_away([8]) == []  # not again before the others have got them
    partitions.lease([1, 3])
    assert partitions.give_half_away([8]) == []  # the last one is kept
    partitions.note_recorded([1, 3, 5, 7, 8])
    assert partitions.checked == [1, 3]


def test_rows_of_partitions_that_were_released_while_they_were_read_are_left_to_others():
    partitions = Partitions([1, 2])
    scan = partitions.scan
    partitions.give_half_away()
    assert [profile.profile_id for profile in partitions.add(scan, rows(1, 2, 1), 100)] == [2]
    assert partitions.released == [1]
    assert partitions.scan is None


def test_the_last_partition_and_those_that_are_read_are_kept():
    partitions = Partitions([1])
    partitions.give_half_away()
    assert partitions.scan.partitions == {1}
    read(partitions, 1)
    partitions.give_half_away()
    assert partitions.released == []
