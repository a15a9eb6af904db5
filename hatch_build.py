"""What the package needs: requirements.txt and the requirements-*.txt of its extras, which stay the only lists."""

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

EXTRAS = ("celery", "apprise", "allauth")
#: The lists are those of the project in this repository: on Django's LTS, with PostgreSQL's driver. An existing project
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
