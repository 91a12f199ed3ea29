"""What Prometheus is shown: names of metrics, the board that a scrape reads, names of the first exporters, dashboards."""
