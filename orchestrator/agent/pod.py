"""The agent in a pod: proves that forbidden egress fails, claims the job, and leaves it to the job's container.

It is the pod's init container, run as `python -I -m orchestrator.agent.pod` in an image of its own. What it
writes into the memory volume that both containers share is all that the job's image needs besides `/bin/sh`:
`start` sets the environment and runs `job.sh`.

Exit codes are those of `sysexits.h` as in a sandbox: 69 runner API out of reach, 71 operating system error,
76 unusable answer, 77 claim refused, 78 not configured or egress not proven. 0 means that the job may start.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import ssl
import sys
import time
from typing import Any, NoReturn
from urllib.parse import urlsplit

from orchestrator.agent.egress_proof import Proof, Renewal, prove
from orchestrator.agent.job_files import write
from orchestrator.agent.main import EX_CONFIG, EX_NOPERM, EX_OSERR, EX_PROTOCOL, EX_UNAVAILABLE, REFUSALS, reason_of
from orchestrator.agent.surroundings import Failure, Surroundings, told

BEGAN = time.monotonic()
"""When this program did."""

WORK_FOLDER = "/run/orchestrator"
WORKSPACE = "/job"

CLAIM_SECONDS = 40.0
"""For one claim; the runner API holds one that has no work yet for 25 s."""
PATIENCE_SECONDS = 600.0
"""How long the runner API may be away. A waiting runner outlives a restart of the daemon."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
MAX_ANSWER = 16 << 20
UNFIT = 422
"""A claim holds what the daemon does not know: it is older than we are, as after the way back from an upgrade. What is
there for the trace only is left out then."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Claim this pod's job and prepare it for the job's container.")
    parser.add_argument("--work", default=WORK_FOLDER, help="folder shared with the job's container")
    parser.add_argument("--workspace", default=WORKSPACE, help="the job's working folder, in its container")
    parser.add_argument(
        "--prove", action="store_true", help="only prove that forbidden egress fails, and claim nothing"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, stopped)
    try:
        around = Surroundings.of(dict(os.environ))
        if options.prove:
            return proven(prove(around))
        work = Claims(around).until_work()
        write(work, around.ca_pem, options.work, options.workspace)
    except Failure as failure:
        return told(failure.code, str(failure))
    except OSError as error:
        return told(EX_OSERR, f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
    return 0


def proven(proof: Proof) -> int:
    if proof.reached:
        raise Failure(EX_CONFIG, f"forbidden destinations were reachable: {', '.join(proof.reached)}")
    return 0


def stopped(number: int, _frame: object) -> NoReturn:
    os._exit(told(128 + number, "stopped before the job began"))


class Claims:
    """Asks for the work until there is some. Meanwhile the proof is made anew, so that it is never old."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        try:
            self._api = urlsplit(around.runner_api)
            self._port = self._api.port or 443
            self._trust = ssl.create_default_context(cadata=around.ca_pem)
        except (ValueError, ssl.SSLError) as error:
            raise Failure(EX_CONFIG, f"the runner API's address or CA cannot be used: {error}") from None
        self._trust.minimum_version = ssl.TLSVersion.TLSv1_3
        self._trust.verify_flags |= ssl.VERIFY_X509_STRICT
        self._tells_times = True

    def until_work(self) -> dict[str, Any]:
        """The work; Failure when there will never be any."""
        proof = prove(self._around)
        heard, pause = time.monotonic(), FIRST_PAUSE
        renewal = Renewal(self._around)
        while True:
            problem = ""
            try:
                status, answer = self._ask(proof)
            except ssl.SSLCertVerificationError as error:
                raise Failure(EX_PROTOCOL, f"the runner API is not who it should be: {error.verify_message}") from None
            except (OSError, http.client.HTTPException) as error:
                status, answer, problem = 0, b"", str(error) or type(error).__name__
            if status == 200:
                return understood(answer)
            if status == 204:
                heard, pause = time.monotonic(), FIRST_PAUSE
                proof, renewal = renewal.result(), Renewal(self._around)
                continue
            problem = problem or f"{status} {reason_of(answer)}"
            if status == UNFIT and self._tells_times:
                self._tells_times = False
                continue
            if status and status != 429 and status < 500:
                raise Failure(REFUSALS.get(status, EX_PROTOCOL), f"the claim was refused: {problem}")
            if time.monotonic() - heard > PATIENCE_SECONDS:
                raise Failure(EX_UNAVAILABLE, f"the runner API did not answer: {problem}")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _ask(self, proof: Proof) -> tuple[int, bytes]:
        claim: dict[str, Any] = {"proof": {"denied": proof.denied, "reached": proof.reached}}
        if self._tells_times:
            now = time.monotonic()
            claim["ago"] = {"began": now - BEGAN, "proving": now - proof.began, "proven": now - proof.ended}
        body = json.dumps(claim).encode()
        headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": "application/json"}
        connection = http.client.HTTPSConnection(
            self._api.hostname or "", self._port, timeout=CLAIM_SECONDS, context=self._trust
        )
        with contextlib.closing(connection):
            connection.request("POST", "/runner/v1/claim", body, headers)
            response = connection.getresponse()
            answer = response.read(MAX_ANSWER + 1)
        if len(answer) > MAX_ANSWER:
            raise Failure(EX_PROTOCOL, "the claim's answer is too long")
        return response.status, answer

    def _token(self) -> str:
        """Read each time: the kubelet replaces it long before it expires."""
        try:
            with open(self._around.token_file, encoding="ascii") as file:
                token = file.read().strip()
        except (OSError, UnicodeDecodeError):
            raise Failure(EX_NOPERM, "the pod's own token cannot be read") from None
        if not token or not token.isprintable():
            raise Failure(EX_NOPERM, "the pod's own token is empty")
        return token


def understood(answer: bytes) -> dict[str, Any]:
    try:
        work = json.loads(answer)
        texts = [work["job"]["id"], work["job"]["script"]]
        texts += [work[name] for name in ("proxy_url", "exchange_url", "artifacts_url", "token_file")]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("job")
        return dict(work)
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(EX_PROTOCOL, f"the claim's answer is unusable: {type(error).__name__}") from None


if __name__ == "__main__":
    sys.exit(main())
