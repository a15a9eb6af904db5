"""The figures for Prometheus: the state of the queue, and the measurements of a process."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db.models.functions import Now
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from batches import __version__
from batches.batch_manager import BatchManager
from batches.metrics import REGISTRY
from batches.models import Batch, Host, Lease, Queue, Webhook, WebhookDelivery, Worker
from batches.tests.support.factories import age_leases, claim, failed, make_batch, ok, profile_ids, record, urls
from batches.tests.support.working import work
from batches.tests.web.test_outages import rename_column
from batches.web.outages import OUTDATED

pytestmark = pytest.mark.django_db(transaction=True)

TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture
def ask(settings):
    settings.BATCHES = settings.BATCHES | {"METRICS_TOKEN": TOKEN}
    settings.SECURE_SSL_REDIRECT = True

    def ask(token=TOKEN):
        return Client().get("/metrics", headers={"host": "10.0.0.5:8000", "authorization": f"Bearer {token}"})

    return ask


@pytest.fixture
def read(ask):
    """The figures of the database by name and label."""

    def read():
        families = text_string_to_metric_families(ask().content.decode())
        samples = [sample for family in families if family.type == "gauge" for sample in family.samples]
        return {"/".join([sample.name, *sample.labels.values()]): sample.value for sample in samples}

    return read


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], f"{TOKEN}é"])
def test_figures_need_the_token(ask, token, django_assert_num_queries):
    with django_assert_num_queries(0):
        response = ask(token)
    assert (response.status_code, response["WWW-Authenticate"]) == (401, "Bearer")
    assert b"BATCHES_METRICS_TOKEN" in response.content


def test_without_a_token_the_address_does_not_exist(settings):
    settings.BATCHES = settings.BATCHES | {"METRICS_TOKEN": ""}
    assert Client().get("/metrics").status_code == 404


def test_a_database_of_another_version_is_reported(ask):
    rename_column("batches_queue", "held_by", "later")
    try:
        response = ask()
    finally:
        rename_column("batches_queue", "later", "held_by")
    assert (response.status_code, response.content.decode()) == (503, f"{OUTDATED}\n")


def test_an_empty_queue_has_figures(read):
    Queue.objects.create()
    figures = read()
    assert figures["batches_batches/queued"] == figures["batches_queue_held"] == figures["batches_workers"] == 0
    assert figures["batches_deliveries_late_seconds"] == figures["batches_day_batches"] == 0
    assert not {"batches_run_seconds", "batches_heartbeat_age_seconds", "batches_queue_held_seconds"} & set(figures)


def test_the_figures_say_what_the_database_says(read):
    manager = BatchManager()
    done = make_batch("done", 2)
    run = claim()
    record(run, zip(profile_ids(done), [ok("a", "b"), failed()], strict=True))
    assert manager.finish_run(done.pk, run.run_token)
    long = make_batch("long", 5)
    make_batch("waits", 7)
    lost = claim("lost")
    record(lost, [(profile_ids(long)[0], ok())])
    age_leases(long)
    run = claim("other")
    record(run, [(profile_ids(long)[1], failed()), (profile_ids(long)[2], ok())])
    Lease.objects.update(lease_at=Now() - timedelta(seconds=100))
    Lease.objects.create(batch=long, worker="second", lease_at=Now())
    Worker.objects.filter(name="other").update(version="0.9")
    Worker.objects.filter(name="lost").update(seen_at=Now() - timedelta(seconds=100))
    manager.end_worker("gone")
    Worker.objects.filter(name="gone").update(seen_at=Now() + timedelta(days=1))  # before the clock was set back
    manager.hold_queue("Maintenance")
    Queue.objects.update(held_at=timezone.now() - timedelta(minutes=2))
    Host.objects.create(name="paused.example.org", not_before=timezone.now() + timedelta(hours=1))
    Host.objects.create(name="quick.example.org", not_before=timezone.now() - timedelta(hours=1))
    webhook = Webhook.objects.create(url="https://example.org/hook")
    for minutes in (-3, -1, 3):
        at = timezone.now() + timedelta(minutes=minutes)
        values = {"event_id": uuid4(), "type": "batch.done", "payload": "{}", "next_attempt_at": at}
        WebhookDelivery.objects.create(webhook=webhook, **values)
    figures = read()
    expected = {
        "batches_queue_held": 1,
        "batches_queue_outage": 0,
        "batches_workers": 2,
        f"batches_workers_by_version/{__version__}": 1,  # "worker" is idle
        "batches_workers_by_version/0.9": 1,
        "batches_batches/queued": 1,
        "batches_batches/running": 1,
        "batches_batches/paused": 0,
        "batches_batches/done": 1,
        "batches_batches/error": 0,
        "batches_waiting_profiles": 7,
        "batches_run_profiles/ok": 2,
        "batches_run_profiles/failed": 1,
        "batches_run_profiles/skipped": 0,
        "batches_run_profiles/pending": 2,
        "batches_run_takeovers": 1,
        "batches_run_takeovers_without_progress": 1,
        "batches_day_batches": 1,
        "batches_day_stories": Batch.objects.get(name="done").stories_found,
        "batches_day_profiles/ok": 1,
        "batches_day_profiles/failed": 1,
        "batches_day_profiles/skipped": 0,
        "batches_deliveries_waiting": 3,
        "batches_hosts_paused": 1,
    }
    assert {name: figures[name] for name in expected} == expected
    seconds = {"queue_held_seconds": 120, "lease_age_seconds": 100, "deliveries_late_seconds": 180, "run_seconds": 0}
    for name, least in seconds.items():
        assert least <= figures[f"batches_{name}"] < least + 60, name
    assert 0 <= figures["batches_heartbeat_age_seconds"] < 60
    own = {name for name in figures if name.startswith("batches_") and "_created" not in name}
    assert own == {
        *expected,
        *(f"batches_{name}" for name in seconds),
        "batches_heartbeat_age_seconds",
    }


def test_the_number_of_queries_does_not_grow(ask, django_assert_num_queries):
    make_batch("runs", 3)
    claim()
    for number in range(2):
        with django_assert_num_queries(11):
            assert ask().status_code == 200
        make_batch(f"waits {number}", 3)


def measured():
    return {
        f"{sample.name}{sample.labels}": sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name.startswith("batches_") and sample.name.endswith(("_count", "_total"))
    }


def seconds_of_recording():
    return REGISTRY.get_sample_value("batches_recording_seconds_sum")


def test_a_worker_measures_itself(script):
    async def check(profile):
        return failed() if profile.url.endswith("/0") else None

    script(check)
    Webhook.objects.create(url="https://127.0.0.1:9/refused")
    BatchManager().create_batch("measured", urls(4), checker="scripted")
    before, seconds = measured(), seconds_of_recording()
    work()
    grown = {name: value - before.get(name, 0) for name, value in measured().items() if value != before.get(name, 0)}
    assert grown.pop("batches_results_total{'outcome': 'ok'}") == 3
    assert grown.pop("batches_results_total{'outcome': 'failed'}") == 1
    assert grown.pop("batches_delivery_attempts_total{'outcome': 'failed'}") >= 1
    assert 0 < seconds_of_recording() - seconds < 60
    assert set(grown) == {
        "batches_lock_wait_seconds_count{}",
        "batches_lock_held_seconds_count{}",
        "batches_loop_lag_seconds_count{}",
        "batches_recording_seconds_count{}",
    }
