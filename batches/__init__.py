"""A batch queue that checks lists of public profiles. The README says how to use it."""

__version__ = "1.0.0"
