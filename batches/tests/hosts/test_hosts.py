"""The app in projects that were there before it, each as a real process on databases of its own."""

import re

import psycopg
import pytest

from batches.tests.support.processes import Commands

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def database_urls(database_url, tmp_path_factory):
    """Two empty databases."""
    if database_url.startswith("sqlite"):
        directory = tmp_path_factory.mktemp("hosts")
        return [f"sqlite:///{directory / name}.sqlite3" for name in ("host", "other")]
    with psycopg.connect(database_url.replace("/batches?", "/postgres?"), autocommit=True) as server:
        for name in ("host", "other"):
            server.execute(f"DROP DATABASE IF EXISTS {name}")
            server.execute(f"CREATE DATABASE {name}")
    return [database_url.replace("/batches?", f"/{name}?") for name in ("host", "other")]


class Host(Commands):
    """The commands of a project with these settings."""

    def __init__(self, settings: str, database_url: str, other_url: str) -> None:
        super().__init__(database_url)
        own = {"DJANGO_SETTINGS_MODULE": f"batches.tests.hosts.{settings}", "OTHER_DATABASE_URL": other_url}
        self.environ = {**self.environ, **own}

    def run(self, *arguments: str, code: int = 0, **environ: str) -> str:
        """The output of a command, which exits with this code."""
        command = self.start(*arguments, environ=environ)
        assert command.wait() == code, command.describe()
        return command.out + command.err


@pytest.mark.parametrize("settings", ["plain", "unusual"])
def test_after_the_steps_of_the_readme_the_system_check_is_silent(settings, database_urls):
    with Host(settings, *database_urls) as host:
        assert host.run("check") == "System check identified no issues (0 silenced).\n"


def test_what_the_app_cannot_work_with_is_refused_with_what_to_type(database_urls):
    with Host("refused", *database_urls) as host:
        report = host.run("check", code=1)
    assert re.findall(r"\((batches\.E\d+)\) (.*)\n\s*HINT: (.*)", report) == [
        *(
            ("batches.E004", f"'{name}' is not in INSTALLED_APPS.", f'Add "{name}" to INSTALLED_APPS.')
            for name in (
                "django.contrib.humanize",
                "drf_spectacular",
                "drf_spectacular_sidecar",
                "rest_framework.authtoken",
            )
        ),
        (
            "batches.E005",
            "USE_TZ is off. Heartbeats and expected times would be wrong by hours when the clocks change.",
            "Set USE_TZ = True.",
        ),
        (
            "batches.E006",
            "The user model people.Robot lacks permissions or the field is_active.",
            "Derive it from AbstractUser, or from AbstractBaseUser and PermissionsMixin with a field is_active.",
        ),
        (
            "batches.E007",
            "DATABASE_ROUTERS do not keep these in the database “default”: batches.Batch, batches.BatchLog, "
            "batches.BatchProfile, batches.Profile, batches.Queue, batches.StoredResponse, batches.StoryResult, "
            "batches.Webhook, batches.WebhookDelivery, people.Robot.",
            'Let db_for_read and db_for_write return "default" for them.',
        ),
    ]
