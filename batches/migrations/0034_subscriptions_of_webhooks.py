from django.db import migrations


def identify_by_id(apps, editor):
    rewrite(apps, lambda webhook: str(webhook.pk))


def identify_by_address(apps, editor):
    rewrite(apps, lambda webhook: webhook.url)


def rewrite(apps, address_of):
    """A webhook that was subscribed twice, by its old and by its new address, keeps both subscriptions."""
    subscriptions = apps.get_model("batches", "Subscription").objects.filter(channel="webhook")
    for found in subscriptions.select_related("webhook").order_by("created_at"):
        address = address_of(found.webhook)
        if not subscriptions.filter(list=found.list_id, address=address).exists():
            subscriptions.filter(pk=found.pk).update(address=address)


class Migration(migrations.Migration):
    dependencies = [("batches", "0033_workers")]

    operations = [migrations.RunPython(identify_by_id, identify_by_address)]
