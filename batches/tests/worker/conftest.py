from batches.tests.working import commands, configure, script, server

__all__ = ["commands", "configure", "script", "server"]
