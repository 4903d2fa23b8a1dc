"""The smallest clients of the test server's planes."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import aiohttp
import jwt

from orchestrator.testing.github.server import GitHubServer

VERSION = "api-version=6.0-preview"
SETS = "_apis/runtime/runnerscalesets"
AGENTS = "_apis/distributedtask/pools/0/agents"


class Answer:
    """Status, headers and body of one answer."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def type_name(self) -> str:
        return self.json["typeName"]


class Listener:
    """Speaks for one scope, as a scale set client does: holds its tokens and no state besides."""

    def __init__(self, github: GitHubServer, http: aiohttp.ClientSession) -> None:
        self.github, self.http = github, http
        self.service = self.admin = ""

    async def call(self, method: str, url: str, token: str = "", scheme: str = "Bearer", **more: Any) -> Answer:
        headers = {"Authorization": f"{scheme} {token}"} if token else {}
        headers |= more.pop("headers", {})
        async with self.http.request(method, url, headers=headers, **more) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def rest(self, method: str, path: str, token: str = "", **more: Any) -> Answer:
        return await self.call(method, f"{self.github.url}/api/v3{path}", token or self.github.personal_token, **more)

    def app_jwt(self, **claims: Any) -> str:
        now = int(time.time())
        whole = {"iss": self.github.app.client_id, "iat": now - 60, "exp": now + 480} | claims
        return jwt.encode(whole, self.github.app.private_key, algorithm="RS256")

    async def connect(self, scope: str = "acme") -> None:
        """The chain from a personal token to the admin token."""
        kind = "repos" if "/" in scope else "orgs"
        told = await self.rest("POST", f"/{kind}/{scope}/actions/runners/registration-token")
        assert told.status == 201
        body = {"url": self.github.config_url(scope), "runner_event": "register"}
        url = f"{self.github.url}/api/v3/actions/runner-registration"
        told = await self.call("POST", url, told.json["token"], "RemoteAuth", json=body)
        assert told.status == 201
        self.service, self.admin = told.json["url"], told.json["token"]

    async def ask(self, method: str, path: str, **more: Any) -> Answer:
        """A call to the Actions service."""
        mark = "&" if "?" in path else "?"
        token = more.pop("token", self.admin)
        return await self.call(method, f"{self.service}{path}{mark}{VERSION}", token, **more)

    async def make_set(self, name: str = "zt", labels: tuple[str, ...] = ()) -> dict[str, Any]:
        body = {"name": name, "runnerGroupId": 1, "RunnerSetting": {"disableUpdate": True}}
        body["labels"] = [{"type": "System", "name": label} for label in labels or (name,)]
        told = await self.ask("POST", SETS, json=body)
        assert told.status == 200
        return told.json

    async def open(self, set_id: int) -> dict[str, Any]:
        told = await self.ask("POST", f"{SETS}/{set_id}/sessions", json={"ownerName": "test"})
        assert told.status == 200
        return told.json

    async def poll(self, session: dict[str, Any], last: int = 0, capacity: int = 10, **headers: str) -> Answer:
        url = session["messageQueueUrl"] + (f"&lastMessageId={last}" if last else "")
        told = {"Accept": f"application/json; {VERSION}", "X-ScaleSetMaxCapacity": str(capacity)} | headers
        return await self.call("GET", url, session["messageQueueAccessToken"], headers=told)

    async def delete(self, session: dict[str, Any], message: int) -> Answer:
        url = session["messageQueueUrl"].replace("?", f"/{message}?")
        return await self.call("DELETE", url, session["messageQueueAccessToken"])

    async def events(self, session: dict[str, Any], last: int = 0, capacity: int = 10) -> list[dict[str, Any]]:
        """The inner messages of one poll, which is acknowledged."""
        answer = await self.poll(session, last, capacity)
        assert answer.status == 200, answer.body
        assert (await self.delete(session, answer.json["messageId"])).status == 204
        return json.loads(answer.json["body"]) if answer.json["body"] else []

    async def generate(self, set_id: int, name: str) -> Answer:
        return await self.ask("POST", f"{SETS}/{set_id}/generatejitconfig", json={"name": name, "workFolder": ""})

    async def agents(self, name: str) -> list[dict[str, Any]]:
        return (await self.ask("GET", f"{AGENTS}?agentName={quote(name)}")).json["value"]


class HandRunner:
    """A runner program made of single calls, so that a test decides what happens when."""

    def __init__(self, listener: Listener, name: str) -> None:
        self.listener = listener
        self.registered = next(one for one in listener.github.state.runners.values() if one.name == name)

    async def ask(self, method: str, path: str, **more: Any) -> Answer:
        return await self.listener.call(
            method, f"{self.listener.github.url}/_broker/{path}", self.registered.secret, **more
        )

    async def come(self) -> None:
        assert (await self.ask("POST", "session")).status == 200

    async def job(self) -> Answer:
        return await self.ask("GET", f"message?sessionId={self.registered.session_id}")

    async def complete(self, result: str = "succeeded", log: str = "") -> Answer:
        return await self.ask("POST", "complete", json={"result": result, "log": log, "steps": []})
