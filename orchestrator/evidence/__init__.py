"""What we can swear to afterwards."""
