"""The signed proof of what a job had and how each of it ended. Pure: the daemon gives it facts and what it saw."""
