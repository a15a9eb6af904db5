"""`--processes`: several workers on one batch as real processes, with one supervisor."""

import os
import re
import signal
import socket
from contextlib import contextmanager

import httpx
import pytest
from django.db import connection

from batches.batch_manager import BatchManager
from batches.checking.checkers.slots import Slots
from batches.management.workers import worker_children
from batches.models import Batch, Lease, Worker
from batches.queue.partitions import partition_of
from batches.tests.support.factories import age_leases, assert_consistent, row_statuses, values_of
from batches.tests.support.feedserver import FeedServer, Reply
from batches.tests.support.ports import free_port
from batches.tests.support.processes import WAIT_SECONDS, ended
from batches.tests.support.threads import in_thread
from batches.tests.support.working import work

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

Status = Batch.Status
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
HOSTS = [f"127.0.0.{number}" for number in range(1, 25)]


@pytest.fixture
def farm(monkeypatch):
    """A server with many addresses, each in a different domain."""
    monkeypatch.setenv("BATCHES_CONCURRENCY", "8")
    # A process that starts late gets some of what the first one has not read, although all hosts seem to be slow.
    monkeypatch.setenv("BATCHES_PAGE_SIZE", "2")
    with FeedServer(HOSTS) as farm:
        farm.otherwise = Reply()
        yield farm


def addresses_on(farm, count):
    return [farm.url(f"/{number}", HOSTS[number % len(HOSTS)]) for number in range(count)]


def batch_on(farm, profiles=120, name="it"):
    return BatchManager().create_batch(name, addresses_on(farm, profiles), checker="http")


def workers_of(batch):
    return set(Lease.objects.filter(batch=batch).values_list("worker", flat=True))


def pids(text):
    return {name: int(pid) for name, pid in re.findall(r"(worker\d*) *\| started as process (\d+)", text)}


def is_done(batch):
    return lambda: values_of(batch.pk)["status"] == Status.DONE


@contextmanager
def silent(farm, profiles):
    """The server answers nothing within the block, so no process runs out of profiles before another starts."""
    gates = [farm.hold(f"/{number}") for number in range(profiles)]
    yield
    for gate in gates:
        gate.open()


def actions(batch):
    return list(batch.logs.order_by("pk").values_list("action", flat=True))


def assert_polite(farm):
    assert max(map(farm.most_at_once, HOSTS)) <= 2


@pytest.mark.parametrize(("processes", "per_host"), [(3, 2), pytest.param(4, 1, marks=pytest.mark.exhaustive)])
def test_redirects_into_the_domain_of_another_process_keep_to_its_limit(processes, per_host, farm, commands):
    """Its owner lends one of its slots to one process after the other."""
    hub, *sites = HOSTS
    farm.otherwise = lambda request: (
        Reply(raw=[ANSWER[:20], ANSWER[20:]], every=0.03)
        if request.host == hub
        else Reply(302, headers={"Location": farm.url(request.path, hub)})
    )
    addresses = [farm.url(f"/hub/{number}", hub) for number in range(20)]
    addresses += [farm.url(f"/{number}", sites[number % len(sites)]) for number in range(100)]
    batch = BatchManager().create_batch("it", addresses, checker="http")
    with silent(farm, 100):
        command = commands.start("batchworker", f"--processes={processes}", environ={"BATCHES_PER_HOST": str(per_host)})
        command.wait_for(lambda: len(workers_of(batch)) == processes)
    command.wait_for(is_done(batch))
    assert row_statuses(batch) == ["ok"] * 120
    assert farm.most_at_once(hub) == per_host
    assert_consistent()


@pytest.mark.databases("postgresql")
def test_a_worker_serves_its_figures_and_keeps_no_connection_that_it_needs_no_longer(commands):
    """Its main thread has only compared the migrations. Of a hundred connections, each idle worker held a third one."""
    port = free_port()
    worker = commands.start("batchworker", "--metrics-port", port, environ={"PGAPPNAME": "worker"})
    worker.wait_for(Worker.objects.exists)
    assert "batches_results_total" in httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=WAIT_SECONDS).text
    with connection.cursor() as cursor:
        cursor.execute("SELECT query FROM pg_stat_activity WHERE application_name = 'worker'")
        queries = [query for (query,) in cursor.fetchall()]
    assert queries
    assert not [query for query in queries if "django_migrations" in query]


@pytest.mark.databases("sqlite")
def test_with_celery_the_worker_refuses_and_says_what_to_start(manage, configure):
    configure(executor="celery")
    sentence = "BATCHES_EXECUTOR is celery. Start the workers with: celery -A batchproject worker"
    assert manage("batchworker") == (1, "", sentence)


def test_a_killed_process_starts_again_and_its_partitions_are_taken_over(farm, commands):
    batch = batch_on(farm)
    with silent(farm, 120):
        command = commands.start("batchworker", "--processes=2", environ={"BATCHES_LEASE_SECONDS": "1"})
        command.wait_for(lambda: len(workers_of(batch)) == 2)
        killed = pids(command.err)["worker1"]
        os.kill(killed, signal.SIGKILL)
    command.wait_for(lambda: pids(command.err)["worker1"] != killed)
    assert "worker1 | worker1 ended unexpectedly (SIGKILL), and starts again in 1 s" in command.err
    command.wait_for(is_done(batch))
    assert row_statuses(batch) == ["ok"] * 120
    assert "take_over" in actions(batch)
    assert_consistent()
    command.signal(signal.SIGINT)
    assert command.wait() == 0


@pytest.fixture
def long_list(farm, list_file):
    return list_file("\n".join(addresses_on(farm, 1200)))


def test_batch_run_checks_a_long_list_with_several_processes(farm, commands, long_list):
    with silent(farm, 1200):
        command = commands.start("batch", "run", "--checker=http", "--processes=3", long_list)
        command.wait_for(lambda: Lease.objects.count() == 3)
    assert ended(command).err == ""
    assert "ok        1,200" in command.out
    assert_polite(farm)
    assert_consistent()


def test_ctrl_c_at_a_terminal_stops_batch_run_and_its_helpers_and_pauses_the_batch(farm, commands, long_list):
    commands.environ = {**commands.environ, "BATCHES_GRACE_SECONDS": "600"}
    with silent(farm, 1200):
        command = commands.start_at_terminal("batch", "run", "--checker=http", "--processes=2", str(long_list))
        command.wait_for(lambda: Lease.objects.count() == 2)
        command.signal(signal.SIGINT)
        command.wait_for(lambda: "\r\x1b[KStopping after the running checks. [----" in command.out)
    assert command.wait() == 130
    assert "Traceback" not in command.out
    batch = Batch.objects.get()
    assert (batch.status, Lease.objects.count()) == (Status.PAUSED, 0)
    assert 0 < batch.completed_profiles < 1200
    assert_consistent()


def test_a_check_that_waits_for_a_slot_of_a_dead_worker_gets_it_after_the_takeover(farm, configure, monkeypatch):
    """No third worker takes over: the one that waits ends its run and claims again, and does not wait for its check."""
    hub, site, *_ = sorted(HOSTS, key=lambda host: partition_of(f"http://{host}/"))
    farm.redirect("/moved", farm.url("/new", hub))
    batch = BatchManager().create_batch("it", [farm.url("/old", hub), farm.url("/moved", site)], checker="http")
    assert BatchManager().start_batch(batch.pk)
    dead = BatchManager().claim_run("dead", 2)
    assert dead.partitions == (partition_of(f"http://{hub}/"),)
    wait = Slots.wait

    def wait_for_the_dead(slots, domain):
        assert in_thread(lambda: age_leases(batch)).result(WAIT_SECONDS)
        return wait(slots, domain)

    monkeypatch.setattr(Slots, "wait", wait_for_the_dead)
    configure(allowed_networks=("127.0.0.0/8",), check_timeout=3600.0)
    work()
    assert row_statuses(batch) == ["ok", "ok"]
    assert actions(batch).count("take_over") == 1
    assert_consistent()


def test_a_full_disk_of_the_log_stops_no_process(farm, commands):
    batch = batch_on(farm)
    with open("/dev/full", "w") as full:
        supervisor = commands.start("batchworker", "--processes", "2", stderr=full)
        supervisor.wait_for(is_done(batch))
        supervisor.signal(signal.SIGTERM)
        assert supervisor.wait() == 120  # of Python, which could not write its last lines
    assert_consistent()


def test_each_process_serves_its_measurements_on_its_own_port():
    ports = ["--metrics-port=9101", "--metrics-port=9102"]
    assert [child.arguments[-1] for child in worker_children(2, metrics=(9101, 9102))] == ports
    assert not any("metrics" in option for child in worker_children(2) for option in child.arguments)


@pytest.mark.databases("sqlite")
def test_a_port_for_figures_that_is_in_use_gets_one_sentence(manage):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for processes in ("1", "2"):
            output = manage("batchworker", "--processes", processes, "--metrics-port", str(port))
            assert output == (1, "", f"Port {port} is in use. Choose another one: --metrics-port PORT")


def test_a_further_process_needs_a_port_that_exists(manage):
    sentence = "Port 65536 does not exist; the last one is 65535. Choose another one: --metrics-port PORT"
    assert manage("batchworker", "--processes", "2", "--metrics-port", "65535") == (1, "", sentence)
