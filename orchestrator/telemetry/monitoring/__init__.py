"""What people watch the metrics with: alert rules for Prometheus and a dashboard for Grafana. Pure documents."""
