"""The examples in the API's description, recorded from calls that are really made.

What differs from run to run is replaced by what does not: an id always by the same id, a time by its field's, and
measured seconds. So the recording can be made again at any time, and compared with `batches/api/examples.json`.
"""

import json
import re
from typing import Any
from uuid import UUID

from batches.api.schema import SHARED

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)")
CURSOR = re.compile(r"(?<=cursor=)[^&\"]+")
SERVER = "http://testserver"

#: Seconds and speeds that were measured, by the name of the field.
MEASURED = {"run_seconds": 1.5, "rate": 2.0, "seconds_left": 0.5, "duration": 0.125}
#: The minute of each time, by the name of the field: a clock that shows milliseconds gives two the same now and then.
MINUTES = {"created_at": 0, "started_at": 5, "expected_start": 7, "completed_at": 9, "held_at": 9, "all_done": 12}


class Recording:
    """Makes calls, and keeps what they ask and are answered by operation."""

    def __init__(self, client: Any, schema: dict[str, Any]) -> None:
        self.client = client
        self.paths = [(operation_path(path), path) for path in schema["paths"]]
        self.schema = schema
        self.calls: dict[str, list[dict[str, Any]]] = {}
        self.ids: dict[str, str] = {}
        self.numbers: dict[str, dict[int, int]] = {}

    def call(self, method: str, address: str, summary: str, body: Any = None, **options: Any) -> Any:
        """Makes a call and keeps it as an example; its answer, decoded. `options` are those of the client."""
        example: dict[str, Any] = {"summary": summary}
        # A refused request is no example of how to ask.
        answer = getattr(self.client, method)(address, body, **options)
        if body is not None and answer.status_code != 400:
            example["media_type"] = "multipart/form-data" if options.get("format") else "application/json"
            example["request"] = {name: as_text(value) for name, value in body.items()}
        return self._keep(self.operation(method, address), example, answer)

    def error(self, summary: str, answer: Any) -> None:
        """Keeps an answer that any call can get."""
        self._keep(SHARED, {"summary": summary}, answer)

    def _keep(self, operation: str, example: dict[str, Any], answer: Any) -> Any:
        example["status"] = answer.status_code
        kind = answer.get("Content-Type", "").partition(";")[0]
        if kind == "application/json":
            example["answer"] = answer.json()
        elif kind:
            example |= {"answer_type": kind, "answer": answer.getvalue().decode()}
        self.calls.setdefault(operation, []).append(example)
        return example.get("answer")

    def operation(self, method: str, address: str) -> str:
        path = address.partition("?")[0]
        found = [described for pattern, described in self.paths if pattern.fullmatch(path)]
        # The one with the fewest parameters: /batches/bulk/ is no batch with the id "bulk".
        described = min(found, key=lambda one: one.count("{"))
        return str(self.schema["paths"][described][method]["operationId"])

    def text(self) -> str:
        steady = json.dumps(self.steady(self.calls), indent=1, ensure_ascii=False, sort_keys=False)
        return steady.replace(SERVER, "https://batches.example.org") + "\n"

    def steady(self, value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            # A run can be too short for the clock.
            value = value | ({"run_seconds": 1.5 if value["started_at"] else 0.0} if "run_seconds" in value else {})
            return {key: self._number(value, key) or self.steady(inner, key) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.steady(inner, name) for inner in value]
        if isinstance(value, str):
            time = f"2026-06-01T08:{MINUTES.get(name, 8):02}:00Z"
            return CURSOR.sub("WyIyMDI2LTA2LTAxIl0", TIME.sub(time, ID.sub(self._id, value)))
        return MEASURED.get(name, value) if isinstance(value, float) and value else value

    def _number(self, row: dict[str, Any], key: str) -> int | None:
        """That of a row by which others are known: profiles, and what is told apart by its fields."""
        if key not in {"id", "profile"} or not isinstance(row[key], int):
            return None
        known = "profile" if key == "profile" or "last_checked_at" in row else ",".join(sorted(row))
        numbers = self.numbers.setdefault(known, {})
        return numbers.setdefault(row[key], len(numbers) + 1)

    def _id(self, found: re.Match[str]) -> str:
        number = len(self.ids) + 1
        return self.ids.setdefault(found[0], str(UUID(int=0x5EEDBA7C << 96 | 0x4000_8000 << 48 | number, version=4)))


def operation_path(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{\w+\}", "[^/]+", path))


def as_text(value: Any) -> Any:
    """A file as what is in it."""
    return value.getvalue().decode() if hasattr(value, "getvalue") else value
