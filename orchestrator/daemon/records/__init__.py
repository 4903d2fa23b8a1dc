"""What the daemon leaves on record: the audit log, decisions, receipts, provenance."""
