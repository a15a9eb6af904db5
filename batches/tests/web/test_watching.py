"""The alerts and the dashboard in `deploy/`: a real Prometheus evaluates each expression on our figures."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml
from django.conf import settings
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from batches.batch_manager import BatchManager
from batches.metrics import REGISTRY
from batches.models import Batch
from batches.reports.figures import QueueCollector
from batches.tests.conftest import skip_or_fail
from batches.tests.support.documents import read_page
from batches.tests.support.factories import half_checked, values_of
from batches.tests.support.feedserver import Reply
from batches.tests.support.ports import free_port
from batches.tests.support.processes import WAIT_SECONDS, wait_until

DEPLOY = settings.BASE_DIR / "deploy"
TOKEN = "a-token-that-nobody-guesses"
[GROUP] = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
ALERTS = GROUP["rules"]
PANELS = json.loads((DEPLOY / "grafana" / "batches.json").read_text())["panels"]
#: The queries of the dashboard, as Grafana sends them.
SHOWN = [target["expr"].replace("$__rate_interval", "1m") for panel in PANELS for target in panel["targets"]]

SELECTOR = re.compile(r"(batches_\w+)(?:\{([^}]*)\})?")


def find_program(name):
    return shutil.which(name) or skip_or_fail(f"{name} is not installed. On Debian: apt install prometheus")


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS, **options)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")])
def test_each_alert_fires_when_it_should_and_not_otherwise(arguments):
    result = run(find_program("promtool"), *arguments, cwd=DEPLOY / "prometheus")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_prometheus_can_read_each_expression_of_the_dashboard(tmp_path):
    rules = [{"record": f"panel:{number}", "expr": shown} for number, shown in enumerate(SHOWN)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    result = run(find_program("promtool"), "check", "rules", str(tmp_path / "rules.yml"))
    assert result.returncode == 0, result.stdout + result.stderr


def test_each_alert_is_tried_and_has_advice():
    tried = (DEPLOY / "prometheus" / "alerts_test.yml").read_text()
    advice = read_page("operations/watch.md")
    for alert in ALERTS:
        assert f'alertname="{alert["alert"]}"' in tried
        assert f"`{alert['alert']}`" in advice


@pytest.mark.databases("sqlite")
@pytest.mark.django_db
def test_each_figure_that_an_alert_or_the_dashboard_asks_for_exists_with_its_labels_and_is_documented():
    half_checked("running")
    BatchManager().hold_queue("Maintenance")
    text = (generate_latest(QueueCollector()) + generate_latest(REGISTRY)).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    documented = read_page("operations/watch.md")
    for expression in [*SHOWN, *(alert["expr"] for alert in ALERTS)]:
        for name, matchers in SELECTOR.findall(expression):
            labels = [sample.labels for sample in samples if sample.name == name]
            assert labels, name
            assert re.sub("_(bucket|count)$", "", name) in documented, name
            for label, values in re.findall(r'(\w+)=~?"([^"]*)"', matchers):
                assert {one.get(label) for one in labels} >= set(values.split("|")), (name, label)


class Prometheus:
    """A real one, with the example's configuration except for addresses and intervals."""

    def __init__(self, commands, directory, web, worker):
        self.port = free_port()
        configuration = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        (directory / "token").write_text(TOKEN)
        for job, port in zip(configuration["scrape_configs"], (web, worker), strict=True):
            job |= {"scrape_interval": "1s", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
            if "authorization" in job:
                job["authorization"]["credentials_file"] = str(directory / "token")
        configuration["rule_files"] = [str(DEPLOY / "prometheus" / "alerts.yml")]
        (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        options = {"config.file": directory / "prometheus.yml", "storage.tsdb.path": directory / "data"}
        options["web.listen-address"] = f"127.0.0.1:{self.port}"
        commands.start_program(find_program("prometheus"), *(f"--{name}={value}" for name, value in options.items()))

    def ask(self, path, **parameters):
        answer = httpx.get(f"http://127.0.0.1:{self.port}/api/v1/{path}", params=parameters, timeout=WAIT_SECONDS)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def query(self, expression):
        return self.ask("query", query=expression)["result"]

    def is_ready(self):
        """Whether it has read every target twice: a rate needs two samples."""
        try:
            # It listens before it responds to queries.
            if httpx.get(f"http://127.0.0.1:{self.port}/-/ready", timeout=WAIT_SECONDS).status_code != 200:
                return False
            return len(self.query("count_over_time(up[1m]) >= 2 and up == 1")) == 2
        except httpx.TransportError:
            return False


@pytest.mark.exhaustive
@pytest.mark.databases("sqlite")
@pytest.mark.django_db(transaction=True)
def test_prometheus_evaluates_each_expression_on_the_figures_of_a_run(commands, server, tmp_path):
    web, worker = free_port(), free_port()
    server.otherwise, gate = Reply(), server.hold("/slow")
    batch = BatchManager().create_batch("watched", [server.url(path) for path in ("/a", "/b", "/slow")], checker="http")
    assert batch
    site = commands.start("serve", "--no-workers", "--port", web, environ={"BATCHES_METRICS_TOKEN": TOKEN})
    commands.start("batchworker", "--metrics-port", worker)
    gate.wait_for()
    # From now on, Prometheus reads constant values.
    site.wait_for(lambda: "Serving on" in site.out and values_of(batch.pk)["completed_profiles"] == 2)
    prometheus = Prometheus(commands, Path(tmp_path), web, worker)
    wait_until(prometheus.is_ready)
    for expression in SHOWN:
        assert prometheus.query(expression), expression
    for alert in ALERTS:
        prometheus.query(alert["expr"])
    assert prometheus.query('batches_run_profiles{outcome="pending"}')[0]["value"][1] == "1"
    assert prometheus.query('sum(batches_results_total{outcome="ok"})')[0]["value"][1] == "2"
    assert prometheus.ask("alerts")["alerts"] == []
    gate.open()
    wait_until(lambda: Batch.objects.get(pk=batch.pk).status == "done")
