"""GitHub Actions as a source of jobs: runner scale sets by long poll, webhooks and REST as the alternative.

`urls`, `protocol`, `rest_protocol`, `messages`, `rest_objects`, `fields`, `errors` and `answers` do no I/O.
`connect.GitHub` is what a source opens: one transport, one chain of tokens, a client for each of the two services.
"""
