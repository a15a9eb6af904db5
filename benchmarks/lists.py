"""Lists of addresses in files."""

from collections.abc import Iterator
from pathlib import Path

HOSTS = 5_000


def addresses(count: int, mark: object = 0) -> Iterator[str]:
    """Distinct addresses at 5,000 hosts; another mark gives other addresses."""
    return (f"http://host{number % HOSTS}.example/{mark}/{number}" for number in range(count))


def write_list(file: Path, urls: Iterator[str] | list[str]) -> Path:
    file.write_text("".join(f"{url}\n" for url in urls))
    return file
