"""Keys that give access: each is shown once, and only its hash is stored."""

import secrets
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from typing import ClassVar

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from batches.limits import MAX_FINGERPRINT

from .connections import DATABASE_FAULTS

#: The prefix of API keys, by which people and scanners recognise them.
KEY_PREFIX = "batches_"
#: A key's first characters identify it without giving access.
SHOWN_KEY = len(KEY_PREFIX) + 4


class Key(models.Model):
    """The fields of API tokens and of feeds."""

    prefix: ClassVar[str] = KEY_PREFIX

    #: A key has 256 random bits, so it needs no slow hash.
    digest = models.CharField(max_length=MAX_FINGERPRINT, unique=True, editable=False)
    begins_with = models.CharField(_("token"), max_length=SHOWN_KEY, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    #: Written at most once a minute, so that most reads write nothing.
    last_used_at = models.DateTimeField(_("last used"), null=True, editable=False)

    class Meta:
        abstract = True

    def new_key(self) -> str:
        """Create and return its key. This is the only time that anybody sees it."""
        key = self.prefix + secrets.token_urlsafe(32)
        self.digest, self.begins_with = digest_of(key), key[:SHOWN_KEY]
        return key

    def note_use(self) -> None:
        """Note its use, at most once a minute. On SQLite, even an empty transaction waits for writers."""
        if self.last_used_at is not None and self.last_used_at > timezone.now() - timedelta(minutes=1):
            return
        with suppress(*DATABASE_FAULTS), transaction.atomic():  # reading must not fail because of it
            type(self)._default_manager.filter(pk=self.pk).update(last_used_at=timezone.now())


def digest_of(key: str) -> str:
    return sha256(key.encode(errors="replace")).hexdigest()
