"""Identity's exchange in the words of the runner API: form fields in, an OAuth answer out."""

from __future__ import annotations

import logging

from orchestrator.identity import exchange as identity
from orchestrator.identity.grammar import ExchangeRefusedError, parse_request
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.server.deps import Exchange, TokenAnswer

log = logging.getLogger("orchestrator.server.runner.token")


def token_exchange(exchange: identity.Exchange) -> Exchange:
    """The callable for `RunnerApiDeps.exchange`. A refusal's reason goes to the log, its reference to the job."""

    async def ask(runner: RunnerIdentity, form: list[tuple[str, str]]) -> TokenAnswer:
        try:
            return TokenAnswer(200, await exchange.exchange(runner, parse_request(form)))
        except ExchangeRefusedError as refused:
            log.info(
                "token refused",
                extra={"runner": runner.name, "reason": refused.reason, "reference": refused.reference},
                exc_info=refused.__cause__,
            )
            headers = {"Retry-After": str(refused.retry_after_seconds)} if refused.retry_after_seconds else {}
            return TokenAnswer(refused.status, refused.answer(), headers)

    return ask
