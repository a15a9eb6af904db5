from django.db import migrations


class Migration(migrations.Migration):
    """The columns of positive integers have a constraint of their own, which says the same."""

    dependencies = [("batches", "0036_quicker_moves")]

    operations = [
        migrations.RemoveConstraint("batch", "batch_counters_not_negative"),
        migrations.RemoveConstraint("lease", "lease_counters_not_negative"),
    ]
