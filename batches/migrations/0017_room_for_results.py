from django.db import migrations


def set_fillfactor(apps, editor, percent=45):
    """With the number of the partition, a row with a result no longer fitted into the half of a page that was free."""
    if editor.connection.vendor == "postgresql":
        editor.execute(f"ALTER TABLE batches_batchprofile SET (fillfactor = {percent})")


def set_former_fillfactor(apps, editor):
    set_fillfactor(apps, editor, 50)


class Migration(migrations.Migration):

    dependencies = [("batches", "0016_end_of_a_hold")]

    operations = [migrations.RunPython(set_fillfactor, set_former_fillfactor)]
