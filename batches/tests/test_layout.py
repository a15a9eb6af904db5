"""The layout holds: imports point down only, and only `batch_manager` writes the state of a batch."""

import ast
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.util import resolve_name
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent

# From the ground up. A part may import those of lower layers, never one of its own layer or of a higher one. A room, or
# a part of it that stands in another layer than the rest, is named from `batches` on: "checking", "checking.checkers".
LAYERS = (
    {"text", "limits"},
    {"conf"},
    {"lists"},
    {"checking.checkers", "demo"},
    {"models"},
    {"notifications"},
    {"queue"},
    {"batch_manager"},
    {"reports"},
    {"checking", "checks"},
    {"web"},
    {"admin", "api", "apps", "management"},
)
RANKS = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}

# `models` keeps the order of the queue, `queue` writes for the manager. A checker's `status` is that of an HTTP answer.
MAY_WRITE_STATE = {"batch_manager", "models", "queue", "checking.checkers"}
STATE = {"status", "position"}

WRITING_CALLS = {"Batch", "save", "update", "create", "get_or_create", "update_or_create", "bulk_update"}
NAMING_FIELDS = {None, "update_fields", "fields", "defaults", "create_defaults"}
SETS_STATE = re.compile(r"\bSET\s+(?:.*,\s*)?\"?(?:status|position)\"?\s*=", re.DOTALL)


def sources() -> Iterator[tuple[Path, str]]:
    """Each module of the package with its part."""
    for path in sorted(PACKAGE.rglob("*.py")):
        names = path.relative_to(PACKAGE).with_suffix("").parts
        if names[0] not in {"tests", "migrations"} and path.stat().st_size:
            yield path, part_of(names)


def part_of(names: Sequence[str]) -> str:
    """The part that a module belongs to: the longest beginning of its name that has a layer, or else its room."""
    beginnings = (".".join(names[:length]) for length in range(len(names), 0, -1))
    return next((beginning for beginning in beginnings if beginning in RANKS), names[0])


def package_of(path: Path) -> str:
    return ".".join((PACKAGE.name, *path.relative_to(PACKAGE).parent.parts))


def test_every_part_of_the_package_has_a_layer():
    unplaced = {part for _, part in sources()} - set(RANKS)
    assert not unplaced, f"Give these a layer in LAYERS: {', '.join(sorted(unplaced))}"


def test_imports_point_down_only():
    assert_none(
        f"{path.relative_to(PACKAGE.parent)}:{breach}"
        for path, part in sources()
        if part in RANKS
        for breach in import_breaches(path.read_text(), part, package_of(path))
    )


@pytest.mark.parametrize("room", sorted({path.parent for path, _ in sources()}), ids=lambda room: room.name)
def test_no_modules_of_a_room_import_each_other_in_a_circle(room):
    imports = {path.stem: modules_imported(path) for path in room.glob("*.py")}
    assert circle_in(imports) is None


def test_the_core_runs_without_rest_framework():
    assert_none(
        f"{path.relative_to(PACKAGE.parent)}: imports {name}"
        for path, part in sources()
        if RANKS[part] < RANKS["api"] and path != PACKAGE / "models" / "api.py"
        for node in ast.walk(ast.parse(path.read_text()))
        for name in imported_names(node, package_of(path))
        if name.startswith("rest_framework.")
    )


def test_only_the_manager_writes_a_batchs_state():
    assert_none(
        f"{path.relative_to(PACKAGE.parent)}:{breach}"
        for path, part in sources()
        if part not in MAY_WRITE_STATE
        for breach in state_writes(path.read_text())
    )


def modules_imported(path: Path) -> set[str]:
    """The names of what a module imports of its own room, also where that is only for type checking."""
    room = f"{package_of(path)}."
    nodes = ast.walk(ast.parse(path.read_text()))
    names = [name for node in nodes for name in imported_names(node, package_of(path)) if name.startswith(room)]
    return {name.removeprefix(room).partition(".")[0] for name in names}


def circle_in(imports: Mapping[str, Collection[str]]) -> list[str] | None:
    """Modules that depend on each other, sorted by name; None where there are none."""
    waiting = {module: set(needed) & imports.keys() - {"__init__"} for module, needed in imports.items()}
    while ready := [module for module, needed in waiting.items() if not needed]:
        waiting = {module: needed - set(ready) for module, needed in waiting.items() if module not in ready}
    return sorted(waiting) or None


def assert_none(breaches: Iterator[str]) -> None:
    found = list(breaches)
    assert not found, "\n".join(["", *found])


def import_breaches(source: str, part: str, package: str) -> list[str]:
    """What `source`, a module of this part and this package, must not import: "line: reason"."""
    return [
        f"{node.lineno}: {reason}"
        for node in ast.walk(ast.parse(source))
        for name in imported_names(node, package)
        if (reason := objection(name, part))
    ]


def imported_names(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        module = resolve_name("." * node.level + (node.module or ""), package)
        return [f"{module}.{alias.name}" for alias in node.names]
    return []


def objection(name: str, part: str) -> str | None:
    top, _, rest = name.partition(".")
    imported = part_of(rest.split("."))
    if top == "batchproject":
        return f"{part} imports {name}: the app knows nothing of the project around it"
    if (top, imported) == ("django", "db") and RANKS[part] < RANKS["models"]:
        return f"{part} imports {name}: what stands below the models knows nothing of the database"
    if top != PACKAGE.name or imported in {"", part}:
        return None
    if imported not in RANKS or RANKS[imported] >= RANKS[part]:
        return f"{part} imports {name}: imports point down only"
    return None


def state_writes(source: str) -> list[str]:
    """Where `source` writes a batch's status or position: "line: what it does"."""
    return [f"{node.lineno}: {what}" for node in ast.walk(ast.parse(source)) if (what := state_write(node))]


def state_write(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load) and node.attr in STATE:
        return f"assigns to .{node.attr}: only batch_manager does"
    if isinstance(node, ast.Call) and (fields := STATE & fields_written(node)):
        return f"writes {', '.join(sorted(fields))}: only batch_manager does"
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and SETS_STATE.search(node.value):
        return "writes state in SQL: only batch_manager does, through `queue`"
    return None


def fields_written(call: ast.Call) -> set[str]:
    name = called_name(call)
    if name == "setattr":
        return constants(call.args[1:2])
    if name not in WRITING_CALLS:
        return set()
    naming = [keyword.value for keyword in call.keywords if keyword.arg in NAMING_FIELDS]
    if name == "bulk_update":
        naming += call.args[1:]
    return constants(naming) | {keyword.arg for keyword in call.keywords if keyword.arg}


def called_name(call: ast.Call) -> str:
    """The asynchronous twins (`aupdate`, `asave`) go by the same name."""
    name = getattr(call.func, "attr", None) or getattr(call.func, "id", "")
    return name[1:] if name[1:] in WRITING_CALLS else name


def constants(nodes: list[ast.expr]) -> set[str]:
    return {
        inner.value
        for node in nodes
        for inner in ast.walk(node)
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
    }


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("queue.runs", "from ..batch_manager import BatchManager"),
        ("queue.runs", "from .. import batch_manager"),
        ("reports.queries", "import batches.checking.worker"),
        ("models", "from batches import batch_manager"),
        ("models", "from .batch_manager import BatchManager"),
        ("models", "class Batch:\n    from .batch_manager import BatchManager"),
        ("models.batches", "def save():\n    from batches.batch_manager import BatchManager"),
        ("checking.checkers.feed", "from ...models import Profile"),
        ("checking.checkers.feed", "def check():\n    from batches.models import Profile"),
        ("lists.opml", "if TYPE_CHECKING:\n    from ..models import Profile"),
        ("conf", "from django.db import models"),
        ("admin.queue", "from ..api.serializers import BatchSerializer"),
        ("management.output", "from batches.admin import queue"),
        ("api.views", "from ..management.commands import batch"),
        ("checking.worker", "from batchproject import settings"),
        ("checking.worker", "from ..no_such_part import x"),
    ],
)
def test_an_import_that_does_not_point_down_is_found(module, source):
    assert len(breaches_of(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("reports.queries", "from ..models import Batch"),
        ("checking.checkers.feed", "from .base import Checker\nfrom ...conf import Config\nimport aiohttp"),
        (
            "admin.queue",
            "from ..batch_manager import BatchManager\nfrom batches.reports import queries\nfrom . import base",
        ),
        ("api.views", "from batches.api.errors import Conflict\nfrom django.db import transaction"),
    ],
)
def test_an_import_that_points_down_is_allowed(module, source):
    assert breaches_of(module, source) == []


def breaches_of(module, source):
    names = module.split(".")
    return import_breaches(source, part_of(names), ".".join((PACKAGE.name, *names[:-1])))


@pytest.mark.parametrize(
    ("imports", "circle"),
    [
        ({"a": {"b", "c"}, "b": {"c"}, "c": set()}, None),
        ({"a": {"b"}, "b": {"models"}}, None),
        ({"a": {"b"}, "b": {"a"}, "c": set()}, ["a", "b"]),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}}, ["a", "b", "c"]),
    ],
)
def test_a_circle_of_imports_is_found(imports, circle):
    assert circle_in(imports) == circle


@pytest.mark.parametrize(
    "source",
    [
        "batch.status = Status.DONE",
        "batch.position += 1",
        "batch.position: int = 1",
        "name, batch.status = row",
        "del batch.position",
        "for batch.position in range(3): pass",
        "setattr(batch, 'status', 'done')",
        "Batch.objects.filter(pk=1).update(status='done')",
        "await batches.aupdate(position=None)",
        "batches.update(**{'status': 'done'})",
        "batch.save(update_fields=['name', 'status'])",
        "Batch.objects.bulk_update(batches, ['position'])",
        "Batch.objects.create(name='a', status='done')",
        "Batch.objects.update_or_create(pk=1, defaults={'status': 'done'})",
        "Batch(name='a', position=1)",
        "serializer.save(status='done')",
        "cursor.execute('UPDATE batch SET error = %s, status = %s')",
        "cursor.execute(f'UPDATE {table} SET \"position\" = 0')",
    ],
)
def test_a_write_of_state_is_found(source):
    assert len(state_writes(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "status = batch.status",
        "Batch.objects.filter(status='done', position=None).update(name='a')",
        "batch.save(update_fields=['name'])",
        "Batch.objects.create(name='a')",
        "list_display = ['status', 'position']",
        "Response(status=404)",
        "cursor.execute(\"UPDATE row SET error = '' WHERE status = 'pending'\")",
    ],
)
def test_a_read_of_state_is_allowed(source):
    assert state_writes(source) == []
