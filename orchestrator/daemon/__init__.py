"""The composition root: settings in, running program out. The only place that knows every room."""

from orchestrator.daemon.main import run

__all__ = ["run"]
