"""The deliveries of a webhook: listing them, and asking for one again."""

from __future__ import annotations

from typing import Any

from orchestrator.testing.github.access import repository_of, require
from orchestrator.testing.github.clock import rest_time
from orchestrator.testing.github.routes_auth import REST_KINDS
from orchestrator.testing.github.state import GitHubState
from orchestrator.testing.github.tokens import App, Kind
from orchestrator.testing.github.webhooks import Delivery, Hook, Webhooks
from orchestrator.testing.github.wire import ApiError, Call, Endpoint, Plane, Reply

_PLACES = (
    ("/app/hook", (Kind.APP,)),
    ("/orgs/{org}/hooks/{hook}", REST_KINDS),
    ("/repos/{owner}/{repo}/hooks/{hook}", REST_KINDS),
)


class HookRoutes:
    """One set of endpoints for hooks of an app, of an organization and of a repository."""

    def __init__(self, state: GitHubState, webhooks: Webhooks, app: App) -> None:
        self._state = state
        self._webhooks = webhooks
        self._app = app

    def endpoints(self) -> list[Endpoint]:
        table: list[Endpoint] = []
        for place, kinds in _PLACES:
            at = place + "/deliveries"
            table += [
                Endpoint("GET", at, self._list, Plane.REST, kinds),
                Endpoint("GET", at + "/{id}", self._one, Plane.REST, kinds),
                Endpoint("POST", at + "/{id}/attempts", self._again, Plane.REST, kinds),
            ]
        return table

    async def _list(self, call: Call) -> Reply:
        hook = self._hook(call, "read")
        found = [self._document(one) for one in self._webhooks.kept(hook)]
        start = int(call.query("cursor") or 0)
        size = min(100, int(call.query("per_page") or 30))
        headers = {}
        if start + size < len(found):
            url = call.request.url.update_query(cursor=start + size, per_page=size)
            headers["Link"] = f'<{url}>; rel="next"'
        return Reply(200, found[start : start + size], headers)

    async def _one(self, call: Call) -> Reply:
        delivery = self._delivery(call, "read")
        payload = delivery.body.decode()
        return Reply(200, self._document(delivery) | {"request": {"payload": payload}})

    async def _again(self, call: Call) -> Reply:
        self._webhooks.redeliver(self._delivery(call, "write"))
        return Reply(202, {})

    def _delivery(self, call: Call, level: str) -> Delivery:
        hook, wanted = self._hook(call, level), call.number("id")
        for delivery in self._webhooks.kept(hook):
            if delivery.id == wanted:
                return delivery
        raise ApiError(404, "Not Found")

    def _hook(self, call: Call, level: str) -> Hook:
        if "org" in call.place:
            require(call, f"organization_hooks:{level}")
            scope = call.place["org"]
        elif "owner" in call.place:
            scope = repository_of(call, self._state).full_name
            require(call, f"repository_hooks:{level}")
        else:
            scope = "app"
        for hook in self._webhooks.hooks.values():
            if hook.scope.lower() == scope.lower() and call.place.get("hook", str(hook.id)) == str(hook.id):
                return hook
        raise ApiError(404, "Not Found")

    def _document(self, delivery: Delivery) -> dict[str, Any]:
        return {
            "id": delivery.id,
            "guid": delivery.guid,
            "delivered_at": rest_time(delivery.created_at),
            "redelivery": delivery.redelivery,
            "duration": delivery.duration,
            "status": delivery.status or "pending",
            "status_code": delivery.status_code,
            "event": delivery.event,
            "action": delivery.action or None,
            "installation_id": self._app.installation_id if delivery.hook.kind == "integration" else None,
            "repository_id": None,
            "throttled_at": None,
        }
