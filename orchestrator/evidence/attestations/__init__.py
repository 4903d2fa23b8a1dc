"""What others and we have signed about artifacts: read, checked against who may say what, and told as facts. Pure.

`reading` takes envelopes and bundles apart, `signers` says whose word counts for what, `facts` puts both together;
`making` is the other direction.
"""
