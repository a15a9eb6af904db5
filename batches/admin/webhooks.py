"""Webhooks in the admin, and the log of all deliveries."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from batches.limits import MAX_BULK
from batches.lists.addresses import InvalidAddress
from batches.models import Subscription, Webhook, WebhookDelivery
from batches.models.webhooks import WebhookDeliveryQuerySet
from batches.notifications import outbox
from batches.queue.values import as_uuid
from batches.reports.forecast import forecast_queue
from batches.text import choose_plural

from . import display
from .actions import get_manager
from .base import ReadOnlyAdmin
from .filters import BatchFilter, ValueFilter
from .forms import EditForm, Name
from .page_with_buttons import PageWithButtons
from .queue_content import describe_missing_worker
from .stored import stored

State = WebhookDelivery.State

STATE = display.column("state", gettext_lazy("state"), lambda state: str(State(state).label))


class WebhookForm(EditForm):
    class Meta:
        field_classes = {"name": Name}

    def clean_url(self) -> str:
        try:
            return outbox.normalise_webhook_url(self.cleaned_data["url"])
        except InvalidAddress as error:
            raise ValidationError(str(error)) from error


@admin.register(Webhook)
class WebhookAdmin(PageWithButtons):
    about = gettext_lazy("A webhook sends the events of the queue to your address.")
    form = WebhookForm
    list_display = ("__str__", "url", "is_active", display.CREATED, "deliveries")
    list_filter = ("is_active",)
    search_fields = ("name", "url")
    search_help_text = gettext_lazy("Name or address")
    ordering = ("name", "url")
    actions = ("send_test_events",)
    readonly_fields = ("current_secret", display.CREATED, "deliveries")  # type: ignore[assignment]

    def buttons(self, row: Webhook) -> dict[str, str]:
        test = {"send_test_events": _("Send test event")} if row.is_active else {}
        return test | {"rotate_secret": _("Rotate secret")}

    # The page

    def get_fields(self, request: HttpRequest, obj: Webhook | None = None) -> Any:
        fields = ["name", "url", "is_active", "every_batch"]
        if obj is None:
            return fields
        # Anyone with the secret can sign messages as we do.
        secret = ["current_secret"] if self.has_operate_permission(request) else []
        return [*fields, *secret, display.CREATED, "deliveries"]

    @admin.display(description=gettext_lazy("secret"))
    def current_secret(self, webhook: Webhook) -> str:
        secret, *previous = outbox.signing_secrets(webhook)
        if not previous or webhook.previous_secret_until is None:
            return format_html("<code>{}</code>", secret)
        until = display.moment(webhook.previous_secret_until)
        sentence = _("{secret} (the previous secret also signs until {time})")
        return format_html(sentence, secret=format_html("<code>{}</code>", secret), time=until)

    @admin.display(description=gettext_lazy("deliveries"))
    def deliveries(self, webhook: Any) -> str:
        return self.list_link(webhook.request, _("deliveries"), WebhookDelivery, webhook__id__exact=webhook.pk)

    def save_model(self, request: HttpRequest, obj: Webhook, form: Any, change: bool) -> None:
        # Save only the edited fields: another user may change others, or rotate the secret, at the same time.
        obj.save(update_fields=form.changed_data if change else None)

    def response_post_save_add(self, request: HttpRequest, obj: Webhook) -> HttpResponseRedirect:
        """Redirect to its page, which has the secret."""
        if self.has_operate_permission(request):
            return redirect(self.address_of("webhook_change", obj.pk))
        return super().response_post_save_add(request, obj)

    # Actions

    @admin.action(permissions=["operate"], description=gettext_lazy("Send test event"))
    def send_test_events(self, request: HttpRequest, webhooks: Iterable[Webhook]) -> None:
        for webhook in webhooks:
            if outbox.write_test_event(webhook):
                self.log_change(request, webhook, "Sent a test event.")
                created, (level, when) = _("A test event for “%(webhook)s” was created."), describe_sending()
                self.message_user(request, f"{created % {'webhook': webhook}} {when}", level)
            else:
                inactive = _("“%(webhook)s” is not active. Activate it before you send a test event.")
                self.message_user(request, inactive % {"webhook": webhook}, messages.WARNING)

    def rotate_secret(self, request: HttpRequest, webhooks: Iterable[Webhook]) -> None:
        [webhook] = webhooks
        outbox.rotate_secret(webhook)
        self.log_change(request, webhook, "Rotated the secret.")
        hours = f"{outbox.ROTATION.total_seconds() / 3600:g}"
        sentence = _("“%(webhook)s” has a new secret. The previous secret signs for %(hours)s more hours.")
        self.message_user(request, sentence % {"webhook": webhook, "hours": hours}, messages.SUCCESS)

    # Deleting

    def delete_model(self, request: HttpRequest, obj: Webhook) -> None:
        get_manager(request).delete_webhooks([obj.pk])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        get_manager(request).delete_webhooks(queryset.values_list("pk", flat=True))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Names and counts for the confirmation page. Django's default would load every delivery."""
        deliveries = WebhookDelivery.objects.filter(webhook__in=objs).count()
        subscriptions = Subscription.objects.filter(webhook__in=objs).count()
        counts = {_("webhooks"): len(objs), _("deliveries"): display.number(deliveries)}
        counts |= {_("subscriptions"): display.number(subscriptions)} if subscriptions else {}
        return [str(webhook) for webhook in objs], counts, set(), []


def describe_sending() -> tuple[int, str]:
    """When a delivery that was just stored is sent: the level of the message, and a sentence."""
    if missing := describe_missing_worker(forecast_queue()):
        return messages.WARNING, _("It waits for a worker: %(reason)s.") % {"reason": missing}
    return messages.SUCCESS, _("The worker sends it within seconds. See its deliveries for the result.")


class SubscriptionFilter(ValueFilter):
    """The deliveries of one subscription, which its page links to: `?subscription=<id>`."""

    title = gettext_lazy("subscription")
    parameter_name = "subscription"

    def filter_by(self, rows: QuerySet[WebhookDelivery], value: str) -> QuerySet[WebhookDelivery]:
        return rows.filter(subscription=pk) if (pk := as_uuid(value)) else rows.none()


class StateFilter(ValueFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, str(label)) for value, label in State.choices]

    def filter_by(self, rows: Any, value: str) -> Any:
        return getattr(rows, value)() if value in State.values else rows.none()


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(PageWithButtons, ReadOnlyAdmin):
    about = gettext_lazy("Each message to a webhook or a subscriber appears here.")
    list_display = (
        display.AT,
        "type",
        "receiver_link",
        STATE,
        "last_response",
        "next_attempt",
        "attempts",
        "batch_link",
    )
    list_select_related = ("webhook", "batch", "subscription__list")
    list_filter = (StateFilter, "type", "webhook", SubscriptionFilter, BatchFilter)
    search_fields = ("event_id", "webhook__name", "webhook__url", "error")
    search_help_text = gettext_lazy("Event ID, webhook or error")
    actions = ("reschedule_all",)
    fields = (  # type: ignore[assignment]
        "type",
        STATE,
        "receiver_link",
        "batch",
        "created_at",
        "attempts",
        "last_response",
        "next_attempt",
        "delivered_at",
        "event_id",
        "payload_sent",
    )
    readonly_fields = (STATE, "receiver_link", "last_response", "next_attempt", "payload_sent")  # type: ignore[assignment]

    def buttons(self, row: WebhookDelivery) -> dict[str, str]:
        return {"reschedule_all": _("Deliver again")} if row.state == State.FAILED else {}

    @admin.display(description=gettext_lazy("receiver"))
    def receiver_link(self, delivery: Any) -> str:
        return self.page_link(delivery.request, delivery.receiver)

    @admin.display(description=gettext_lazy("last response"))
    def last_response(self, delivery: WebhookDelivery) -> str:
        return stored(delivery.error) or (str(delivery.http_status) if delivery.http_status else display.NOTHING)

    @admin.display(description=gettext_lazy("next attempt"))
    def next_attempt(self, delivery: WebhookDelivery) -> str:
        if delivery.next_attempt_at and not delivery.is_open:
            return _("when the receiver is active again")
        return display.moment(delivery.next_attempt_at)

    @admin.display(description=gettext_lazy("payload"))
    def payload_sent(self, delivery: WebhookDelivery) -> str:
        return format_html('<code class="webhook-payload">{}</code>', delivery.payload)

    @admin.action(permissions=["operate"], description=gettext_lazy("Deliver again"))
    def reschedule_all(self, request: HttpRequest, deliveries: WebhookDeliveryQuerySet) -> None:
        selected, failed = deliveries.count(), deliveries.failed().defer("payload")[:MAX_BULK]
        rescheduled = [delivery for delivery in failed if outbox.reschedule(delivery)]
        for delivery in rescheduled:
            self.log_change(request, delivery, "Rescheduled the delivery.")
        if rescheduled:
            done = choose_plural(
                "%(count)s delivery rescheduled.", "%(count)s deliveries rescheduled.", count=len(rescheduled)
            )
            self.message_user(request, done, messages.SUCCESS)
        if skipped := selected - len(rescheduled):
            left = choose_plural(
                "%(count)s delivery skipped. Only failed deliveries can be rescheduled, at most %(most)s at a time.",
                "%(count)s deliveries skipped. Only failed deliveries can be rescheduled, at most %(most)s at a time.",
                count=skipped,
                most=MAX_BULK,
            )
            self.message_user(request, left, messages.WARNING)
