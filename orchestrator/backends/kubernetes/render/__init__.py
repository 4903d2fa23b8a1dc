"""Everything an installation needs in a cluster, as documents: pools, rights, admission, daemon, gateway. Pure."""
