"""Hostile responses: each gets its reason, and costs little memory and time. Measured in another process."""

import json
import re
import subprocess
import sys

import pytest

from batches.tests.support.hostile import CONFIG, SECRET, TOO_SLOW, attacks, require_measuring

#: What all of them together may cost. Each bomb alone is 400 MB.
MAX_BYTES = 150_000_000
#: A check ends with its time-out, but reading a document has none, and the machine may be busy.
MAX_SECONDS = 5.0


def measure_costs(*steps):
    """What `batches.tests.support.cost` says of them: each is a configuration with the groups of addresses to check."""
    require_measuring()
    order = [{"config": CONFIG | {"per_host": 1000} | config, "groups": groups} for config, groups in steps]
    program = [sys.executable, "-m", "batches.tests.support.cost"]
    done = subprocess.run(program, input=json.dumps(order), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "step", [pytest.param(8, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.exhaustive)]
)
def test_each_hostile_response_gets_its_reason_and_costs_little_memory_and_time(step, hostile):
    kinds = list(attacks())[::step]
    urls = {kind: hostile.urls[kind] for kind in kinds}
    slow = [url for kind, url in urls.items() if TOO_SLOW in attacks()[kind].error]
    others = [url for url in urls.values() if url not in slow]
    hostile.answer("/good", b"<rss><channel><item><guid>1</guid></item></channel></rss>")
    goods = [hostile.url("/good"), hostile.url("/good#afterwards")]
    costs = measure_costs(
        ({"timeout": 0.5}, [slow, goods[:1]]),
        ({"timeout": 3.0}, [[url] for url in [*others, *goods[1:]]]),
    )

    assert [costs.pop(good)["ok"] for good in goods] == [True, True]
    assert len(costs) == len(kinds)
    assert {kind: costs[url]["bytes"] for kind, url in urls.items() if costs[url]["bytes"] > MAX_BYTES} == {}
    assert {kind: costs[url]["seconds"] for kind, url in urls.items() if costs[url]["seconds"] > MAX_SECONDS} == {}
    assert {kind: costs[urls[kind]] for kind in kinds if not is_expected(attacks()[kind], costs[urls[kind]])} == {}
    assert SECRET not in json.dumps(costs)
    assert hostile.hits("/secret") == 0


def is_expected(attack, cost):
    as_expected = (cost["ok"], cost["stories"]) == (not attack.error, attack.stories)
    return as_expected and bool(re.search(attack.error, cost["error"]))
