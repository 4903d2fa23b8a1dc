"""Policy over HTTP, without a job."""
