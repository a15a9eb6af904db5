"""The tasks of dramatiq."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

URL = os.environ["BENCH_URL"]
broker = RedisBroker(url=f"{URL}/2")
# A day, as Celery's default: results must not vanish while they are counted.
broker.add_middleware(Results(backend=RedisBackend(url=f"{URL}/3"), store_results=True, result_ttl=86_400_000))
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(number: int) -> bool:
    return True
