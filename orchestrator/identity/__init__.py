"""Who the job is: claims, keys, issuer, exchange, and the checking of others' tokens."""
