"""The alerts and the dashboard in `deploy/`: Prometheus evaluates each expression on our figures."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from django.conf import settings
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from batches.batch_manager import BatchManager
from batches.metrics import REGISTRY
from batches.reports.figures import QueueCollector
from batches.tests.conftest import skip_or_fail
from batches.tests.support.documents import read_page
from batches.tests.support.factories import half_checked
from batches.tests.support.processes import WAIT_SECONDS

DEPLOY = settings.BASE_DIR / "deploy"
[GROUP] = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
ALERTS = GROUP["rules"]
PANELS = json.loads((DEPLOY / "grafana" / "batches.json").read_text())["panels"]
#: The queries of the dashboard, as Grafana sends them.
SHOWN = [target["expr"].replace("$__rate_interval", "1m") for panel in PANELS for target in panel["targets"]]

SELECTOR = re.compile(r"(batches_\w+)(?:\{([^}]*)\})?")


def measure():
    """The figures of a web application and of a worker while a batch runs in a queue that is held."""
    half_checked("running")
    BatchManager().hold_queue("Maintenance")
    text = (generate_latest(QueueCollector()) + generate_latest(REGISTRY)).decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def run_promtool(*arguments, folder):
    promtool = shutil.which("promtool") or skip_or_fail("promtool is not installed. On Debian: apt install prometheus")
    result = subprocess.run([promtool, *arguments], cwd=folder, capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
)
def test_each_alert_fires_when_it_should_and_not_otherwise(arguments):
    run_promtool(*arguments, folder=DEPLOY / "prometheus")


def test_each_alert_is_tried_and_has_advice():
    tried = (DEPLOY / "prometheus" / "alerts_test.yml").read_text()
    advice = read_page("operations/watch.md")
    for alert in ALERTS:
        assert f'alertname="{alert["alert"]}"' in tried
        assert f"`{alert['alert']}`" in advice


@pytest.mark.databases("sqlite")
@pytest.mark.django_db
def test_each_figure_that_an_alert_or_the_dashboard_asks_for_exists_with_its_labels_and_is_documented():
    samples, documented = measure(), read_page("operations/watch.md")
    for expression in [*SHOWN, *(alert["expr"] for alert in ALERTS)]:
        for name, matchers in SELECTOR.findall(expression):
            labels = [sample.labels for sample in samples if sample.name == name]
            assert labels, name
            assert re.sub("_(bucket|count)$", "", name) in documented, name
            for label, values in re.findall(r'(\w+)=~?"([^"]*)"', matchers):
                assert {one.get(label) for one in labels} >= set(values.split("|")), (name, label)


@pytest.mark.slow
@pytest.mark.databases("sqlite")
@pytest.mark.django_db
def test_each_expression_of_the_dashboard_has_a_value_for_our_figures(tmp_path):
    series = []
    for sample in measure():
        labels = ", ".join(f"{name}={json.dumps(value)}" for name, value in sample.labels.items())
        series.append({"series": f"{sample.name}{{{labels}}}", "values": "0+1x40"})
    questions = [
        {"expr": f"vector(1) and on() ({shown})", "eval_time": "5m", "exp_samples": [{"labels": "{}", "value": 1}]}
        for shown in SHOWN
    ]
    tests = {"tests": [{"interval": "15s", "input_series": series, "promql_expr_test": questions}]}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    run_promtool("test", "rules", "tests.yml", folder=tmp_path)
