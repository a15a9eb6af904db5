"""The actions that subscribe people and programs to a list."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from batches.conf import command_line, worker_command
from batches.limits import MAX_WANTED
from batches.management.base import JSON, SHORT_ID, ActionCommand, find_by_id
from batches.management.tables import SUBSCRIPTIONS
from batches.models import Subscription
from batches.models.public_fields import SUBSCRIPTION, as_dict
from batches.reports.forecast import forecast_queue
from batches.text import printable

Channel, Topic = Subscription.Channel, Subscription.Topic

ID, VALUES = ArgumentParser(add_help=False), ArgumentParser(add_help=False)
ID.add_argument("id", help=f"The ID in the list of subscriptions. {SHORT_ID}")
for option, text in {
    "--after-failures": "Report a profile after this many failures in a row.",
    "--minutes": "Report a hold, or a missing worker, after this many minutes.",
    "--failed-percent": "Report failures above this percentage of the profiles.",
}.items():
    VALUES.add_argument(option, type=int, metavar="N", help=text)
VALUES.add_argument(
    "--digest", type=int, metavar="HOUR", help="One message a day at this hour (0 to 23), in the list's time zone."
)


class SubscriptionActions(ActionCommand):
    """Actions for subscriptions to a list, or without an argument for a list, to the queue."""

    def add_subscription_actions(self, *of_list: ArgumentParser) -> None:
        what = "a list" if of_list else "the queue"
        possible = Subscription.list_topics(of_queue=not of_list)
        description = f"Notify an address about {what}."
        act = SubscriptionActions.subscribe
        subscribe = self.add_action("subscribe", act, description, *of_list, VALUES, JSON)
        text = "An e-mail or webhook address; - reads it from standard input, since other users can see arguments."
        subscribe.add_argument("address", help=text)
        subscribe.add_argument("--channel", choices=Channel.values, default=Channel.EMAIL)
        topics = "; ".join(f"{topic}: {topic.label}" for topic in possible)
        default = "stories and error" if of_list else "both"
        choices = [topic.value for topic in possible]
        subscribe.add_argument("--topic", choices=choices, action="append", help=f"{topics} (default: {default}).")
        description = "Change what a subscription reports, and when."
        change = self.add_action(
            "change-subscription", SubscriptionActions.change_subscription, description, ID, VALUES, JSON
        )
        change.add_argument(
            "--topic", choices=choices, action="append", help="A topic; the given ones replace the current ones."
        )
        change.add_argument("--each-run", action="store_true", help="A message for each run instead of one a day.")
        switch = change.add_mutually_exclusive_group()
        switch.add_argument("--on", action="store_true", default=None, help="Activate it again.")
        switch.add_argument("--off", action="store_false", dest="on", help="Hold back its messages.")
        description = f"Show the subscriptions of {what}."
        self.add_action("subscriptions", SubscriptionActions.show_subscriptions, description, *of_list, JSON)
        self.add_action("unsubscribe", SubscriptionActions.unsubscribe, "End a subscription.", ID)
        self.add_action("test-message", SubscriptionActions.test, "Send a test message to a subscription.", ID)

    def subscribe(
        self,
        *,
        address: str,
        channel: str,
        topic: list[str] | None,
        as_json: bool,
        list: str | None = None,
        **options: Any,
    ) -> None:
        address = sys.stdin.readline().strip() if address == "-" else address
        found, values = self.find_list(list) if list is not None else None, given_values(**options)
        topics = topic or Subscription.suggest_topics(of_queue=not found)
        of_list = found.pk if found else None
        made = self.require_accepted(self.manager.subscribe(of_list, address, topics, channel, **values))
        self.report(made, "Subscribed", as_json)

    def change_subscription(
        self,
        *,
        id: str,
        topic: list[str] | None,
        each_run: bool,
        on: bool | None,
        as_json: bool,
        **options: Any,
    ) -> None:
        found, values = self.find_subscription(id), given_values(**options)
        values |= {"topics": topic} if topic else {}
        values |= {"is_active": on} if on is not None else {}
        values |= {"digest_hour": None} if each_run else {}
        if not values:
            raise CommandError("Nothing to change. Give at least one option, such as --topic.")
        self.require_accepted(self.manager.change_subscription(found.pk, **values))
        found.refresh_from_db()
        self.report(found, "Changed", as_json)

    def show_subscriptions(self, *, as_json: bool, list: str | None = None, **options: Any) -> None:
        of_list = self.find_list(list) if list is not None else None
        subscriptions = Subscription.objects.filter(list=of_list).select_related("webhook").order_by("created_at", "pk")
        command = command_line("list subscribe LIST ADDRESS" if of_list else "queue subscribe ADDRESS")
        nobody = f"Nobody is subscribed. Subscribe somebody: {command}"
        self.print_things(as_json, subscriptions, SUBSCRIPTION, SUBSCRIPTIONS, nobody)

    def unsubscribe(self, *, id: str, **options: Any) -> None:
        found = self.find_subscription(id)
        self.require_accepted(self.manager.unsubscribe(found.pk))
        self.stdout.write(f"Ended: {printable(found.shown_address)}")

    def test(self, *, id: str, **options: Any) -> None:
        self.require_accepted(self.manager.send_test_message(self.find_subscription(id).pk))
        if forecast_queue().worker_is_alive:
            self.stdout.write("A worker sends the test message within seconds.")
        else:
            self.stdout.write(f"The test message waits for a worker. Start one: {worker_command()}")

    def report(self, subscription: Subscription, done: str, as_json: bool) -> None:
        about = ", ".join(subscription.topics)
        text = f"{done}: {printable(subscription.shown_address)} to {about}: {subscription.pk}"
        self.print_result(as_json, as_dict(subscription, SUBSCRIPTION), text)

    def find_subscription(self, wanted: str) -> Subscription:
        missing = f"No subscription has an ID that starts with {printable(wanted)[:MAX_WANTED]!r}."
        return find_by_id(Subscription.objects.select_related("webhook", "list"), "subscriptions", wanted, missing)


def given_values(*, digest: int | None, **options: Any) -> dict[str, Any]:
    given = {name: options[name] for name in ("after_failures", "failed_percent", "minutes")} | {"digest_hour": digest}
    return {name: value for name, value in given.items() if value is not None}
