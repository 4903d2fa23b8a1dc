"""Jobs by webhooks, and by asking for what they missed."""
