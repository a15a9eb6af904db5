"""How fast the queue is. `make bench` runs all of it; `python -m benchmarks noop --profiles 10000` one part, smaller.

Machines differ and are noisy: the figures to look at are the ratios, whose two sides are measured in the same run.
"""
