"""procrastinate: many tasks in one call (https://procrastinate.readthedocs.io/en/stable/howto/basics/batch_defer.html),
asynchronous workers with concurrency
(https://procrastinate.readthedocs.io/en/stable/howto/advanced/concurrency.html)."""

import asyncio
from collections.abc import Sequence

import psycopg
import queues

CHUNK = 1_000
CONCURRENCY = 30


class ProcrastinateQueue(queues.Queue):
    def prepare(self) -> None:
        from procrastinate_app import app, noop

        self.app, self.noop = app, noop
        asyncio.run(self._apply_schema())
        self.connection = psycopg.connect(self.url, autocommit=True)

    async def _apply_schema(self) -> None:
        async with self.app.open_async():
            await self.app.schema_manager.apply_schema_async()

    def enqueue(self, count: int) -> None:
        asyncio.run(self._defer(count))

    async def _defer(self, count: int) -> None:
        async with self.app.open_async():
            for begin in range(0, count, CHUNK):
                chunk = [{"number": number} for number in range(begin, min(begin + CHUNK, count))]
                await self.noop.batch_defer_async(*chunk)

    @property
    def commands(self) -> list[Sequence[object]]:
        options = ["--log-level=error", "--app=procrastinate_app.app", "worker", f"--concurrency={CONCURRENCY}"]
        return [[queues.script("procrastinate"), *options] for _ in range(self.processes)]

    def count_results(self) -> int:
        row = self.connection.execute("SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'").fetchone()
        return row[0]  # type: ignore[no-any-return,index]


queues.measure(ProcrastinateQueue)
