"""The migrations go forward and backward with data in the tables."""

from contextlib import contextmanager

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.migrations.loader import MigrationLoader

from batches.models import Batch, Profile
from batches.tests.support.factories import MODELS, assert_consistent, everything, half_checked, make_batch

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def migrate(target):
    call_command("migrate", "batches", target, verbosity=0)


@contextmanager
def back_at(target):
    """With the tables as they were at that migration."""
    migrate(target)
    try:
        yield
    finally:
        migrate(latest())


def steps():
    return sorted(name for app, name in MigrationLoader(connection).disk_migrations if app == "batches")


def latest():
    return steps()[-1]


def our_tables():
    return {model._meta.db_table for model in MODELS} & set(connection.introspection.table_names())


def test_all_can_be_undone_and_applied_again_with_data_in_the_tables():
    half_checked("running")
    with back_at("zero"):
        assert our_tables() == set()
    assert len(our_tables()) == len(MODELS)
    assert not Batch.objects.exists()
    half_checked("running")
    assert_consistent()
    with pytest.raises(IntegrityError), transaction.atomic():
        Batch.objects.filter(name="first").update(position=0)
    with pytest.raises(IntegrityError), transaction.atomic():
        Profile.objects.bulk_create([Profile(url="https://example.org/0")])


def test_data_survive_the_way_back_to_each_step_and_forward_again():
    half_checked("done")
    before = everything()
    for step in steps()[::-1]:
        with back_at(step):
            pass
        assert everything() == before
    make_batch("works", 3)
    assert_consistent()
