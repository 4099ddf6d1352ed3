"""What a run serves to Prometheus, and how it is found. Every metric stands in docs/metrics.md.

run_metrics.py    the whole run, on rank 0
node_metrics.py   a node, on its first rank
tables.py         labelled gauges that are replaced as a whole
server.py         HTTP(S) with an optional bearer token
targets.py        file_sd: one file an endpoint
endpoint.py       all of these, put together on the ranks that serve
"""
