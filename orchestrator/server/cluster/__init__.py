"""What a cluster itself asks: its API server, its gateways."""
