"""A client that a standard generator makes from the committed description compiles and works."""

import io
import os
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from uuid import UUID

import pytest
from django.conf import settings

from batches.batch_manager import BatchManager
from batches.tests.support.factories import api_key

from .conftest import make_root

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The generated package, which can be imported."""
    folder = tmp_path_factory.mktemp("client")
    generator = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning"]
    schema = settings.BASE_DIR / "docs" / "reference" / "openapi.yaml"
    paths = ["--path", schema, "--output-path", folder / "batches_client"]
    # It formats the code with the ruff next to this Python.
    environ = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    made = subprocess.run([*generator, *paths], capture_output=True, text=True, env=environ, cwd=folder)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "warning" not in (made.stdout + made.stderr).lower()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder / "batches_client"


@pytest.fixture
def connected(package, site):
    """The generated client with a token, and a real server."""
    from batches_client import AuthenticatedClient

    with AuthenticatedClient(site, api_key(make_root()), prefix="Token", raise_on_unexpected_status=True) as client:
        yield client


def call(name):
    return import_module(f"batches_client.api.{name.partition('_')[0]}.{name}").sync


def test_every_module_of_the_client_can_be_imported(package):
    names = [module.name for module in pkgutil.walk_packages([str(package)], "batches_client.")]
    for name in names:
        import_module(name)
    assert "batches_client.api.batches.batches_create" in names
    assert len(names) > 60


@pytest.mark.django_db(transaction=True)
@pytest.mark.databases("sqlite")
def test_the_client_drives_batches_and_gets_errors(connected):
    from batches_client.models import (
        Action,
        BatchJSONRequest,
        BatchStatus,
        BatchUploadRequest,
        BulkRequest,
        NothingRequest,
    )
    from batches_client.types import File

    wanted = BatchJSONRequest("Press", ["https://example.org/a", "https://example.org/b"], queue=False)
    made = call("batches_create")(client=connected, body=wanted, idempotency_key="press-1")
    again = call("batches_create")(client=connected, body=wanted, idempotency_key="press-1")
    assert (made.batch.name, made.batch.status, made.accepted) == ("Press", BatchStatus.PAUSED, 2)
    assert again == made

    assert call("batches_queue")(made.batch.id, client=connected, body=NothingRequest()).position == 1
    rows = call("batches_profiles_list")(made.batch.id, client=connected, has_story=False, page_size=1)
    assert [row.url for row in rows.results] == ["https://example.org/a"]
    assert "cursor=" in rows.next_
    assert BatchManager().complete_batch(made.batch.id)
    refused = call("batches_pause")(made.batch.id, client=connected, body=NothingRequest())
    assert (refused.code, refused.batch.id) == ("finished", made.batch.id)

    file = File(io.BytesIO(b"https://example.org/\n\nno address\n"), "list.txt")
    made = call("batches_create")(client=connected, body=BatchUploadRequest("News", file, priority=3, queue=False))
    assert (made.batch.priority, made.rejected[0].line, made.rejected[0].text) == (3, 3, "no address")
    ids = [str(made.batch.id), str(UUID(int=0))]
    answer = call("batches_bulk")(client=connected, body=BulkRequest(Action.PAUSE, ids))
    assert [outcome.code for outcome in answer.outcomes] == [None, "not_found"]
    wrong = call("batches_list")(client=connected, cursor="made up")
    assert (wrong.code, list(wrong.errors.additional_properties)) == ("invalid", ["cursor"])
