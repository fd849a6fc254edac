"""Random-weight models for the benchmarks of speed."""
