"""The parts of the package that git has in another form.

Its requirements are in requirements.txt and the requirements-*.txt of its extras, which stay the only lists. Its
translations are compiled.
"""

from pathlib import Path
from typing import Any

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

EXTRAS = ("celery", "apprise", "allauth")
#: The lists are for the project in this repository: on Django's LTS, with PostgreSQL's driver. An existing project
#: may have another of the versions in tox.ini, and its own driver.
TESTED_DJANGO = "django>=5.2.19,<6.2"


class Requirements(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        needed = self.read("requirements.txt")
        drivers = [line for line in needed if line.startswith("psycopg")]
        metadata["dependencies"] = [
            TESTED_DJANGO if line.startswith("django>") else line for line in needed if line not in drivers
        ]
        metadata["optional-dependencies"] = {
            "postgres": drivers,
            **{extra: self.read(f"requirements-{extra}.txt") for extra in EXTRAS},
        }

    def read(self, name: str) -> list[str]:
        lines = (Path(self.root) / name).read_text().splitlines()
        return [line for line in lines if line and not line.startswith(("#", "-r "))]


class Translations(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        for catalogue in Path(self.root).glob("batches/locale/*/LC_MESSAGES/*.po"):
            compile_catalogue(catalogue)
        build_data["artifacts"].append("/batches/locale/**/*.mo")


def compile_catalogue(path: Path) -> None:
    with path.open("rb") as source, path.with_suffix(".mo").open("wb") as compiled:
        write_mo(compiled, read_po(source))
