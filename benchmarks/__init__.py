"""Every number the README quotes: ``python -m benchmarks.<area>.<name>`` prints a table and writes its results as JSON."""
