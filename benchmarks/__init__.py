"""What the pool costs, measured: `python -m benchmarks` takes every figure and prints the tables."""
