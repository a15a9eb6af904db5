"""JSON logs: each line says which batch, run, partition and request it belongs to."""

import json
import logging
from io import StringIO

import pytest
from django.test import Client
from django.urls import path

from batches.batch_manager import BatchManager
from batches.checking import run
from batches.log_context import ContextFilter
from batches.models import Webhook
from batches.queue.partitions import partition_of
from batches.tests.support.factories import urls
from batches.tests.support.processes import run_python
from batches.tests.support.working import work
from batchproject.logs import JsonLineFormatter

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def lines():
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLineFormatter())
    handler.addFilter(ContextFilter())
    logging.getLogger().addHandler(handler)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.getLogger().removeHandler(handler)


def find(lines, text):
    return next(line for line in lines() if text in line["message"])


def test_the_lines_of_a_worker_name_the_batch_the_run_and_the_partition(script, lines, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "batches")
    asked = []

    async def check(profile):
        raise ArithmeticError("It broke.")

    def hear_of_hosts():
        asked.append(logging.getLogger("batches").warning("in the thread of the database"))
        return []

    monkeypatch.setattr(run, "recall_hosts", hear_of_hosts)
    script(check)
    Webhook.objects.create(url="https://127.0.0.1:9/refused")
    batch = BatchManager().create_batch("named", urls(1), checker="scripted")
    work()
    begun = find(lines, "Checking “named”")
    assert (begun["level"], begun["logger"], begun["batch_id"]) == ("INFO", "batches.checking.worker", str(batch.pk))
    assert set(begun) == {"time", "level", "logger", "process", "message", "batch_id", "run_id"}
    ids = {key: begun[key] for key in ("batch_id", "run_id")}
    for text in ("in the thread of the database", "Finished “named”", "The checker “scripted” failed"):
        assert find(lines, text).items() >= ids.items(), text
    failure = find(lines, "The checker “scripted” failed")
    assert failure["partition"] == partition_of(urls(1)[0])
    assert failure["exc_info"].endswith("ArithmeticError: It broke.")
    assert "batch_id" not in find(lines, "attempt 1")


@pytest.mark.parametrize(("given", "is_kept"), [("a1-B.c_2", True), ("x" * 65, False), ("a b", False), ("é", False)])
def test_a_request_keeps_the_id_that_a_proxy_gave_it(lines, given, is_kept):
    response = Client().get("/nothing/", headers={"X-Request-ID": given})
    name = response["X-Request-ID"]
    assert (name == given) == is_kept
    assert is_kept or len(name) == 32
    line = find(lines, "Not Found: /nothing/")
    assert (line["request_id"], line["status_code"]) == (name, 404)
    assert "request" not in line


def log_and_answer(request):
    logging.getLogger("batches").warning("within the view")
    return Client().get("/healthz")


urlpatterns = [path("logs/", log_and_answer)]


def test_each_request_has_its_own_id_in_the_lines_of_its_view(lines, settings):
    settings.ROOT_URLCONF = __name__
    names = [Client().get("/logs/")["X-Request-ID"] for _ in range(2)]
    assert names[0] != names[1]
    assert [line["request_id"] for line in lines() if line["message"] == "within the view"] == names


def test_the_variable_switches_the_format():
    command = "import logging; logging.getLogger('batches').warning('a\\nb %s', '\\u202e')"
    written = run_python("manage.py", "shell", "--no-imports", "-v0", "-c", command, LOG_FORMAT="JSON").stderr
    assert json.loads(written)["message"] == "a\nb \u202e"
    assert written.count("\n") == 1
    refused = run_python("manage.py", "check", LOG_FORMAT="xml").stderr
    assert "LOG_FORMAT='xml' is not a valid log format. Use one of line, json." in refused
