"""Speed and quality of specfuse; each benchmark ends with one JSON line."""
