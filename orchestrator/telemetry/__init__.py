"""How machines see it: traces, metrics, logs; all read from the journal's facts."""
