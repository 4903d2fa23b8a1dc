"""Tells other systems what happened to jobs: messages built from facts, an outbox that survives the daemon, senders.

It must not know settings or keys: endpoints come as plain values, signatures from a callable.
"""
