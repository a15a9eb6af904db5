"""Signatures of the Standard Webhooks specification, which receivers can verify with published libraries.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode

from batches.models import SECRET_PREFIX


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature for the header `webhook-signature`. `timestamp` is the time of the attempt, in Unix seconds."""
    key = b64decode(secret.removeprefix(SECRET_PREFIX))
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + b64encode(hmac.digest(key, content, "sha256")).decode()
