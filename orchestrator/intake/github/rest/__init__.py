"""GitHub's REST API: runs, jobs, runners, deliveries."""
