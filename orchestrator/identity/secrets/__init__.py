"""Secrets that are still static: who may have which, their values, how they are replaced and how they end.

The room knows no job, no settings and no journal: the daemon tells it what it needs to know. A value leaves it for the
one who asked and for the owner's own hooks, and for nobody else.
"""
