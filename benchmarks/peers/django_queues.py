"""The common part of the queues that are Django apps."""

import os

import queues

os.environ["DJANGO_SETTINGS_MODULE"] = "django_project"


class DjangoQueue(queues.Queue):
    def prepare(self) -> None:
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
