"""What a pod's agent is told by the pod's document, and how it says why the job does not begin."""

from __future__ import annotations

import os
from dataclasses import dataclass

from orchestrator.agent.main import EX_CONFIG


class Failure(Exception):  # noqa: N818 -- an end, not a fault
    """Why the job does not begin: an exit code and one line."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Surroundings:
    """What the pod's document says. `api_server` is the one forbidden address that surely answers if it can."""

    runner_api: str
    ca_pem: str
    gateway: str
    token_file: str
    api_server: tuple[str, int]

    @classmethod
    def of(cls, variables: dict[str, str]) -> Surroundings:
        """From the environment; Failure 78 for what is missing."""
        names = ("RUNNER_API", "CA_PEM", "GATEWAY", "TOKEN_FILE")
        found = [variables.get("ORCHESTRATOR_" + name, "") for name in names]
        host, port = variables.get("KUBERNETES_SERVICE_HOST", ""), variables.get("KUBERNETES_SERVICE_PORT", "443")
        missing = ["ORCHESTRATOR_" + name for name, value in zip(names, found, strict=True) if not value]
        if not host:
            missing.append("KUBERNETES_SERVICE_HOST")
        if missing or not port.isdecimal():
            raise Failure(EX_CONFIG, f"the pod's document lacks {', '.join(missing) or 'a port of the API server'}")
        runner_api, ca_pem, gateway, token_file = found
        return cls(runner_api, ca_pem, gateway, token_file, (host, int(port)))


def told(code: int, message: str) -> int:
    """One line, which becomes the pod's termination message."""
    text = " ".join(message.split())[:1000]
    os.write(2, f"orchestrator-agent: {text}\n".encode("utf-8", "replace"))
    return code
