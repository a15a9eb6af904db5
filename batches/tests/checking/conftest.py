from batches.tests.support.hostile import hostile, peak
from batches.tests.support.working import commands, configure, script, server

__all__ = ["commands", "configure", "hostile", "peak", "script", "server"]
