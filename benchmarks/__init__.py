"""Each benchmark is `python -m benchmarks.NAME --json OUT`: a table for people, a flat JSON of figures."""
