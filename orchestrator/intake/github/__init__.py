"""GitHub Actions as a source of jobs: runner scale sets by long poll, webhooks and REST as the alternative.

What builds requests (`protocol`, `rest_protocol`) and reads answers (`answers`, `service_answers`, `rest_answers`) does
no I/O. `connect.GitHub` is what a source opens: one transport, one chain of tokens, a client for each of both services.
"""
