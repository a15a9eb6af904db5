"""Translates reasons and log messages, which are stored in English, into the language of the page.

The templates below recognise them. A text that matches none of them is shown unchanged: the words of a checker, of
OpenSSL, of a person.
"""

from django.utils.translation import gettext_noop as _

from batches.text import recognise, translate

REASONS = (
    # Failed checks. The subject, the address, is left out.
    _("no such host"),
    _("no such host, or its name servers do not answer"),
    _("refused the connection"),
    _("could not be reached"),
    _("did not answer within %(seconds)s s"),
    _("closed the connection too early"),
    _("the certificate is not valid: %(why)s"),
    _("hostname mismatch"),
    _("certificate has expired"),
    _("self-signed certificate"),
    _("unable to get local issuer certificate"),
    _("the TLS handshake failed"),
    _("%(answered)s without a Location header"),
    _("answered %(status)s"),
    _("redirected too many times (limit: %(most)s)"),
    _("sent headers larger than %(most)s kB"),
    _("sent an invalid response: %(why)s"),
    _("the body is larger than %(most)s MB"),
    _("the response is not a feed"),
    _("the page declares no feed"),
    _("its feed: %(why)s"),
    _("reading the document takes more than %(seconds)s s of computing"),
    _("reading the document takes more than %(most)s MB of memory"),
    _("the process that read the document ended (%(signal)s)"),
    _("the address %(ip)s is not public"),
    _("the address has a host name that is too long"),
    _("the address is not http or https"),
    _("the address has no host"),
    _("the address contains a user name or password"),
    _("the address is not valid"),
    _("the redirect target has a host name that is too long"),
    _("the redirect target is not http or https"),
    _("the redirect target has no host"),
    _("the redirect target contains a user name or password"),
    _("the redirect target is not valid"),
    _("asked us to wait %(seconds)s s"),
    _("asked us earlier to wait, for %(seconds)s s more"),
    _("was not checked: too many files are open on this machine"),
    _("The check did not finish within %(seconds)s s."),
    _("The check failed without an error message."),
    _("The checker “%(checker)s” failed: %(why)s"),
    _("It rests after %(failures)s in a row. The last one: %(why)s"),
    # Of batches
    _("Stopped without an error message."),
    _("%(count)s workers in a row sent no heartbeat, and the batch made no progress."),
    _("The checker was not ready within %(seconds)s s."),
    _("Unknown checker %(checker)s; the settings have %(known)s."),
    _("The batch expects %(profiles)s but has no rows to check."),
    _("The batch has no profiles."),
    _("Every profile rests."),
    # Of outages
    _("This machine seems to be offline: %(failed)s of the last %(checks)s on %(hosts)s could not connect."),
    _("This machine is online again."),
    # Of the log
    _("by worker %(worker)s: no heartbeat from the previous worker"),
    _("by worker %(worker)s"),
    _("interrupted by “%(batch)s”"),
    _("interrupts “%(batch)s”"),
    _("stopped by the hold: %(why)s"),
    _("stopped by the hold"),
    _("priority %(before)s → %(after)s"),
    _("retrying %(profiles)s that somebody chose"),
    _("retrying %(profiles)s: %(why)s"),
    _("retrying %(profiles)s"),
    _("it had been %(participle)s"),
    _("A profile was forgotten."),
    _("planned again, since the clock was set back"),
    # Of deliveries
    _("could not be sent: %(why)s"),
    _("the mail server cannot send this message: %(why)s"),
    _("the mail server %(server)s does not answer: %(why)s"),
    _("the mail server answered %(answer)s"),
    _("Apprise could not send it: %(why)s"),
    _("Apprise could not send it"),
    _("this version does not know the channel “%(channel)s”"),
    _("%(why)s: the webhook was switched off"),
    # Counts
    _("1 profile"),
    _("%(count)s profiles"),
    _("1 failed profile"),
    _("%(count)s failed profiles"),
    _("1 failure"),
    _("%(count)s failures"),
    _("1 check"),
    _("%(count)s checks"),
    _("1 host"),
    _("%(count)s hosts"),
    # The participles of `queue.transitions`
    *("queued", "started", "paused", "moved"),
)


def stored(text: str) -> str:
    """A reason or a message of the log in the language of the page."""
    try:
        return translate(recognise(text, REASONS))
    except RecursionError:  # it repeats a part of a template hundreds of times
        return text
