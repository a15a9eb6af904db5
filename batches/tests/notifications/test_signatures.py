"""Signatures, compared with fixed vectors and verified with the published library."""

import time
from base64 import b64decode

import pytest
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from batches.models import new_secret
from batches.notifications.signatures import sign

# A test vector of the published libraries. OpenSSL computes the same signature.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
BODY = b'{"test": 2432232314}'


def test_a_known_message_has_its_known_signature():
    headers = sign([SECRET], MESSAGE_ID, 1614265330, BODY)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_secrets_are_random_and_have_256_bits():
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {len(b64decode(secret.removeprefix("whsec_"), validate=True)) for secret in secrets} == {32}


def test_receivers_with_either_secret_can_verify_during_a_rotation():
    old, new = new_secret(), new_secret()
    headers = signed(new, old)
    for secret in (old, new):
        assert Verifier(secret).verify(BODY, headers) == {"test": 2432232314}
    with pytest.raises(WebhookVerificationError):
        Verifier(new_secret()).verify(BODY, headers)


@pytest.mark.parametrize(
    "change", [{"webhook-id": "another"}, {"webhook-timestamp": "1"}, {"webhook-signature": "v1,AAAA"}], ids=str
)
def test_a_changed_message_cannot_be_verified(change):
    secret = new_secret()
    with pytest.raises(WebhookVerificationError):
        Verifier(secret).verify(BODY, signed(secret) | change)


def signed(*secrets):
    return sign(secrets, MESSAGE_ID, int(time.time()), BODY)
