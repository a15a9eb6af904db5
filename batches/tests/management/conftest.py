from batches.tests.support.terminal import manage
from batches.tests.support.working import commands, configure, script, server

__all__ = ["commands", "configure", "manage", "script", "server"]
