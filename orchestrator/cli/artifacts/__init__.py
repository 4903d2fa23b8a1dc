"""What is known of artifacts, and signed about them."""
