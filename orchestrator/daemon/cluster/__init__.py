"""The `kubernetes` backend's side of the daemon: its gateways, its gate, its pods' logs, and who leads."""
