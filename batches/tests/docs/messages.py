"""The messages of the code, in which `…` stands for the parts that differ."""

import ast
import re
from collections.abc import Iterator
from functools import cache

from batches.tests.support.documents import ROOT

#: Functions whose calls have messages for operators.
LOGGED = {"logger.warning", "logger.error", "logger.exception"}
ENDINGS = {"CommandError", "ImproperlyConfigured"}
REASONS = {"FetchError", "Unreachable", "NoConnection", "Unreadable", "CheckResult", "TimeoutError", "PermissionError"}


def text_of(node: ast.AST) -> str:
    """The text of an expression; "" if it is not one."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[.\d]*[a-z]", "…", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


#: The advice in a message: these words, or a sentence from another place.
VERBS = "Activate|Check|Choose|Create|Delete|Enter|Give|Name|Rename|Run|See|Set|Show|Start|Use"
ADVICE = re.compile(rf"\b({VERBS})\b|\. …$")


@cache
def parse_all() -> dict[str, ast.Module]:
    paths = [path for folder in ("batches", "batchproject") for path in (ROOT / folder).rglob("*.py")]
    names = {str(path.relative_to(ROOT)): path for path in paths}
    return {name: ast.parse(path.read_text()) for name, path in names.items() if "/tests/" not in name}


def find_calls(folder: str, names: set[str]) -> Iterator[str]:
    """The texts among the arguments of calls of functions with these names in modules of the folder."""
    for path, tree in parse_all().items():
        for node in ast.walk(tree) if path.startswith(folder) else ():
            if isinstance(node, ast.Call) and name_of(node.func) in names:
                values = [*node.args, *(keyword.value for keyword in node.keywords)]
                yield next((text for value in values if (text := text_of(value))), "")


def name_of(function: ast.AST) -> str:
    if isinstance(function, ast.Attribute):
        return f"{name_of(function.value)}.{function.attr}"
    return function.id if isinstance(function, ast.Name) else ""


def logged_messages() -> set[str]:
    return set(filter(None, find_calls("batch", LOGGED)))


def endings_without_advice() -> set[str]:
    """The messages of commands that cannot start or continue, without those that say what to do."""
    return {text for text in find_calls("batch", ENDINGS) if text and not ADVICE.search(text)}


def reasons_of_failures() -> set[str]:
    return set(filter(None, find_calls("batches/checking", REASONS)))


def findings_of_the_doctor() -> set[str]:
    return set(filter(None, find_calls("batches/reports/doctor", {"Finding"})))


def ids_of_system_checks() -> set[str]:
    return {
        node.value
        for tree in parse_all().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and re.fullmatch(r"batches\.[EW]\d+", str(node.value))
    }


def variables_read(tree: ast.AST) -> set[str]:
    """The environment variables that a module reads: `read_number("EMAIL_PORT", 25)`, `os.environ.get("PORT")`."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    names = {text_of(call.args[0]) for call in calls if re.match(r"read_|os\.environ", ast.unparse(call.func))}
    return {name for name in names if re.fullmatch("[A-Z_]+", name)}
