"""The tracker of release tickets: one ticket read by its id. It is no source of jobs, and knows nothing of policy."""
