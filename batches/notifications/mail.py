"""Sends a message by e-mail, through the mail server of Django's settings."""

import smtplib
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMultiAlternatives

from batches.conf import get_config
from batches.limits import MAX_ERROR
from batches.models import WebhookDelivery
from batches.text import clean_text, one_line

from .message_texts import word_letter
from .outbox import AttemptResult

#: The server requires us to log in: a setting is missing, but the message is not refused.
LOGIN_REQUIRED = 530


def send_mail(delivery: WebhookDelivery) -> AttemptResult:
    """Blocks. A refusal of the message or of its recipient (5xx) is final; everything else is tried again."""
    assert delivery.subscription is not None
    try:
        make_mail(delivery).send()
    except smtplib.SMTPRecipientsRefused as refused:
        return describe_refusal(*next(iter(refused.recipients.values())))
    except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as refused:
        return describe_refusal(refused.smtp_code, refused.smtp_error)
    except smtplib.SMTPResponseException as refused:  # refused before the message: at the greeting, or our password
        return describe_refusal(refused.smtp_code, refused.smtp_error, is_early=True)
    except smtplib.SMTPNotSupportedError as error:
        return AttemptResult(None, f"the mail server cannot send this message: {error}", final=True)
    except (OSError, smtplib.SMTPException) as error:
        fault = one_line(clean_text(getattr(error, "strerror", None) or error, MAX_ERROR)) or type(error).__name__
        return AttemptResult(None, f"the mail server {name_server()} does not answer: {fault}")
    return AttemptResult(None)


def make_mail(delivery: WebhookDelivery) -> EmailMultiAlternatives:
    letter, subscription = word_letter(delivery), delivery.subscription
    assert subscription is not None
    host = urlsplit(get_config().base_url).hostname or "batches.localhost"
    headers = {
        # RFC 3834: no holiday notice answers it. RFC 2919: readers can sort it by its list.
        "Auto-Submitted": "auto-generated",
        "List-Id": f"<{subscription.list_id or 'queue'}.{host}>",
        "Message-ID": f"<{delivery.event_id}@{host}>",
    }
    mail = EmailMultiAlternatives(letter.subject, letter.text, None, [subscription.address], headers=headers)
    mail.attach_alternative(letter.html, "text/html")
    return mail


def name_server() -> str:
    mailers = getattr(settings, "MAILERS", None)  # since Django 6.1, instead of the other two
    if mailers is None:
        return f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    server = mailers.get("default", {}).get("OPTIONS", {})
    return f"{server.get('host', 'localhost')}:{server.get('port', 25)}"


def describe_refusal(code: int, answer: bytes | str, *, is_early: bool = False) -> AttemptResult:
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    sentence = f"the mail server answered {code} {one_line(clean_text(text, MAX_ERROR))}"
    return AttemptResult(None, sentence, final=code >= 500 and code != LOGIN_REQUIRED and not is_early)
