"""A whole run over nothing but answers that try to hurt. `checkers/test_hostile.py` has what each of them gets."""

import pytest

from batches.batch_manager import BatchManager
from batches.models import Batch, StoryResult
from batches.tests.support.factories import assert_consistent
from batches.tests.support.hostile import CONFIG, SECRET, attacks, peak
from batches.tests.support.working import work


@pytest.mark.slow
@pytest.mark.databases("postgresql")  # which is the stricter one about text
@pytest.mark.django_db(transaction=True)
def test_a_run_over_hostile_answers_is_done(configure, hostile):
    configure(**CONFIG | {"timeout": 1.0, "per_host": 10, "concurrency": 10})
    batch = BatchManager().create_batch("hostile", list(hostile.urls.values()), checker="feed")
    with peak(250_000_000):
        work()

    batch.refresh_from_db()
    assert (batch.status, batch.completed_profiles) == (Batch.Status.DONE, len(attacks()))
    assert batch.successful_checks >= 10
    assert not batch.profiles.filter(status="failed", error="").exists()
    assert_consistent()
    assert not StoryResult.objects.filter(title__contains=SECRET).exists()
    assert hostile.hits("/secret") == 0
