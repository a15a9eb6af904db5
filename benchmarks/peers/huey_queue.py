"""huey: `huey_consumer` with worker processes, as its documentation recommends for work that does not wait
(https://huey.readthedocs.io/en/latest/consumer.html#worker-types). Delays between polls are as short as they can be."""

from collections.abc import Sequence

import queues


class HueyQueue(queues.Queue):
    def prepare(self) -> None:
        from huey_app import huey, noop

        self.huey, self.noop = huey, noop

    def enqueue(self, count: int) -> None:
        # One INSERT and COMMIT each: huey has no call for many tasks.
        for number in range(count):
            self.noop(number)

    @property
    def commands(self) -> list[Sequence[object]]:
        options = ["-w", self.processes, "-k", "process", "-d", 0.001, "-m", 0.01, "-n", "-q"]
        return [[queues.script("huey_consumer"), "huey_app.huey", *options]]

    def count_results(self) -> int:
        return self.huey.result_count()  # type: ignore[no-any-return]


queues.measure(HueyQueue)
