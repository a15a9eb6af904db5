from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError, CommandParser
from django.db import transaction
from rest_framework.authtoken.models import Token

from batches.management.base import DoorCommand
from batches.management.output import printable, table, when
from batches.text import UNSTORABLE, clean_text

#: Characters of a key that tell it from others and open nothing.
SHOWN_OF_KEY = 4


class Command(DoorCommand):
    help = "Make, list and revoke the tokens with which programs use the API."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="create|list|revoke")
        create = actions.add_parser("create", help="Make a user's token and print it; it is shown this once.")
        create.add_argument("username", metavar="USER")
        create.add_argument("--replace", action="store_true", help="Revoke the token that the user has.")
        revoke = actions.add_parser("revoke", help="Let a user's token open nothing any more.")
        revoke.add_argument("username", metavar="USER")
        shown = actions.add_parser("list", help="Who has a token; the tokens themselves are not shown.")
        for action in (create, shown):
            action.add_argument("--json", action="store_true", dest="as_json", help="Print JSON.")

    def do_create(self, *, username: str, replace: bool, as_json: bool, **options: Any) -> None:
        user = find_user(username)
        if not user.is_active:
            raise CommandError(f"{printable(username)} is not active: the API would refuse the token.")
        with transaction.atomic():
            if replace:
                Token.objects.filter(user=user).delete()
            token, is_new = Token.objects.get_or_create(user=user)
        if not is_new:
            raise CommandError(f"{printable(username)} has a token already. Revoke it and make another with --replace.")
        if as_json:
            self.print_json({"user": username, "token": token.key, "created_at": token.created})
        else:
            self.stdout.write(token.key)

    def do_list(self, *, as_json: bool, **options: Any) -> None:
        tokens = list(Token.objects.select_related("user").order_by("user"))
        if as_json:
            self.print_json([token_as_dict(token) for token in tokens])
        elif tokens:
            rows = [(shortened(token.key), when(token.created), *owner(token)) for token in tokens]
            self.print_lines(table(("token", "created", "active", "user"), rows))
        else:
            self.stdout.write("Nobody has a token. Make one with: manage.py token create USER")

    def do_revoke(self, *, username: str, **options: Any) -> None:
        if not Token.objects.filter(user=find_user(username)).delete()[0]:
            raise CommandError(f"{printable(username)} has no token.")
        self.stdout.write(f"The token of {printable(username)} opens nothing any more.")


def find_user(username: str) -> Any:
    users = get_user_model()
    try:
        if not UNSTORABLE.search(username):
            return users._default_manager.get_by_natural_key(username)
    except users.DoesNotExist:
        pass
    name = clean_text(username, 150)
    raise CommandError(f"There is no user {name!r}. Make one in the admin, or with: manage.py createsuperuser")


def token_as_dict(token: Token) -> dict[str, Any]:
    return {
        "user": token.user.get_username(),
        "is_active": token.user.is_active,
        "token": shortened(token.key),
        "created_at": token.created,
    }


def owner(token: Token) -> tuple[str, str]:
    return "yes" if token.user.is_active else "no", printable(token.user.get_username())


def shortened(key: str) -> str:
    return f"{key[:SHOWN_OF_KEY]}…"
