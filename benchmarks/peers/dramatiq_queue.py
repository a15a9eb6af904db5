"""dramatiq with Redis for the tasks and the results. Eight threads in each process are its default
(https://dramatiq.io/guide.html#workers); more of them prefetch more messages."""

from collections.abc import Sequence

import queues
import redis

THREADS = 8


class DramatiqQueue(queues.Queue):
    def prepare(self) -> None:
        from dramatiq_app import noop

        self.noop = noop
        self.results = redis.Redis.from_url(f"{self.url}/3")
        for number in (2, 3):
            redis.Redis.from_url(f"{self.url}/{number}").flushdb()

    def enqueue(self, count: int) -> None:
        for number in range(count):
            self.noop.send(number)

    @property
    def commands(self) -> list[Sequence[object]]:
        return [[queues.script("dramatiq"), "dramatiq_app", "-p", self.processes, "-t", THREADS]]

    def count_results(self) -> int:
        return self.results.dbsize()  # type: ignore[no-any-return]


queues.measure(DramatiqQueue)
