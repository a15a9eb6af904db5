from django.db import migrations, models


def move_to_its_own_row(apps, editor):
    """The last worker may still be running. Then its next heartbeat clears `ended_at`."""
    Worker = apps.get_model("batches", "Worker")
    for queue in apps.get_model("batches", "Queue").objects.filter(worker_seen_at__isnull=False).exclude(worker=""):
        seen = queue.worker_seen_at
        values = {"version": queue.worker_version, "started_at": seen, "seen_at": seen, "ended_at": seen}
        Worker.objects.create(name=queue.worker, **values)


def move_back_to_the_queue(apps, editor):
    last = apps.get_model("batches", "Worker").objects.order_by("-seen_at").first()
    if last is not None:
        values = {"worker": last.name, "worker_version": last.version, "worker_seen_at": last.seen_at}
        apps.get_model("batches", "Queue").objects.update(**values)


class Migration(migrations.Migration):
    dependencies = [("batches", "0032_read_marks")]

    operations = [
        migrations.CreateModel(
            name="Worker",
            fields=[
                ("name", models.CharField(max_length=150, primary_key=True, serialize=False)),
                ("version", models.CharField(blank=True, max_length=50)),
                ("started_at", models.DateTimeField()),
                ("seen_at", models.DateTimeField(verbose_name="last heartbeat")),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={"default_permissions": ()},
        ),
        migrations.RunPython(move_to_its_own_row, move_back_to_the_queue),
        migrations.RemoveField("queue", "worker"),
        migrations.RemoveField("queue", "worker_version"),
        migrations.RenameField("queue", "worker_seen_at", "looked_at"),
        migrations.AlterField("queue", "looked_at", models.DateTimeField(blank=True, editable=False, null=True)),
    ]
