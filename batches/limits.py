"""Sizes that several packages share, each defined once. Lengths of texts are in characters."""

#: An address in its normal form.
MAX_URL = 2000
#: The name of a host, and of a host with a port, as people search for it.
MAX_HOST = 255
MAX_HOST_AND_PORT = 260
#: The name of a batch, a profile or a webhook.
MAX_NAME = 200
#: The words of a search; it has the length of a name.
MAX_WORDS = 10
MAX_STORY_ID = 255
MAX_TITLE = 500
MAX_ERROR = 2000
#: An ETag or a Last-Modified, as a server sent it.
MAX_VALIDATOR = 500
#: A hash in hexadecimal; a SHA-256 has as many digits.
MAX_FINGERPRINT = 64
#: An `Idempotency-Key`.
MAX_KEY = 255
#: A user or a worker, as the log names it.
MAX_ACTOR = 150
#: The number of a version of this software.
MAX_VERSION = 50
#: The name of a status or of the channel of a change.
MAX_STATUS = 10
MAX_ACTION = 30
MAX_CHECKER = 50
#: A cron expression, and the name of a time zone.
MAX_SCHEDULE = 100
MAX_TIME_ZONE = 50
#: Minutes (a week).
MAX_DELAY = 10_080
#: A century. More days than that mean "never".
MAX_DAYS = 36_500
#: Failed checks in a row, after which a subscription reports a profile.
MAX_FAILURES = 1000
#: Subscriptions to a list, or to the queue: their messages are written under the lock of the queue.
MAX_SUBSCRIPTIONS = 100
#: Characters that a message quotes of a text that it rejects.
MAX_QUOTE = 200
#: The same for an ID, a name or a time zone that does not exist.
MAX_WANTED = 40
#: What PostgreSQL's smallint and bigint hold.
MIN_PRIORITY, MAX_PRIORITY = -32_768, 32_767
MAX_ID = 2**63 - 1

#: The most partitions that a batch is divided into. Each row stores its partition.
PARTITIONS = 256
#: The most batches that one bulk action changes.
MAX_BULK = 1000
#: Reasons in one retry.
MAX_REASONS = 100
#: Bytes of a list that is imported.
MAX_LIST_BYTES = 200_000_000
#: The thresholds of Python's garbage collector. We create few cycles, and with the defaults, collecting took a tenth of
#: the time of a batch.
GARBAGE_THRESHOLDS = (10_000, 20, 50)
