"""Metrics for Prometheus. docs/metrics.md lists them.

metric_table.py   declares every metric (declared.py: how)
run_metrics.py    observes the run's, on rank 0
node_metrics.py   observes a node's, on its first rank
server.py         serves a registry over HTTP(S), behind an optional bearer token
targets.py        writes the files by which Prometheus finds the endpoints
endpoint.py       puts these together on the ranks that serve
"""
