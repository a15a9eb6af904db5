"""The speed of the queue. `make bench` runs everything, `python -m benchmarks noop --profiles 10000` one small part.

Machines differ and are noisy. Compare the ratios, which have both sides from the same run.
"""
