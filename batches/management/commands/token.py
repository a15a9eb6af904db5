from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError, CommandParser
from django.db import transaction
from rest_framework.authtoken.models import Token

from batches.management.base import JSON, ActionCommand
from batches.management.output import printable, table, when
from batches.text import UNSTORABLE, clean_text


class Command(ActionCommand):
    help = "Create, list and revoke API tokens."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        user = ArgumentParser(add_help=False)
        user.add_argument("username", metavar="USER")
        description = "Create a token for a user and print it, this once."
        create = self.add_action("create", Command.create, description, user, JSON)
        create.add_argument("--replace", action="store_true", help="Revoke the existing token of the user.")
        self.add_action("list", Command.list_tokens, "List users with a token; tokens are not shown.", JSON)
        self.add_action("revoke", Command.revoke, "Revoke the token of a user.", user)

    def create(self, *, username: str, replace: bool, as_json: bool, **options: Any) -> None:
        user = find_user(username)
        if not user.is_active:
            raise CommandError(f"{printable(username)} is inactive: the API would refuse the token. Activate it first.")
        with transaction.atomic():
            if replace:
                Token.objects.filter(user=user).delete()
            token, is_new = Token.objects.get_or_create(user=user)
            if not is_new:
                message = f"{printable(username)} already has a token. Revoke it and create another: --replace"
                raise CommandError(message)
            if as_json:
                self.print_json({"user": username, "token": token.key, "created_at": token.created})
            else:
                self.stdout.write(token.key)
            self.require_delivered()

    def list_tokens(self, *, as_json: bool, **options: Any) -> None:
        tokens = [token_as_dict(token) for token in Token.objects.select_related("user").order_by("user")]
        if as_json:
            self.print_json(tokens)
        elif tokens:
            self.print_lines(table(("token", "created", "active", "user"), list(map(token_row, tokens))))
        else:
            self.stdout.write("No tokens. Create one: manage.py token create USER")

    def revoke(self, *, username: str, **options: Any) -> None:
        if not Token.objects.filter(user=find_user(username)).delete()[0]:
            raise CommandError(f"{printable(username)} has no token.")
        self.stdout.write(f"The token of {printable(username)} has been revoked.")


def find_user(username: str) -> Any:
    users = get_user_model()
    try:
        if not UNSTORABLE.search(username):
            return users._default_manager.get_by_natural_key(username)
    except users.DoesNotExist:
        pass
    raise CommandError(
        f"No user has the name {clean_text(username, 150)!r}. "
        "Create one in the admin, or with: manage.py createsuperuser"
    )


def token_as_dict(token: Token) -> dict[str, Any]:
    return {
        "user": token.user.get_username(),
        "is_active": token.user.is_active,
        "token": f"{token.key[:4]}…",  # identifies it without giving access
        "created_at": token.created,
    }


def token_row(token: dict[str, Any]) -> tuple[str, ...]:
    is_active = "yes" if token["is_active"] else "no"
    return token["token"], when(token["created_at"]), is_active, printable(token["user"])
