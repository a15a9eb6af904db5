"""The layout: imports point down only, never in a circle, and only the core writes the state of a batch."""

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent

# From the bottom up. A part imports from lower layers only, never from its own layer or a higher one. A part is a
# package ("checking"), or a package or module within one that has its own layer ("checking.checkers").
LAYERS = (
    {"__init__", "__version__"},
    {"text", "limits", "encodings", "metrics", "log_context"},
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
    {"templatetags"},
)
RANKS = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}

# `models` keeps the order of the queue, `queue` writes for the manager. A checker's `status` is an HTTP status.
MAY_WRITE_STATE = {"batch_manager", "models", "queue", "checking.checkers"}
STATE = {"status", "position"}

#: Lines of a module, so that it is read in one sitting.
MOST_LINES = 500
FEWER_LINES = {"batch_manager.py": 450, "api/schema.py": 250}

WRITING_CALLS = {"Batch", "save", "update", "create", "get_or_create", "update_or_create", "bulk_update", "setattr"}
SETS_STATE = re.compile(r"\bSET\s+(?:.*,\s*)?\"?(?:status|position)\"?\s*=", re.DOTALL)


def sources() -> Iterator[tuple[Path, str]]:
    """Each module of the app with its part."""
    for path in sorted(PACKAGE.rglob("*.py")):
        names = path.relative_to(PACKAGE).with_suffix("").parts
        if names[0] not in {"tests", "migrations"} and path.stat().st_size:
            yield path, part_of(names)


def part_of(names: Sequence[str]) -> str:
    """The part that a module belongs to: the longest prefix of its name that has a layer, or else its package."""
    prefixes = (".".join(names[:length]) for length in range(len(names), 0, -1))
    return next((prefix for prefix in prefixes if prefix in RANKS), names[0])


def package_of(path: Path) -> str:
    return ".".join((PACKAGE.name, *path.relative_to(PACKAGE).parent.parts))


def test_every_part_of_the_package_has_a_layer():
    missing = {part for _, part in sources()} - set(RANKS)
    assert not missing, f"Add these to LAYERS: {', '.join(sorted(missing))}"


def test_imports_point_down_only():
    assert find_breaches(lambda path, part: import_breaches(path.read_text(), part, package_of(path))) == []


@pytest.mark.parametrize("package", sorted({path.parent for path, _ in sources()}), ids=lambda package: package.name)
def test_the_modules_of_a_package_do_not_import_each_other_in_a_circle(package):
    modules = {path.stem: path for path in package.glob("*.py") if path.stem != "__init__"}
    imports = {name: modules_imported(path) & modules.keys() for name, path in modules.items()}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


def test_the_core_runs_without_rest_framework():
    core = [path for path, part in sources() if RANKS[part] < RANKS["api"] and path != PACKAGE / "models" / "api.py"]
    assert [path for path in core if any(name.startswith("rest_framework.") for name in names_imported(path))] == []


def test_each_module_is_read_in_one_sitting():
    lengths = {path.relative_to(PACKAGE).as_posix(): len(path.read_text().splitlines()) for path, _ in sources()}
    assert {name: lines for name, lines in lengths.items() if lines > FEWER_LINES.get(name, MOST_LINES)} == {}


def test_only_the_manager_writes_a_batchs_state():
    assert find_breaches(lambda path, part: [] if part in MAY_WRITE_STATE else state_writes(path.read_text())) == []


def find_breaches(check: Callable[[Path, str], list[str]]) -> list[str]:
    """What the check of a module and its part has found: "path:line: reason"."""
    return [f"{path.relative_to(PACKAGE.parent)}:{breach}" for path, part in sources() for breach in check(path, part)]


def names_imported(path: Path) -> list[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return [name for node in nodes for name in imported_names(node, package_of(path))]


def modules_imported(path: Path) -> set[str]:
    """The modules that this one imports from its own package, for type checking too."""
    package = f"{package_of(path)}."
    names = [name for name in names_imported(path) if name.startswith(package)]
    return {name.removeprefix(package).partition(".")[0] for name in names}


def import_breaches(source: str, part: str, package: str) -> list[str]:
    """The forbidden imports of `source`, a module of this part and this package: "line: reason"."""
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
        return f"{part} imports {name}: the app must not depend on the project"
    if (top, imported) == ("django", "db") and RANKS[part] < RANKS["models"]:
        return f"{part} imports {name}: only the models and the layers above them use the database"
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
    """The asynchronous twins (`aupdate`, `asave`) go by the same name."""
    name = getattr(call.func, "attr", None) or getattr(call.func, "id", "")
    if not {name, name[1:]} & WRITING_CALLS:
        return set()
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    texts = {inner.value for value in values for inner in ast.walk(value) if isinstance(inner, ast.Constant)}
    return STATE & (texts | {keyword.arg for keyword in call.keywords})


@pytest.mark.parametrize(
    ("module", "source", "is_allowed"),
    [
        ("reports.queries", "from ..models import Batch", True),
        ("checking.checkers.feed", "from .base import Checker\nfrom ...conf import Config\nimport aiohttp", True),
        ("api.views", "from django.db import transaction", True),
        ("queue.leases", "from .. import batch_manager", False),
        ("models.batches", "def save():\n    from batches.batch_manager import BatchManager", False),
        ("reports.queries", "import batches.checking.worker", False),
        ("checking.checkers.feed", "from ...models import Profile", False),
        ("lists.opml", "if TYPE_CHECKING:\n    from ..models import Profile", False),
        ("conf", "from django.db import models", False),
        ("admin.queue", "from ..api.serializers import BatchSerializer", False),
        ("checking.worker", "from batchproject import settings", False),
        ("checking.worker", "from ..no_such_part import x", False),
    ],
)
def test_imports_that_point_up_or_sideways_are_found(module, source, is_allowed):
    names = module.split(".")
    breaches = import_breaches(source, part_of(names), ".".join((PACKAGE.name, *names[:-1])))
    assert len(breaches) == (0 if is_allowed else 1)


WRITES = (
    "batch.status = Status.DONE",
    "batch.position += 1",
    "setattr(batch, 'status', 'done')",
    "await batches.aupdate(position=None)",
    "batches.update(**{'status': 'done'})",
    "batch.save(update_fields=['name', 'status'])",
    "Batch.objects.bulk_update(batches, ['position'])",
    "Batch.objects.update_or_create(pk=1, defaults={'status': 'done'})",
    "Batch(name='a', position=1)",
    "cursor.execute('UPDATE batch SET error = %s, status = %s')",
    "cursor.execute(f'UPDATE {table} SET \"position\" = 0')",
)
READS = (
    "status = batch.status",
    "Batch.objects.filter(status='done', position=None).update(name='a')",
    "batch.save(update_fields=['name'])",
    "Response(status=404)",
    "cursor.execute(\"UPDATE row SET error = '' WHERE status = 'pending'\")",
)


@pytest.mark.parametrize("source", WRITES + READS)
def test_each_write_of_state_is_found_and_no_read(source):
    assert len(state_writes(source)) == (source in WRITES)
