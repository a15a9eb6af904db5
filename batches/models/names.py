"""Names of models and fields that Django would derive from the code, for pages in another language.

They are here because a name at the field would need a migration. A name that differs from the attribute is at the
field.
"""

from collections.abc import Iterable

from django.db.models import Model
from django.utils.translation import gettext_lazy as _

#: The names of the models: singular and plural.
MODELS = {
    "attempt": (_("earlier check"), _("earlier checks")),
    "accesstoken": (_("API token"), _("API tokens")),
    "batch": (_("batch"), _("batches")),
    "batchprofile": (_("batch profile"), _("batch profiles")),
    "host": (_("host"), _("hosts")),
    "listfeed": (_("feed"), _("feeds")),
    "profile": (_("profile"), _("profiles")),
    "profilelist": (_("list"), _("lists")),
    "redirect": (_("permanent redirect"), _("permanent redirects")),
    "subscription": (_("subscription"), _("subscriptions")),
    "webhook": (_("webhook"), _("webhooks")),
}

FIELDS = {
    "action": _("action"),
    "actor": _("actor"),
    "address": _("address"),
    "after_failures": _("after failures"),
    "attempts": _("attempts"),
    "batch": _("batch"),
    "channel": _("channel"),
    "checker": _("checker"),
    "checks": _("checks"),
    "count_first": _("count first"),
    "digest_hour": _("digest hour"),
    "error": _("error"),
    "every_batch": _("every batch"),
    "failed_percent": _("failed percent"),
    "failing_since": _("failing since"),
    "failures": _("failures"),
    "fingerprint": _("fingerprint"),
    "from_position": _("from position"),
    "from_status": _("from status"),
    "last_error": _("last error"),
    "interval": _("interval"),
    "list": _("list"),
    "message": _("message"),
    "minutes": _("minutes"),
    "name": _("name"),
    "not_before": _("not before"),
    "payload": _("payload"),
    "position": _("position"),
    "previous": _("previous"),
    "priority": _("priority"),
    "profile": _("profile"),
    "refusals": _("refusals"),
    "run_seconds": _("run seconds"),
    "schedule": _("schedule"),
    "scope": _("scope"),
    "status": _("status"),
    "story_id": _("story id"),
    "subscription": _("subscription"),
    "takeovers": _("takeovers"),
    "time_zone": _("time zone"),
    "title": _("title"),
    "to_position": _("to position"),
    "to_status": _("to status"),
    "topics": _("topics"),
    "type": _("type"),
    "user": _("user"),
    "webhook": _("webhook"),
    "worker": _("worker"),
}


def name_models(models: Iterable[type[Model]]) -> None:
    for model in models:
        options = model._meta
        if options.model_name in MODELS:
            options.verbose_name, options.verbose_name_plural = MODELS[options.model_name]
        for field in options.local_fields:
            name = field.name.replace("_", " ")
            if field.verbose_name == name and field.name in FIELDS:
                field.verbose_name = FIELDS[field.name]
