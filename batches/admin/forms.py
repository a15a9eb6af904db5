"""The forms that add and change a batch or a list."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from django import forms
from django.conf import settings
from django.contrib.admin import widgets
from django.db.models import TextChoices
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.html import format_html
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from batches.conf import get_config
from batches.limits import (
    MAX_DELAY,
    MAX_LIST_BYTES,
    MAX_NAME,
    MAX_PRIORITY,
    MAX_URL,
    MIN_PRIORITY,
)
from batches.lists.addresses import InvalidAddress, normalise_address
from batches.lists.cron import InvalidSchedule, require_schedule
from batches.lists.formats import detect_format, read_profiles
from batches.lists.imports import ImportResult, InvalidList, Reject
from batches.lists.source import HEAD
from batches.models.lists import COUNT_FIRST
from batches.queue.refusals import Refused
from batches.queue.values import clean_name, require_free_name

#: For browsers without JavaScript, a file of at most this many bytes is put into the form. Browsers can open such a
#: page.
MAX_KEPT = 5_000_000
#: A form with another value in one of these fields creates another batch.
IDENTIFYING = ("name", "priority", "checker", "queue", "keep", "count_first")


#: Labels of fields that several forms have.
CHECKER, COUNT = gettext_lazy("Checker"), gettext_lazy("Count first")


class Name(forms.CharField):
    """One line, as BatchManager stores names."""

    widget = widgets.AdminTextInputWidget

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"max_length": MAX_NAME, "label": gettext_lazy("Name"), **kwargs})

    def clean(self, value: Any) -> str:
        name: str = super().clean(value)
        try:
            return clean_name(name) if name else name
        except Refused as refused:
            raise forms.ValidationError(str(refused)) from refused


class Priority(forms.IntegerField):
    widget = widgets.AdminIntegerFieldWidget

    def __init__(self, **kwargs: Any) -> None:
        kwargs |= {"label": gettext_lazy("Priority"), "help_text": gettext_lazy("Higher goes first.")}
        super().__init__(min_value=MIN_PRIORITY, max_value=MAX_PRIORITY, **kwargs)


def checkers() -> list[tuple[str, str]]:
    return [(name, name) for name in get_config().all_checkers]


class NewBatchForm(forms.Form):
    """The fields of every new batch, wherever its profiles come from."""

    name = Name()
    priority = Priority(initial=0)
    checker = forms.ChoiceField(choices=checkers, initial="feed", label=CHECKER)
    count_first = forms.BooleanField(required=False, label=COUNT, help_text=COUNT_FIRST)
    queue = forms.BooleanField(
        required=False,
        initial=True,
        label=gettext_lazy("Queue it now"),
        help_text=gettext_lazy("Otherwise it stays paused until you queue it."),
    )
    # Identifies one form. Not a CharField: it accepts any text, since it is only hashed.
    token = forms.Field(required=False, widget=forms.HiddenInput, initial=uuid4)

    def batch_id(self, *content: Any) -> UUID:
        """The id of the batch that this form creates.

        The same form sent twice has the same id. A form that was edited after the browser's Back, or another user's,
        has another id.
        """
        token = self.cleaned_data["token"]
        if not token:
            return uuid4()
        values = [self.cleaned_data.get(name) for name in IDENTIFYING]
        return uuid5(NAMESPACE_URL, json.dumps([token, *values, *content]))


class ContentForm(forms.Form):
    """Profiles from a file or from pasted text. Once valid, `imported` has them; `rejects` has the invalid lines."""

    file = forms.FileField(
        required=False,
        label=gettext_lazy("File"),
        help_text=format_lazy(
            gettext_lazy(
                "Plain text with one address per line, CSV with a column of addresses and perhaps one of names, OPML "
                "or JSON. Up to {size} MB."
            ),
            size=MAX_LIST_BYTES // 1_000_000,
        ),
        widget=forms.FileInput(attrs={"data-limit": MAX_LIST_BYTES}),
    )
    # Not a CharField: that refuses the whole text because of a NUL, but only the line with it is rejected.
    addresses = forms.Field(
        required=False,
        label=gettext_lazy("or addresses"),
        widget=widgets.AdminTextareaWidget(attrs={"rows": 8, "spellcheck": "false"}),
    )
    strict = forms.BooleanField(
        required=False,
        label=gettext_lazy("Strict"),
        help_text=gettext_lazy("Add nothing if any line is not a valid address."),
    )

    imported: ImportResult
    rejects: Sequence[Reject] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        addresses = self.fields["addresses"]
        addresses.help_text = _("One per line, or any of the formats above.")
        if limit := settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            advice = _("Up to %(size)s; upload a longer list as a file.") % {"size": filesizeformat(limit)}
            addresses.help_text += f" {advice}"
            addresses.widget.attrs["data-limit"] = limit

    def clean(self) -> None:
        source, text = self.cleaned_data.get("file"), self.cleaned_data.get("addresses") or ""
        if "file" in self.errors:
            return
        if source and text.strip():
            raise forms.ValidationError(_("Choose a file or paste addresses, not both."))
        if not source and not text.strip():
            raise forms.ValidationError(_("The list is empty. Choose a file or paste addresses."))
        try:
            self.imported = read_profiles(
                source or text.encode("utf-8", "surrogatepass"),
                filename=source.name if source else "",
                strict=self.cleaned_data["strict"],
            )
            self.rejects = self.imported.rejects
        except InvalidList as error:
            self.rejects = error.rejects
            self.add_error("file" if source else "addresses", str(error))

    def keep_file(self) -> None:
        """Put the file's content into the text field, since browsers do not keep a chosen file.

        If that would not be the same list, ask the user to choose the file again.
        """
        source = self.files.get("file")
        if not source:
            return
        text = None if self.data.get("addresses", "").strip() else text_of(source)
        if text is None:
            again = _("Choose “%(file)s” again; the browser did not keep it.") % {"file": source.name}
            self["file"].help_text = format_html("{} {}", again, self["file"].help_text)
            return
        self.data = {**self.data.dict(), "addresses": text}  # type: ignore[attr-defined]
        content = _("This is the content of “%(file)s”. You can correct it here.") % {"file": source.name}
        self["addresses"].help_text = format_html("{}", content)


class AddBatchForm(NewBatchForm, ContentForm):
    """A new batch from a file or from pasted text, which can be kept as a list."""

    keep = forms.BooleanField(
        required=False,
        label=gettext_lazy("Keep as a list"),
        help_text=gettext_lazy("To check these profiles again, and to edit them."),
    )

    field_order = ("name", "priority", "checker", "file", "addresses", "queue", "keep", "count_first", "strict")


class ListImportForm(ContentForm):
    """Profiles for a list."""

    class What(TextChoices):
        ADD = "add", gettext_lazy("Add these profiles")
        REMOVE = "remove", gettext_lazy("Remove these profiles")
        SYNC = "sync", gettext_lazy("Replace the list with these profiles")

    what = forms.ChoiceField(
        choices=What.choices, initial=What.ADD, widget=widgets.AdminRadioSelect, label=gettext_lazy("What to do")
    )

    field_order = ("what", "file", "addresses", "strict")


def text_of(source: Any) -> str | None:
    """The content of an uploaded file, or None if it would not be the same list when pasted as text."""
    if not source.size or source.size > MAX_KEPT:
        return None
    source.seek(0)
    content = source.read()
    if detect_format(content[:HEAD]) != detect_format(content[:HEAD], source.name or ""):
        return None
    try:
        text: str = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


class EditForm(forms.ModelForm):  # type: ignore[type-arg]
    """Carries the values that it was opened with, so that a stale form changes only the edited fields."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.show_hidden_initial = True


class ChangeBatchForm(EditForm):
    """The fields that users may change."""

    name = Name()
    priority = Priority()


class ListForm(EditForm):
    """The attributes of a list."""

    name = Name()
    priority = Priority(initial=0)
    checker = forms.ChoiceField(choices=checkers, initial="feed", label=CHECKER)
    count_first = forms.BooleanField(required=False, label=COUNT, help_text=COUNT_FIRST)
    delay_minutes = forms.IntegerField(
        min_value=0,
        max_value=MAX_DELAY,
        initial=0,
        label=gettext_lazy("Random delay"),
        widget=widgets.AdminIntegerFieldWidget,
        help_text=gettext_lazy("Each run starts up to this many minutes later."),
    )

    class Meta:
        labels = {"schedule": gettext_lazy("Schedule"), "time_zone": gettext_lazy("Time zone")}
        help_texts = {
            "schedule": gettext_lazy(
                "When the list runs automatically: minute, hour, day of the month, month and day of the week, such as "
                "“30 6 * * MON-FRI”. Empty: never."
            ),
            "time_zone": gettext_lazy("For the schedule, such as Europe/Berlin."),
        }

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        try:
            require_free_name(name, but=self.instance)
        except Refused as refused:
            raise forms.ValidationError(str(refused)) from refused
        return name

    def clean(self) -> None:
        super().clean()
        values = self.cleaned_data
        try:
            if values.get("schedule") and not self.errors:
                delay = timedelta(minutes=values["delay_minutes"])
                require_schedule(values["schedule"], values["time_zone"], delay, timezone.now())
        except InvalidSchedule as error:
            self.add_error(error.field, str(error))


class MemberForm(EditForm):
    """The address of a profile of a list."""

    address = forms.CharField(
        max_length=MAX_URL,
        label=gettext_lazy("Address"),
        widget=widgets.AdminTextInputWidget(attrs={"class": "vLargeTextField"}),
        help_text=gettext_lazy("A new address applies in every list. The profile keeps its history."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["address"].initial = self.instance.profile.url

    def clean_address(self) -> str:
        try:
            return normalise_address(self.cleaned_data["address"])
        except InvalidAddress as error:
            raise forms.ValidationError(str(error)) from error
