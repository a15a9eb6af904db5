"""A message is signed so that any receiver can verify it: checked with fixed vectors and with the published library."""

import hashlib
import hmac
import time
from base64 import b64decode, b64encode

import pytest
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from batches.models import new_secret
from batches.notifications.courier import build_headers
from batches.notifications.outbox import ClaimedDelivery
from batches.notifications.signatures import sign

# The vector that the published libraries are tested with; OpenSSL makes the same of it.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
BODY = b'{"test": 2432232314}'


def test_a_known_message_has_its_known_signature():
    assert sign(SECRET, MESSAGE_ID, 1614265330, BODY) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("body", [b"", b"{}", "“ü”".encode(), b"a.b.c", b"x" * 100_000])
def test_the_signature_is_hmac_sha256_of_id_time_and_body(body):
    secret = new_secret()
    key = b64decode(secret.removeprefix("whsec_"))
    expected = hmac.new(key, b".".join([b"an-id", b"1700000000", body]), hashlib.sha256).digest()
    assert sign(secret, "an-id", 1_700_000_000, body) == f"v1,{b64encode(expected).decode()}"


def test_each_secret_is_another_and_has_256_bits():
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {len(b64decode(secret.removeprefix("whsec_"), validate=True)) for secret in secrets} == {32}


def test_while_a_secret_is_replaced_receivers_with_either_can_verify():
    old, new = new_secret(), new_secret()
    headers = signed(new, old)
    for secret in (old, new):
        assert Verifier(secret).verify(BODY, headers) == {"test": 2432232314}
    with pytest.raises(WebhookVerificationError):
        Verifier(new_secret()).verify(BODY, headers)


@pytest.mark.parametrize(
    "change", [{"webhook-id": "another"}, {"webhook-timestamp": "1"}, {"webhook-signature": "v1,AAAA"}], ids=str
)
def test_what_is_signed_cannot_be_changed(change):
    secret = new_secret()
    with pytest.raises(WebhookVerificationError):
        Verifier(secret).verify(BODY, signed(secret) | change)


def signed(*secrets):
    claim = ClaimedDelivery(
        1, 1, "a webhook", "https://example.org/", secrets, MESSAGE_ID, "webhook.test", BODY.decode(), 1
    )
    return build_headers(claim, BODY, int(time.time()))
