"""Files for a Prometheus and a Grafana: prometheus.yml, rules/, dashboards/, and what builds or feeds them."""
