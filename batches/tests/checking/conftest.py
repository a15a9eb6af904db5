from batches.tests.support.hostile import hostile
from batches.tests.support.nameserver import names

__all__ = ["hostile", "names"]
