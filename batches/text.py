"""Text that both databases can store."""

import re

# PostgreSQL refuses NUL in text, and neither database can encode a lone surrogate.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean_text(value: object, limit: int) -> str:
    """`value` as text without NUL and lone surrogates, cut at `limit` characters."""
    return UNSTORABLE.sub("", str(value)[: limit * 2])[:limit]
