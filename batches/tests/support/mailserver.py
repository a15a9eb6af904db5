"""A real mail server on this machine. It keeps what it accepts, and can refuse, hang, or disconnect."""

import asyncio
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller

from .feedserver import WAIT_SECONDS

OK = "250 OK"


class AnyPort(Controller):
    """Listens on a port that is free."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


class MailServer:
    """`answers` are the answers to MAIL, RCPT and DATA; `before_answer` runs before the one to DATA."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.attempts = 0
        self.answers: dict[str, str] = {}
        self.hangs = False
        self.breaks_off = False
        self.before_answer: Callable[[], Any] = lambda: None
        self._controller = AnyPort(self, hostname="127.0.0.1", port=0, ready_timeout=WAIT_SECONDS)

    def __enter__(self) -> "MailServer":
        self._controller.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._controller.stop()

    @property
    def port(self) -> int:
        return self._controller.port

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        self.attempts += 1
        envelope.mail_from = address
        return self.answers.get("MAIL", OK)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        envelope.rcpt_tos.append(address)
        return self.answers.get("RCPT", OK)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.hangs:
            await asyncio.Event().wait()
        answer = self.answers.get("DATA", OK)
        if answer == OK:
            mail = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
        await asyncio.to_thread(self.before_answer)
        if self.breaks_off:
            server.transport.abort()
        return answer
