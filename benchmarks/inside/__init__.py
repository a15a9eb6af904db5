"""Measurements that call the project's code. `python -m benchmarks.inside MODULE JSON` runs one in a new process."""
