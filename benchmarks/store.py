"""Stores each measurement as soon as it is made, so that an interrupted run continues where it stopped."""

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.commands import ROOT
from benchmarks.frame import Contest, Figures, Row, spread


class Store:
    """A JSON file, the source of the table, the picture and the documentation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.content: dict[str, Any] = {"machine": {}, "versions": {}, "rows": {}}
        if path.exists():
            self.content |= json.loads(path.read_text())

    def save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self.content, indent=1, ensure_ascii=False) + "\n")
        os.replace(new, self._path)

    def is_finished(self, row: Row, rounds: int) -> bool:
        record = self.content["rows"].get(row.name)
        is_whole = record and record["finished"] and not record["problem"]
        return bool(is_whole and len(record["rounds"]) >= rounds)

    def begin(self, row: Row) -> dict[str, Any]:
        """The record of a row: a new record, or the unfinished record of the same commit."""
        record = self.content["rows"].get(row.name)
        if not record or record["commit"] != current_commit():
            record = {"commit": current_commit(), "finished": None, "rounds": [], "problems": {}, "goals": []}
        self.content["rows"][row.name] = record | {"title": row.title, "problem": ""}
        return self.content["rows"][row.name]  # type: ignore[no-any-return]

    def forget(self, row: Row) -> None:
        self.content["rows"].pop(row.name, None)

    def add(self, record: dict[str, Any], number: int, contender: str, figures: Figures) -> None:
        while len(record["rounds"]) <= number:
            record["rounds"].append({})
        record["rounds"][number][contender] = figures
        self.save()

    def finish(self, record: dict[str, Any], contest: Contest) -> None:
        record["differs"] = contest.differs
        record["goals"] = [goal_record(goal, record["rounds"]) for goal in contest.goals]
        record["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        self.save()

    def fail(self, record: dict[str, Any], reason: str) -> None:
        """Note that the whole row cannot be measured here."""
        record["problem"] = reason
        self.save()


def goal_record(goal: Any, rounds: Any) -> dict[str, Any]:
    values = goal.values(rounds)
    record = {"text": goal.text, "bound": goal.bound, "at_most": goal.at_most, "is_ratio": bool(goal.against)}
    if not values:
        return record | {"reached": None}
    middle, lowest, highest = spread(values)
    return record | {"median": middle, "lowest": lowest, "highest": highest, "reached": goal.is_reached(middle)}


def contenders_of(row: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(name for figures in row["rounds"] for name in figures))


def figures_of(row: dict[str, Any], contender: str) -> dict[str, list[float]]:
    """The values of each figure over the rounds."""
    found: dict[str, list[float]] = {}
    for figures in row["rounds"]:
        for name, value in figures.get(contender, {}).items():
            found.setdefault(name, []).append(value)
    return found


def current_commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
