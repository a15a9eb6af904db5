"""Signatures, compared with fixed vectors and verified with the published library."""

from base64 import b64decode

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
