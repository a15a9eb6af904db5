import django.db.models.deletion
from django.db import migrations, models


def check_positions_at_the_end_of_a_statement(apps, editor, when="DEFERRABLE INITIALLY IMMEDIATE"):
    """So that PostgreSQL can move all waiting batches by one in one statement. SQLite has no such constraint."""
    if editor.connection.vendor == "postgresql":
        editor.execute(
            "ALTER TABLE batches_batch DROP CONSTRAINT batches_batch_position_key, "
            f"ADD CONSTRAINT batches_batch_position_key UNIQUE (position) {when}"
        )


def check_positions_row_by_row(apps, editor):
    check_positions_at_the_end_of_a_statement(apps, editor, when="NOT DEFERRABLE")


class Migration(migrations.Migration):

    dependencies = [("batches", "0035_loans_of_slots")]

    operations = [
        migrations.AlterField(
            "batch",
            "previous",
            models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="repeats",
                to="batches.batch",
            ),
        ),
        migrations.AddIndex(
            "batch",
            models.Index(
                fields=["previous"], name="batch_repeats", condition=models.Q(("previous__isnull", False))
            ),
        ),
        migrations.RunPython(check_positions_at_the_end_of_a_statement, check_positions_row_by_row),
    ]
