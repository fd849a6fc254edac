"""Models with random weights for the benchmarks of speed."""
