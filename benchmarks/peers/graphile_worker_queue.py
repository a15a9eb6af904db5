"""graphile-worker with the settings of its record (https://worker.graphile.org/docs/performance): batches of 500
jobs are fetched at once, completed jobs are written in batches, 24 jobs at once in each process.

It deletes a job when it is done, and stores no result.
"""

import json
import os
from collections.abc import Sequence

import psycopg
import queues

CHUNK = 10_000
NODE_MODULES = os.environ["BENCH_NODE_MODULES"]


class GraphileWorkerQueue(queues.Queue):
    def prepare(self) -> None:
        self.connection = psycopg.connect(self.url, autocommit=True)
        # Node's driver understands a socket's directory only in the environment.
        host = self.connection.info.host
        self.environment |= {"PGHOST": host, "PGUSER": "postgres", "PGDATABASE": self.connection.info.dbname}
        self.environment |= {"NODE_PATH": NODE_MODULES, "NO_LOG_SUCCESS": "1"}
        queues.subprocess.run([*self._worker, "--schema-only"], env=self.environment, check=True, cwd=queues.HERE)

    @property
    def _worker(self) -> list[str]:
        return ["node", f"{NODE_MODULES}/graphile-worker/dist/cli.js", "--config", "graphile.config.cjs"]

    def enqueue(self, count: int) -> None:
        # Many jobs in one call: https://worker.graphile.org/docs/sql-add-jobs
        self.count = count
        for begin in range(0, count, CHUNK):
            jobs = [("noop", json.dumps({"number": number})) for number in range(begin, min(begin + CHUNK, count))]
            self.connection.execute(
                """SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
                       SELECT ROW(task, payload::json, NULL, NULL, NULL, NULL, NULL, NULL)::graphile_worker.job_spec
                         FROM unnest(%s::text[], %s::text[]) AS job (task, payload)))""",
                [[task for task, _ in jobs], [payload for _, payload in jobs]],
            )

    @property
    def commands(self) -> list[Sequence[object]]:
        return [self._worker for _ in range(self.processes)]

    def count_results(self) -> int:
        row = self.connection.execute("SELECT count(*) FROM graphile_worker._private_jobs").fetchone()
        return self.count - row[0]  # type: ignore[no-any-return,index]


queues.measure(GraphileWorkerQueue)
