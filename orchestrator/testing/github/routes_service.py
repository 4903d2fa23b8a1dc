"""The Actions service as its clients see it: scale sets, sessions, just-in-time configuration, runners."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from orchestrator.testing.github.assignment import statistics
from orchestrator.testing.github.clock import instant
from orchestrator.testing.github.faults import Faults
from orchestrator.testing.github.model import Runner, ScaleSet, Session
from orchestrator.testing.github.state import GitHubState
from orchestrator.testing.github.tokens import Grant, Kind, Tokens
from orchestrator.testing.github.wire import ApiError, Call, Endpoint, Plane, Reply

_WEB_API = "GitHub.Actions.Runtime.WebApi."
_AGENTS = "GitHub.DistributedTask.WebApi."
_SETS = "/_apis/runtime/runnerscalesets"
_POOL = "/_apis/distributedtask/pools/0/agents"


class ServiceRoutes:
    """`queue_url` is where listeners poll, `runner_url` where runner programs reach this server."""

    def __init__(self, state: GitHubState, tokens: Tokens, faults: Faults) -> None:
        self._state = state
        self._tokens = tokens
        self._faults = faults
        self.queue_url = ""
        self.runner_url = ""

    def endpoints(self) -> list[Endpoint]:
        table = [
            ("GET", _SETS, self._find_sets, Kind.ADMIN),
            ("POST", _SETS, self._create_set, Kind.ADMIN),
            ("GET", _SETS + "/{id}", self._get_set, Kind.ADMIN),
            ("PATCH", _SETS + "/{id}", self._update_set, Kind.ADMIN),
            ("DELETE", _SETS + "/{id}", self._delete_set, Kind.ADMIN),
            ("GET", "/_apis/runtime/runnergroups", self._find_groups, Kind.ADMIN),
            ("POST", _SETS + "/{id}/sessions", self._create_session, Kind.ADMIN),
            ("PATCH", _SETS + "/{id}/sessions/{session}", self._refresh_session, Kind.ADMIN),
            ("DELETE", _SETS + "/{id}/sessions/{session}", self._delete_session, Kind.ADMIN),
            ("POST", _SETS + "/{id}/acquirejobs", self._acquire, Kind.QUEUE),
            ("GET", _SETS + "/{id}/acquirablejobs", self._acquirable, Kind.ADMIN),
            ("POST", _SETS + "/{id}/generatejitconfig", self._generate, Kind.ADMIN),
            ("GET", _POOL, self._find_runners, Kind.ADMIN),
            ("GET", _POOL + "/{id}", self._get_runner, Kind.ADMIN),
            ("DELETE", _POOL + "/{id}", self._delete_runner, Kind.ADMIN),
        ]
        return [Endpoint(method, path, handler, Plane.SERVICE, (kind,)) for method, path, handler, kind in table]

    # --- scale sets ---

    async def _find_sets(self, call: Call) -> Reply:
        name, group = call.query("name"), call.query("runnerGroupId")
        found = [
            self._set_document(one)
            for one in self._state.sets.values()
            if one.scope == _scope(call) and name in ("", one.name) and group in ("", str(one.group_id))
        ]
        return _listing(found)

    async def _create_set(self, call: Call) -> Reply:
        wanted = _object(call)
        name, group = str(wanted.get("name") or ""), int(wanted.get("runnerGroupId") or 1)
        if not name:
            raise ApiError(400, "The name of a runner scale set may not be empty.", "System.ArgumentException")
        if group not in self._state.groups:
            raise ApiError(404, f"Runner group {group} not found.", _WEB_API + "RunnerGroupNotFoundException")
        if any((o.name, o.group_id, o.scope) == (name, group, _scope(call)) for o in self._state.sets.values()):
            text = f"A runner scale set named {name} exists in this group."
            raise ApiError(400, text, _WEB_API + "RunnerScaleSetExistsException")
        labels = _labels(wanted.get("labels")) or [("System", name)]
        setting = wanted.get("RunnerSetting") or {}
        one = self._state.add_set(_scope(call), name, group, labels, setting=setting)
        return Reply(200, self._set_document(one))

    async def _get_set(self, call: Call) -> Reply:
        return Reply(200, self._set_document(self._set(call)))

    async def _update_set(self, call: Call) -> Reply:
        one, wanted = self._set(call), _object(call)
        one.name = wanted.get("name") or one.name
        one.group_id = wanted.get("runnerGroupId") or one.group_id
        one.setting = wanted.get("RunnerSetting") or one.setting
        return Reply(200, self._set_document(one))

    async def _delete_set(self, call: Call) -> Reply:
        self._state.remove_set(self._set(call))
        return Reply(204)

    async def _find_groups(self, call: Call) -> Reply:
        name = call.query("groupName")
        found = [
            {"id": id_, "name": group, "size": 0, "isDefaultGroup": id_ == 1}
            for id_, group in self._state.groups.items()
            if name.lower() in ("", group.lower())
        ]
        return _listing(found)

    # --- sessions ---

    async def _create_session(self, call: Call) -> Reply:
        one = self._set(call)
        owner = str(_object(call).get("ownerName") or "")
        if (other := self._state.active_session(one)) is not None:
            text = f"The runner scale set {one.name} already has an active session for owner {other.owner}."
            raise ApiError(409, text, _WEB_API + "RunnerScaleSetSessionConflictException")
        if self._faults.forget_messages:
            one.messages.clear()
        return Reply(200, self._session_document(self._state.open_session(one, owner)))

    async def _refresh_session(self, call: Call) -> Reply:
        session = self._session(call)
        return Reply(200, self._session_document(session))

    async def _delete_session(self, call: Call) -> Reply:
        self._state.end_session(self._session(call).scale_set)
        return Reply(204)

    def _session(self, call: Call) -> Session:
        one = self._set(call)
        session = self._state.active_session(one)
        if session is None or session.id != call.place["session"]:
            text = f"Session {call.place['session']} was not found in the session store."
            raise ApiError(404, text, "GitHub.Runner.Admin.RunnerAdminException")
        return session

    # --- jobs ---

    async def _acquire(self, call: Call) -> Reply:
        one, ids = self._set(call), call.json()
        if call.grant is None or one.session is None or call.grant.session != one.session.id:
            raise ApiError(401, "The message queue token is of another session.", _WEB_API + "UnauthorizedException")
        if not isinstance(ids, list) or not all(isinstance(number, int) for number in ids):
            raise ApiError(400, "Expected a list of request ids.", "System.ArgumentException")
        won = self._state.assignment.acquire(one, ids)
        return _listing(won)

    async def _acquirable(self, call: Call) -> Reply:
        jobs = [
            {
                "acquireJobUrl": "",
                "messageType": "JobAvailable",
                "runnerRequestId": job.request_id,
                "repositoryName": job.run.repository.name,
                "ownerName": job.run.repository.owner.login,
                "jobWorkflowRef": job.plan.job_workflow_ref or job.run.workflow_ref,
                "eventName": job.run.event,
                "requestLabels": list(job.plan.labels),
            }
            for job in self._set(call).available.values()
        ]
        return _listing(jobs) if jobs else Reply(204)

    # --- runners ---

    async def _generate(self, call: Call) -> Reply:
        one, wanted = self._set(call), _object(call)
        name = str(wanted.get("name") or "")
        if not name:
            raise ApiError(400, "The name of a runner may not be empty.", "System.ArgumentException")
        if self._state.runner_named(one.scope, name) is not None:
            raise ApiError(409, f"Runner {name} already exists.", _AGENTS + "TaskAgentExistsException")
        labels = [label for _, label in one.labels]
        folder = str(wanted.get("workFolder") or "_work")
        runner = self._state.register(
            one.scope, name, labels=labels, group_id=one.group_id, work_folder=folder, one=one
        )
        return Reply(200, {"runner": _runner_document(runner), "encodedJITConfig": jit_blob(runner, self.runner_url)})

    async def _find_runners(self, call: Call) -> Reply:
        name = call.query("agentName")
        here = [runner for runner in self._state.runners.values() if runner.scope == _scope(call)]
        return _listing([_runner_document(runner) for runner in here if name in ("", runner.name)])

    async def _get_runner(self, call: Call) -> Reply:
        runner = self._state.runners.get(call.number("id"))
        if runner is None:
            text = f"Runner {call.place['id']} was not found."
            raise ApiError(404, text, _AGENTS + "TaskAgentNotFoundException")
        return Reply(200, _runner_document(runner))

    async def _delete_runner(self, call: Call) -> Reply:
        runner = self._state.runners.get(call.number("id"))
        if runner is not None and runner.busy:
            raise ApiError(400, f"Runner {runner.name} is running a job.", _WEB_API + "JobStillRunningException")
        if runner is not None:
            self._state.remove_runner(runner)
        return Reply(204)

    # --- documents ---

    def _set(self, call: Call) -> ScaleSet:
        one = self._state.sets.get(call.number("id"))
        if one is None or one.scope != _scope(call):
            text = f"No runner scale set found with identifier {call.place['id']}."
            raise ApiError(404, text, _WEB_API + "RunnerScaleSetNotFoundException")
        return one

    def _set_document(self, one: ScaleSet) -> dict[str, Any]:
        return {
            "id": one.id,
            "name": one.name,
            "runnerGroupId": one.group_id,
            "runnerGroupName": self._state.groups.get(one.group_id, ""),
            "labels": [{"id": 0, "type": kind, "name": name} for kind, name in one.labels],
            "RunnerSetting": one.setting,
            "createdOn": instant(one.created_at),
            "enabled": one.enabled,
            "status": "online" if one.session else "offline",
            "runnerJitConfigUrl": f"{_SETS}/{one.id}/generatejitconfig",
            "statistics": self.statistics(one),
        }

    def statistics(self, one: ScaleSet) -> dict[str, int]:
        """As reported: all zero while that switch is on."""
        numbers = statistics(one)
        return dict.fromkeys(numbers, 0) if self._faults.zero_statistics else numbers

    def _session_document(self, session: Session) -> dict[str, Any]:
        now, one = self._state.clock.now(), session.scale_set
        session.seen_at = now
        grant = Grant(Kind.QUEUE, now + self._state.options.queue_token, one.scope, session.id)
        url = f"{self.queue_url}?sessionId={session.id}&source=runnerscalesets"
        return {
            "sessionId": session.id,
            "ownerName": session.owner,
            "runnerScaleSet": self._set_document(one),
            "messageQueueUrl": "" if self._faults.empty_queue_url else url,
            "messageQueueAccessToken": self._tokens.issue_jwt(grant),
            "statistics": self.statistics(one),
        }


def jit_blob(runner: Runner, url: str) -> str:
    """What the runner program is given: base64 of a map of files, in the layout of the real one.

    The credential is a bearer secret instead of an RSA key, so that the stand-in needs no signatures.
    """
    settings = {
        "AgentId": str(runner.id),
        "AgentName": runner.name,
        "PoolId": "1",
        "PoolName": "Default",
        "ServerUrl": url + "/",
        "ServerUrlV2": f"{url}/_broker/",
        "GitHubUrl": f"{url}/{runner.scope}",
        "WorkFolder": runner.work_folder,
        "Ephemeral": "True",
        "DisableUpdate": "True",
        "UseV2Flow": "True",
    }
    credentials = {"scheme": "OAuth", "data": {"clientId": runner.secret, "authorizationUrlV2": f"{url}/_broker/"}}
    files = {".runner": settings, ".credentials": credentials, ".credentials_rsaparams": {}}
    encoded = {name: base64.b64encode(msgspec.json.encode(value)).decode() for name, value in files.items()}
    return base64.b64encode(msgspec.json.encode(encoded)).decode()


def _runner_document(runner: Runner) -> dict[str, Any]:
    return {
        "id": runner.id,
        "name": runner.name,
        "runnerScaleSetId": runner.scale_set.id if runner.scale_set else 0,
        "runnerGroupId": runner.group_id,
        "createdOn": instant(runner.created_at),
        "os": "linux",
        "version": "2.335.0",
        "enabled": True,
        "ephemeral": True,
        "disableUpdate": True,
        "status": "online" if runner.online else "offline",
        "provisioningState": "Provisioned",
        "busy": runner.busy,
        "labels": [{"type": "system", "name": label} for label in runner.labels],
    }


def _listing(values: list[Any]) -> Reply:
    return Reply(200, {"count": len(values), "value": values})


def _scope(call: Call) -> str:
    return call.grant.scope if call.grant is not None else ""


def _object(call: Call) -> dict[str, Any]:
    wanted = call.json() if call.body else {}
    if not isinstance(wanted, dict):
        raise ApiError(400, "Expected an object.", "System.ArgumentException")
    return wanted


def _labels(value: Any) -> list[tuple[str, str]]:
    return [(str(one.get("type") or "System"), str(one.get("name") or "")) for one in value or () if one.get("name")]
