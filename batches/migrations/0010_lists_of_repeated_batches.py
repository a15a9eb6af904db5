"""Batches that repeat each other become the runs of a list with the profiles of the latest one."""

import uuid
from collections import defaultdict

from django.db import migrations, transaction

#: Of a list's name.
MAX_NAME = 200
CHUNK = 2_500


def make_lists(apps, schema_editor):
    """In bounded transactions. If it is repeated after a kill, it finds its unfinished list by ID."""
    Batch, ProfileList = apps.get_model('batches', 'Batch'), apps.get_model('batches', 'ProfileList')
    for runs in find_chains(Batch):
        latest = Batch.objects.get(pk=runs[-1])
        if latest.list_id is not None:
            continue
        pk = uuid.uuid5(runs[0], 'list')
        taken = set(ProfileList.objects.exclude(pk=pk).values_list('name', flat=True))
        values = {'name': find_free_name(latest.name, taken), 'checker': latest.checker, 'priority': latest.priority}
        made, _ = ProfileList.objects.get_or_create(pk=pk, defaults=values | {'created_at': latest.created_at})
        copy_members(apps, latest, made)
        with transaction.atomic():
            Batch.objects.filter(pk__in=runs).update(list=made)
            message = f'made of {len(runs):,} batches that repeat each other'
            apps.get_model('batches', 'BatchLog').objects.create(list=made, action='create_list', message=message)


def find_chains(Batch):
    """The batches that repeat each other, oldest first; those that neither repeat nor are repeated are left out."""
    previous = {}
    for pk, before in Batch.objects.filter(deleted_at=None).order_by('created_at', 'pk').values_list('pk', 'previous'):
        previous[pk] = before
    chains = defaultdict(list)
    for pk in previous:
        chains[find_first(pk, previous)].append(pk)
    return [runs for runs in chains.values() if len(runs) > 1]


def find_first(pk, previous):
    seen = {pk}  # a restored dump may have a circle
    while previous.get(pk) in previous and previous[pk] not in seen:
        pk = previous[pk]
        seen.add(pk)
    return pk


def find_free_name(name, taken):
    wanted, number = name, 1
    while wanted in taken:
        number += 1
        suffix = f' ({number})'
        wanted = name[:MAX_NAME - len(suffix)] + suffix
    return wanted


def copy_members(apps, batch, made):
    ListProfile = apps.get_model('batches', 'ListProfile')
    rows, last = apps.get_model('batches', 'BatchProfile').objects.filter(batch=batch).order_by('pk'), 0
    while chunk := list(rows.filter(pk__gt=last).values_list('pk', 'profile_id')[:CHUNK]):
        members = [ListProfile(list=made, profile_id=profile_id) for _, profile_id in chunk]
        ListProfile.objects.bulk_create(members, ignore_conflicts=True)
        last = chunk[-1][0]


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('batches', '0009_lists_that_last'),
    ]

    operations = [
        # The way back needs nothing: the batches keep their `previous`, and the tables of lists are dropped.
        migrations.RunPython(make_lists, migrations.RunPython.noop),
    ]
