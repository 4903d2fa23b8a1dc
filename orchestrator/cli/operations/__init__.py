"""Commands for whoever runs the daemon."""
