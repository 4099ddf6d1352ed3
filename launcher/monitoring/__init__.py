"""What a Prometheus and a Grafana load: prometheus.yml, rules/, dashboards/, and what builds or feeds them."""
