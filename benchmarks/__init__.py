"""Measure converted models: latency, memory, records, tables, plots."""

if __name__ != "fer_edge.benchmarks":
    raise ImportError(f"import fer_edge.benchmarks, not {__name__}: install the project with pip install -e .")
