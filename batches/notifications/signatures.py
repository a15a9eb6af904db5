"""Signatures of the Standard Webhooks specification, which receivers can verify with published libraries.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterable

from batches.models import SECRET_PREFIX


def sign(secrets: Iterable[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a message, with a signature by each secret. `timestamp`: of the attempt, in Unix seconds."""
    content = f"{message_id}.{timestamp}.".encode() + body
    keys = [b64decode(secret.removeprefix(SECRET_PREFIX)) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join("v1," + b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys),
    }
