"""The tables, the constraints that make a wrong state impossible, and the order of the queue."""

from . import api
from .actions import Action
from .attempts import Attempt
from .batches import (
    COUNTER_AGGREGATES,
    COUNTER_OF,
    STATUS_WORDS,
    Batch,
    BatchProfile,
    BatchQuerySet,
    aggregate_counters,
)
from .connections import (
    DATABASE_FAULTS,
    OUTDATED,
    Database,
    discard_connections,
    is_database_fault,
    is_lock_timeout,
    is_outdated,
    is_too_complex,
    is_unwritable,
    snapshot,
)
from .counters import is_live
from .feeds import ListFeed
from .functions import ByBytes, HostOf, Minute, SecondsSince
from .hosts import Host
from .leases import EndedLease, Lease, Loan, Partition
from .lists import NO_EDITION, ListProfile, ProfileList
from .logs import BatchLog, Channel
from .marks import ReadMark, find_mark, mark_as_read
from .owners import owned, rows_of
from .profiles import Profile, StoryResult
from .queue import Queue
from .queue_order import DETOUR
from .redirects import Redirect
from .subscriptions import Subscription
from .webhooks import SECRET_PREFIX, Event, Webhook, WebhookDelivery, new_secret
from .workers import Worker, is_alive, is_in_time, is_not_ahead
