"""What a pipeline's own file gives away before anything runs: known dangers, found by reading it."""
