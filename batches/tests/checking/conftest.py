from batches.tests.hostile import hostile, peak
from batches.tests.working import commands, configure, script, server

__all__ = ["commands", "configure", "hostile", "peak", "script", "server"]
