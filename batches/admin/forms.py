"""The forms for adding and for changing a batch."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib.admin import widgets
from django.template.defaultfilters import filesizeformat

from batches.conf import get_config
from batches.importers import ImportFailed, ImportResult, read_profiles
from batches.models import MAX_NAME, MAX_PRIORITY, MIN_PRIORITY, Batch


class BatchName(forms.CharField):
    """One line, as `create_batch` stores it."""

    widget = widgets.AdminTextInputWidget

    def clean(self, value: Any) -> str:
        return " ".join(super().clean(value).split())


class Priority(forms.IntegerField):
    widget = widgets.AdminIntegerFieldWidget

    def __init__(self, **kwargs: Any) -> None:
        kwargs |= {"min_value": MIN_PRIORITY, "max_value": MAX_PRIORITY, "help_text": "Higher goes first."}
        super().__init__(**kwargs)


def checker_choices() -> list[tuple[str, str]]:
    return [(name, name) for name in get_config().all_checkers]


def pasting_limit() -> str:
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return f" Up to {filesizeformat(limit)}; upload a longer list as a file." if limit else ""


class AddBatchForm(forms.Form):
    """A batch to be made, from a file or from pasted text. Once valid, `imported` holds its profiles."""

    name = BatchName(max_length=MAX_NAME)
    priority = Priority(initial=0)
    checker = forms.ChoiceField(choices=checker_choices, initial="feed")
    file = forms.FileField(
        required=False,
        help_text="Text with one address a line, CSV with a “url” and perhaps a “name” column, OPML or JSON Lines.",
    )
    # Not a CharField: that refuses the whole text for a NUL, and only the line that has it is to be rejected.
    addresses = forms.Field(
        required=False,
        label="or addresses",
        widget=widgets.AdminTextareaWidget(attrs={"rows": 8, "spellcheck": "false"}),
    )
    queue = forms.BooleanField(
        required=False, initial=True, label="Queue it now", help_text="Otherwise it is paused until somebody queues it."
    )
    strict = forms.BooleanField(required=False, help_text="Add nothing if a single line cannot be a profile.")

    imported: ImportResult

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["addresses"].help_text = f"One a line, or any of the formats above.{pasting_limit()}"

    def clean(self) -> None:
        source, text = self.cleaned_data.get("file"), self.cleaned_data.get("addresses") or ""
        if "file" in self.errors:
            return
        if source and text.strip():
            raise forms.ValidationError("Give either a file or addresses, not both.")
        if not source and not text.strip():
            raise forms.ValidationError("Give a file or paste addresses: a batch needs profiles.")
        try:
            self.imported = read_profiles(
                source or text.encode("utf-8", "surrogatepass"),
                filename=source.name if source else "",
                strict=self.cleaned_data["strict"],
            )
        except ImportFailed as error:
            self.add_error("file" if source else "addresses", str(error))


class ChangeBatchForm(forms.ModelForm):  # type: ignore[type-arg]
    """What may be changed by hand.

    With the values that the form was shown with beside them, so that a stale form changes only what was edited in it.
    """

    name = BatchName(max_length=MAX_NAME, show_hidden_initial=True)
    priority = Priority(show_hidden_initial=True)

    class Meta:
        model = Batch
        fields = ("name", "priority")
