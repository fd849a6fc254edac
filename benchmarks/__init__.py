"""Benchmarks of speed and quality. The last line that each one prints is a JSON object."""
