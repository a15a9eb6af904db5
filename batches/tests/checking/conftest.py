from batches.tests.support.hostile import hostile
from batches.tests.support.working import commands, configure, script, server

__all__ = ["commands", "configure", "hostile", "script", "server"]
