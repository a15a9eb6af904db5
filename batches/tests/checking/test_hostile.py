"""A whole run over nothing but answers that try to hurt."""

import re
import time
from collections import Counter

import pytest

from batches.batch_manager import BatchManager
from batches.lists.addresses import normalise_address
from batches.models import Batch, BatchProfile, StoryResult
from batches.tests.support.factories import assert_consistent
from batches.tests.support.hostile import CONFIG, SECRET, TOO_SLOW, attacks, peak
from batches.tests.support.working import work


@pytest.mark.slow
@pytest.mark.databases("postgresql")  # which is the stricter one about text
@pytest.mark.django_db(transaction=True)
def test_a_run_over_hostile_answers_is_done_and_each_has_its_reason(configure, hostile):
    configure(**CONFIG | {"timeout": 1.0, "per_host": 10, "concurrency": 10})
    kinds = {normalise_address(url): kind for kind, url in hostile.urls.items()}
    batch = BatchManager().create_batch("hostile", list(kinds), checker="feed")
    assert BatchManager().start_batch(batch.pk)
    started = time.monotonic()
    with peak(250_000_000):
        work()
    seconds = time.monotonic() - started

    batch.refresh_from_db()
    assert (batch.status, batch.completed_profiles) == (Batch.Status.DONE, len(attacks()))
    assert_consistent()
    outcomes = Counter(
        outcome(attacks()[kinds[row.profile.url]], row) for row in batch.profiles.select_related("profile")
    )
    print(f"{seconds:.1f} s: {outcomes}")
    # Their server is in the same process: they are so much work for it that the time-out may come first.
    assert outcomes.keys() <= {"as expected", "too slow"}
    assert outcomes["as expected"] >= len(attacks()) / 2
    assert seconds < 60  # the sum of their time-outs is 13 s; one that has none never ends
    assert not StoryResult.objects.filter(title__contains=SECRET).exists()
    assert hostile.hits("/secret") == 0


def outcome(attack, row):
    expected = BatchProfile.Status.FAILED if attack.error else BatchProfile.Status.OK
    if row.status == expected and bool(row.error) == bool(attack.error) and re.search(attack.error, row.error):
        return "as expected"
    if row.status == BatchProfile.Status.FAILED and re.search(TOO_SLOW, row.error):
        return "too slow"
    return f"{row.profile}: {row.status}, {row.error}"
