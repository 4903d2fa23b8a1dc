"""Ephemeral runner orchestrator: one isolated single-use runner for each CI job."""

__version__ = "0.1.0"
