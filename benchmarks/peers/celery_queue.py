"""Celery with Redis for the tasks and the results. Prefork is its default, and `--without-…` switches off what a
single machine does not need (https://docs.celeryq.dev/en/stable/reference/cli.html#celery-worker)."""

from collections.abc import Sequence

import queues
import redis


class CeleryQueue(queues.Queue):
    def prepare(self) -> None:
        from celery_app import app, noop

        self.app, self.noop = app, noop
        self.results = redis.Redis.from_url(f"{self.url}/1")
        for number in (0, 1):
            redis.Redis.from_url(f"{self.url}/{number}").flushdb()

    def enqueue(self, count: int) -> None:
        # One producer for all: https://docs.celeryq.dev/en/stable/userguide/calling.html#connections
        with self.app.producer_pool.acquire(block=True) as producer:
            for number in range(count):
                self.noop.apply_async((number,), producer=producer)

    @property
    def commands(self) -> list[Sequence[object]]:
        options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]
        worker = ["-A", "celery_app", "worker", f"--concurrency={self.processes}", *options]
        return [[queues.script("celery"), *worker]]

    def count_results(self) -> int:
        return self.results.dbsize()  # type: ignore[no-any-return]


queues.measure(CeleryQueue)
