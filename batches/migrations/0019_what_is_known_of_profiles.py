"""What earlier versions have noted: which profiles were read, and which fail now."""

from django.db import migrations, transaction
from django.db.models import Case, F, Min, OuterRef, Q, Subquery, Value, When
from django.db.models.functions import Coalesce

#: Profiles a transaction, so that workers of the earlier version can continue to record.
CHUNK = 10_000


def remember(apps, schema_editor):
    """A profile was read when it first had a story or a result, as far as that is stored.

    Otherwise, its stories would be taken for stories of a first read, and the next new one would not be reported.
    """
    Profile = apps.get_model('batches', 'Profile')
    stories = apps.get_model('batches', 'StoryResult').objects.filter(profile=OuterRef('pk'))
    checks = apps.get_model('batches', 'BatchProfile').objects.filter(profile=OuterRef('pk'), status='ok')
    is_failing = ~Q(last_error='') & Q(last_checked_at__isnull=False)
    for profiles in chunks(Profile):
        profiles.filter(first_read_at=None).update(
            first_read_at=Coalesce(
                Subquery(stories.order_by().values('profile').annotate(first=Min('found_at')).values('first')),
                Subquery(checks.order_by().values('profile').annotate(first=Min('checked_at')).values('first')),
                Case(When(last_error='', then=F('last_checked_at'))),
            )
        )
        profiles.filter(is_failing, failures=0).update(failures=Value(1), failing_since=F('last_checked_at'))


def forget_skipped(apps, schema_editor):
    """The earlier version does not know this status: these rows have no result."""
    rows = apps.get_model('batches', 'BatchProfile').objects.filter(status='skipped')
    for batch in apps.get_model('batches', 'Batch').objects.filter(skipped_profiles__gt=0):
        with transaction.atomic():
            rows.filter(batch=batch).update(status='pending', error='')
            batch.completed_profiles -= batch.skipped_profiles
            batch.skipped_profiles = 0
            batch.save(update_fields=['completed_profiles', 'skipped_profiles'])


def chunks(model):
    last = 0
    while ids := list(model.objects.filter(pk__gt=last).order_by('pk').values_list('pk', flat=True)[:CHUNK]):
        yield model.objects.filter(pk__gt=last, pk__lte=ids[-1])
        last = ids[-1]


class Migration(migrations.Migration):

    atomic = False  # each chunk for itself; repeating them changes nothing

    dependencies = [
        ('batches', '0018_memory_of_profiles'),
    ]

    operations = [
        migrations.RunPython(remember, forget_skipped),
    ]
