"""The commands `orchestrator-token` (a job's own tokens, and what clouds and other parties give for them) and
`orchestrator-artifact` (what it built, and documents about that).

Delivered into sandboxes and pods as a folder beside the commands, so: standard library only, Python 3.9 or newer,
imports among these modules relative, and no module loaded before its subcommand needs it.
"""
