"""Subscriptions in the admin: who is notified about a list. Needs the permission to change lists."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import widgets
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from batches.conf import get_config
from batches.limits import MAX_DELAY, MAX_FAILURES, MAX_URL
from batches.models import ProfileList, Subscription, WebhookDelivery
from batches.queue.refusals import Refusal, require_granted
from batches.queue.values import as_uuid
from batches.text import Sentence, StrOrPromise

from . import display
from .actions import get_manager
from .base import RefusableAdmin
from .filters import ListFilter
from .forms import EditForm
from .page_with_buttons import PageWithButtons
from .webhooks import describe_sending

Topic = Subscription.Topic

#: The fields that can be changed later.
VALUES = ("topics", "after_failures", "failed_percent", "minutes", "digest_hour", "is_active")

ADDRESS = display.column("shown_address", gettext_lazy("address"), str)

#: The fields without a meaning for the queue, and for a list.
UNUSED = {True: ("after_failures", "failed_percent", "digest_hour"), False: ("minutes",)}


def whole_number(
    first: int, last: int, label: StrOrPromise, help_text: StrOrPromise, **options: Any
) -> forms.IntegerField:
    options |= {"label": label, "help_text": help_text, "widget": widgets.AdminIntegerFieldWidget}
    return forms.IntegerField(min_value=first, max_value=last, **options)


class SubscriptionForm(EditForm):
    topics = forms.MultipleChoiceField(
        choices=Topic.choices, label=gettext_lazy("Topics"), widget=forms.CheckboxSelectMultiple
    )
    after_failures = whole_number(
        1,
        MAX_FAILURES,
        gettext_lazy("Begins to fail"),
        gettext_lazy("After this number of failed checks in a row."),
        initial=3,
    )
    failed_percent = whole_number(
        0, 100, gettext_lazy("Many failures"), gettext_lazy("Report failures above this percentage."), initial=20
    )
    minutes = whole_number(
        1,
        MAX_DELAY,
        gettext_lazy("Minutes"),
        gettext_lazy("Send a message after this many minutes of a hold, or without a worker."),
        initial=60,
    )
    digest_hour = whole_number(
        0,
        23,
        gettext_lazy("Daily digest"),
        gettext_lazy(
            "Hour of one message a day (0 to 23), in the time zone of the list. Empty: a message for each run."
        ),
        required=False,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        is_new = self.instance._state.adding
        chosen = self.data.get("list") or self.initial.get("list") if is_new else self.instance.list_id
        for name in UNUSED[not chosen]:
            del self.fields[name]
        topics: Any = self.fields["topics"]
        topics.choices = [(topic.value, topic.label) for topic in Subscription.list_topics(of_queue=not chosen)]
        topics.initial = Subscription.suggest_topics(of_queue=not chosen)


class NewSubscriptionForm(SubscriptionForm):
    # Hidden: people come from the page of a list, and there may be thousands. None means the queue.
    list = forms.ModelChoiceField(
        ProfileList.objects.all(), label=gettext_lazy("List"), widget=forms.HiddenInput, required=False
    )
    address = forms.CharField(
        max_length=MAX_URL,
        label=gettext_lazy("Address"),
        widget=widgets.AdminTextInputWidget(attrs={"class": "vLargeTextField"}),
        help_text=gettext_lazy("An e-mail or webhook address."),
    )


@admin.register(Subscription)
class SubscriptionAdmin(PageWithButtons, RefusableAdmin):
    about = gettext_lazy("A subscription notifies somebody about the runs of a list, or about the queue.")
    actions = None  # a subscription is ended on its page
    list_display = (
        "of_list",
        "channel",
        ADDRESS,
        display.topic_words,
        display.column("when", gettext_lazy("when"), str),
        "is_active",
    )
    list_display_links = (ADDRESS,)
    list_filter = (ListFilter, "channel", "is_active")
    list_select_related = ("list", "webhook")
    search_fields = ("list__name",)
    search_help_text = gettext_lazy("Name of the list")
    ordering = ("list__name", "created_at")
    sortable_by = ()

    def buttons(self, row: Subscription) -> dict[str, str]:
        return {"send_test_message": _("Send a test message")} if row.is_active else {}

    # Permissions

    def can_change_lists(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("batches.change_profilelist")

    has_module_permission = has_view_permission = has_add_permission = can_change_lists
    has_change_permission = has_delete_permission = has_operate_permission = can_change_lists

    # The page

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:
        options["form"] = SubscriptionForm if obj else NewSubscriptionForm
        return super().get_form(request, obj, change, **options)

    def get_fields(self, request: HttpRequest, obj: Subscription | None = None) -> Any:
        chosen = obj.list_id if obj else request.POST.get("list") or request.GET.get("list")
        values = [name for name in VALUES if name not in UNUSED[not chosen]]
        if obj is None:
            return ("list", "channel", "address", *values)
        return ("of_list", "channel", ADDRESS, *values, "deliveries")

    def get_fieldsets(self, request: HttpRequest, obj: Subscription | None = None) -> Any:
        advice = _("Messages have no links. Set BATCHES_BASE_URL to the address at which people reach this site.")
        description = "" if get_config().base_url else advice
        return [(None, {"fields": self.get_fields(request, obj), "description": description})]

    def get_readonly_fields(self, request: HttpRequest, obj: Subscription | None = None) -> Any:
        return ("of_list", "channel", ADDRESS, "deliveries") if obj else ()

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> HttpResponse:
        context["show_save_and_add_another"] = False
        if options.get("obj") is None:
            chosen = context["adminform"].form["list"].value()
            found = get_object_or_404(ProfileList, pk=as_uuid(chosen)) if chosen else None
            title = _("Subscribe to “%(list)s”") if found else _("Subscribe to the queue")
            context["title"] = title % {"list": found}
        return super().render_change_form(request, context, *args, **options)

    @admin.display(description=gettext_lazy("deliveries"))
    def deliveries(self, subscription: Any) -> str:
        return self.list_link(subscription.request, _("deliveries"), WebhookDelivery, subscription=subscription.pk)

    def save_model(self, request: HttpRequest, obj: Subscription, form: Any, change: bool) -> None:
        manager, values = get_manager(request), form.cleaned_data
        if change:
            require_granted(manager.change_subscription(obj.pk, **{name: values[name] for name in form.changed_data}))
            return
        chosen = {name: values[name] for name in VALUES if name in values}
        of_list = values["list"].pk if values["list"] else None
        made = manager.subscribe(of_list, values["address"], channel=values["channel"], **chosen)
        obj.pk = require_granted(made).pk

    def delete_model(self, request: HttpRequest, obj: Subscription) -> None:
        require_granted(get_manager(request).unsubscribe(obj.pk))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Without its deliveries: Django's own version would load each of them."""
        texts = [Sentence("%(name)s (%(address)s)", name=each, address=each.shown_address) for each in objs]
        return texts, {}, set(), []

    # Actions

    def send_test_message(self, request: HttpRequest, subscriptions: Iterable[Subscription]) -> None:
        for subscription in subscriptions:
            result = get_manager(request).send_test_message(subscription.pk)
            if isinstance(result, Refusal):
                self.message_user(request, result.message, messages.WARNING)
            else:
                created, (level, when) = _("A test message was created."), describe_sending()
                self.message_user(request, f"{created} {when}", level)
