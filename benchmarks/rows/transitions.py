"""Transitions in long queues, against moving each waiting batch separately."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.frame import OURS, Contender, Contest, Figures, Goal, Row, Scale, prose
from benchmarks.ours import Project
from benchmarks.services.databases import LABELS, Databases, databases

BY_HAND = "one UPDATE for each batch"

DIFFERS = prose("""
    The median over eleven transitions, each of which moves as many waiting batches as it can; the other contender
    takes the first batch from the queue and moves the others up one by one, in one transaction.
""")


@contextmanager
def open_transitions(vendor: str, scale: Scale) -> Iterator[Contest]:
    sizes = [100, 1_000, 10_000, 100_000] if not scale.small else [50, 200]
    # 100,000 single statements take a minute and show nothing new.
    few = [size for size in sizes if size <= 10_000]
    with databases(vendor) as created:
        yield Contest(
            [
                Contender(OURS, lambda: measure(created, sizes, by_hand=False)),
                Contender(BY_HAND, lambda: measure(created, few, by_hand=True)),
            ],
            [
                Goal(
                    f"of {BY_HAND}, with {few[-1]:,} waiting",
                    f"calls/s with {few[-1]:,} waiting",
                    30,
                    against=(BY_HAND,),
                ),
                Goal("queries more in the longest queue", "queries more in the longest queue", 0, at_most=True),
            ],
            DIFFERS,
        )


def measure(created: Databases, sizes: list[int], by_hand: bool) -> Figures:
    with created.new() as database:
        return Project(database).inside("transitions", sizes=sizes, by_hand=by_hand)


ROWS = [
    Row(
        f"transitions-{vendor}",
        f"Transitions with 100 to 100,000 waiting on {label}",
        30,
        partial(open_transitions, vendor),
    )
    for vendor, label in LABELS.items()
]
