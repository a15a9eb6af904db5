"""Answers that try to hurt: each gets its reason, and costs little memory and time. Measured in another process."""

import json
import re
import subprocess
import sys

from lxml import etree

from batches.tests.conftest import skip_or_fail
from batches.tests.support.cost import can_be_measured
from batches.tests.support.hostile import CONFIG, SECRET, TOO_SLOW, attacks, documents

#: What all of them together may cost. The bombs alone are 400 MB each.
MAX_BYTES = 150_000_000
#: A check ends with its time-out; but the reading of a document is not a matter of time, and the machine may be busy.
MAX_SECONDS = 5.0


def costs_of(*steps):
    """What `batches.tests.support.cost` says of them: each is a configuration with the groups of addresses to check."""
    if not can_be_measured():
        skip_or_fail("The peak of a process's memory is measured on Linux only.")
    order = [{"config": CONFIG | {"per_host": 1000} | config, "groups": groups} for config, groups in steps]
    program = [sys.executable, "-m", "batches.tests.support.cost"]
    done = subprocess.run(program, input=json.dumps(order), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_hostile_answer_gets_its_reason_and_costs_little_memory_and_time(hostile):
    urls = hostile.urls
    slow = [url for kind, url in urls.items() if TOO_SLOW in attacks()[kind].error]
    others = [url for url in urls.values() if url not in slow]
    hostile.answer("/good", b"<rss><channel><item><guid>1</guid></item></channel></rss>")
    goods = [hostile.url("/good"), hostile.url("/good#afterwards")]
    costs = costs_of(
        ({"timeout": 0.5}, [slow, goods[:1]]),
        ({"timeout": 3.0}, [[url] for url in [*others, *goods[1:]]]),
    )

    assert [costs.pop(good)["ok"] for good in goods] == [True, True]
    assert len(costs) == len(attacks())
    print(f"{len(costs)} hostile answers, at most {max(cost['bytes'] for cost in costs.values()) / 1e6:.0f} MB")
    assert {kind: costs[url]["bytes"] for kind, url in urls.items() if costs[url]["bytes"] > MAX_BYTES} == {}
    assert {kind: costs[url]["seconds"] for kind, url in urls.items() if costs[url]["seconds"] > MAX_SECONDS} == {}
    unexpected = {}
    for kind, attack in attacks().items():
        cost = costs[urls[kind]]
        as_expected = (cost["ok"], cost["stories"]) == (not attack.error, attack.stories)
        if not (as_expected and re.search(attack.error, cost["error"])):
            unexpected[kind] = cost
    assert not unexpected
    assert SECRET not in json.dumps(costs)
    assert hostile.hits("/secret") == 0


def test_there_are_many_of_them_and_whoever_reads_as_he_is_told_is_hurt(hostile):
    failures = [kind for kind, attack in attacks().items() if attack.error]
    print(f"{len(attacks())} hostile answers, of which {len(failures)} are failures")
    assert len(failures) >= 20
    document, _ = documents()["an entity of a file"]
    parser = etree.XMLParser(resolve_entities=True, load_dtd=True)
    tree = etree.fromstring(document.replace(b"@FILE@", bytes(hostile.secret)), parser)
    assert tree.findtext(".//title") == SECRET
