from batches.tests.support.hostile import hostile
from batches.tests.support.nameserver import names
from batches.tests.support.working import commands, configure, script, server

__all__ = ["commands", "configure", "hostile", "names", "script", "server"]
