from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError, CommandParser
from django.db import IntegrityError, transaction
from django.utils import timezone

from batches.conf import command_line
from batches.management.base import JSON, ActionCommand, count
from batches.management.tables import TOKENS
from batches.models.api import AccessToken
from batches.queue.refusals import refusable
from batches.queue.values import TOKEN_NAME, clean_name
from batches.text import UNSTORABLE, clean_text, printable, stored_line

Scope = AccessToken.Scope


class Command(ActionCommand):
    help = "Create, list and revoke API tokens."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        user = ArgumentParser(add_help=False)
        user.add_argument("username", metavar="USER")
        description = "Create a token for a user and print it, once only."
        create = self.add_action("create", Command.create, description, user, JSON)
        create.add_argument("--name", default="default", help="The purpose of the token (default: %(default)s).")
        scopes = "; ".join(f"{scope}: {scope.label}" for scope in Scope)
        create.add_argument("--scope", choices=Scope.values, default=Scope.OPERATE, help=f"{scopes} (the default).")
        create.add_argument("--days", type=count, help="Days until it expires (default: never).")
        create.add_argument("--replace", action="store_true", help="First revoke the user's token of this name.")
        self.add_action("list", Command.list_tokens, "List the tokens; their keys are not shown.", JSON)
        revoke = self.add_action("revoke", Command.revoke, "Revoke a token of a user, or all of them.", user)
        revoke.add_argument("name", metavar="NAME", nargs="?", help="The name of the token (default: all of the user).")

    def create(
        self, *, username: str, name: str, scope: str, days: int | None, replace: bool, as_json: bool, **options: Any
    ) -> None:
        user = find_user(username)
        if not user.is_active:
            raise CommandError(f"{printable(username)} is inactive: the API would refuse the token. Activate it first.")
        name = self.require_accepted(refusable(clean_name)(name, TOKEN_NAME))
        token = AccessToken(user=user, name=name, scope=scope)
        if days:
            token.expires_at = timezone.now() + timedelta(days=days)
        with transaction.atomic():
            if replace:
                AccessToken.objects.filter(user=user, name=token.name).delete()
            key = token.new_key()
            try:
                with transaction.atomic():
                    token.save()
            except IntegrityError as error:
                advice = "Choose another --name, or revoke it and create another: --replace"
                message = f"{printable(username)} already has a token “{printable(name)}”. {advice}"
                raise CommandError(message) from error
            self.print_result(as_json, token_as_dict(token) | {"token": key}, key)
            self.require_delivered()

    def list_tokens(self, *, as_json: bool, **options: Any) -> None:
        listed = [*map(token_as_dict, AccessToken.objects.select_related("user").order_by("user", "name"))]
        if as_json:
            self.print_json(listed)
        else:
            self.print_rows(listed, TOKENS, f"No tokens. Create one: {command_line('token create USER')}")

    def revoke(self, *, username: str, name: str | None, **options: Any) -> None:
        user = find_user(username)
        wanted = {} if name is None else {"name": stored_line(name)}
        revoked = AccessToken.objects.filter(user=user, **wanted).delete()[0]
        user_name = printable(username)
        if not revoked:
            named = f" “{printable(name)}”" if name else ""
            raise CommandError(f"{user_name} has no token{named}. Show all: {command_line('token list')}")
        which = "The token of" if revoked == 1 else f"The {revoked} tokens of"
        self.stdout.write(f"{which} {user_name} {'has' if revoked == 1 else 'have'} been revoked.")


def find_user(username: str) -> Any:
    users = get_user_model()
    try:
        if not UNSTORABLE.search(username):
            return users._default_manager.get_by_natural_key(username)
    except users.DoesNotExist:
        pass
    raise CommandError(
        f"No user has the name {clean_text(username, 150)!r}. "
        f"Create one in the admin, or with: {command_line('createsuperuser')}"
    )


def token_as_dict(token: AccessToken) -> dict[str, Any]:
    return {
        "user": token.user.get_username(),
        "is_active": token.user.is_active and not token.is_expired,
        "token": f"{token.begins_with}…",  # identifies it without giving access
        "name": token.name,
        "scope": token.scope,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
    }
