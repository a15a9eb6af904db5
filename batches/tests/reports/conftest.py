from batches.tests.support.terminal import manage

__all__ = ["manage"]
