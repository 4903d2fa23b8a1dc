"""An upgrade as an operator meets it: one daemon hands over to the next, with jobs wherever jobs can be.

The old daemon and the new one are processes of one installation, each with its own settings; the next one's make other
pods. Callers go on dispatching all the while, to either address, as a Service does whose endpoints lag behind. Pods are
agents and shells on a scripted node; the cluster is told of them as a kubelet tells it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from orchestrator.daemon.clock import SystemClock
from orchestrator.evidence.signing_key import key_id, open_evidence_key
from orchestrator.journal.port import JobQuery
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.model.events import RunnerBound
from orchestrator.model.job import JobId
from orchestrator.testing.checker import World as Witnessed
from orchestrator.testing.checker import broken_promises
from orchestrator.testing.kubelet import Script
from orchestrator.testing.otlp import OtlpReceiver
from orchestrator.testing.pod_states import End
from orchestrator.testing.receipts import wrong_receipts
from orchestrator.testing.traces import received

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

URL = "https://runners.example"
AUDIENCE = "https://cloud.example"
"""Whom the policy of `HeldOpa` lets jobs ask for."""
CALLERS = 3
RETRYABLE = {"draining", "temporarily_unavailable", "rate_limited"}
BEGUN = "echo $ORCHESTRATOR_JOB_ID >> {ran}\n"
WAIT = "while [ ! -e {gate} ]; do sleep 0.05; done\n"


def _module(path: Path) -> Any:
    """Test modules are no package."""
    name = f"{path.stem}_of_an_upgrade"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


HERE = Path(__file__).parent
daemons = _module(HERE / "test_daemon.py")
HeldOpa = _module(HERE.parent / "acceptance" / "held_opa.py").HeldOpa


class Installation(daemons.Installation):
    """Pods whose agent has claimed run their script by themselves; agents claim while `let_claim` is set."""

    def __init__(self, *more: Any, **named: Any) -> None:
        super().__init__(*more, **named)
        self.let_claim = asyncio.Event()
        self.let_claim.set()
        self.agents_here: set[str] = set()
        self.said: dict[str, str] = {}
        self.shells: list[asyncio.Task] = []
        self.policy: dict[str, Any] = {}
        self.jobs: dict[str, str] = {}

    def settled_as(self, name: str, **changes: Any) -> Path:
        """Settings of a daemon of this installation with the port that `call` goes to; the file."""
        self.settings = {
            "server": {"port": self.port, "public_url": URL},
            "identity": {"audiences": {AUDIENCE: {}}},
            "policy": self.policy,
        }
        self.configure()
        document = yaml.safe_load((self.folder / "orchestrator.yaml").read_text())
        document["pools"][0]["capacity"] = 3
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document | changes))
        return path

    async def launch(self, config: Path) -> asyncio.subprocess.Process:
        self.daemon = await self.run("-m", "orchestrator", "run", "--config", str(config), log="daemon.log")
        return self.daemon

    def leads(self) -> bool:
        """Whether the newest daemon works."""
        try:
            return bool(json.loads((self.state / "daemon.json").read_bytes())["pid"] == self.daemon.pid)
        except (OSError, ValueError):
            return False

    async def stands_by(self) -> bool:
        try:
            return await daemons.readiness(self) == (503, "leads")
        except aiohttp.ClientConnectionError:
            return False

    async def agent(self, pod: Any) -> int:
        self.agents_here.add(pod.name)
        await self.let_claim.wait()
        code = await super().agent(pod)
        if code == 0:
            self.shells.append(asyncio.create_task(self._work(pod.name)))
        return code

    async def _work(self, pod: str) -> None:
        code, self.said[pod] = await self.job(pod)
        self.kubelet.end(pod, code)

    async def job_named(self, name: str, script: str, **more: Any) -> str:
        self.jobs[name] = await self.submit(name, script, name=name, **more)
        return self.jobs[name]

    async def view(self, name: str) -> dict[str, Any]:
        return await self.call("GET", f"/v1/jobs/{self.jobs[name]}")

    async def waits(self, name: str) -> bool:
        return bool((await self.view(name))["wait"])

    async def history(self) -> dict[JobId, Any]:
        """All facts of all jobs, from a copy of the journal's files; no daemon may run."""
        copy = self.folder / "copy"
        copy.mkdir()
        for file in self.state.glob("journal.db*"):
            shutil.copyfile(file, copy / file.name)
        journal = await SqliteJournal.open(copy / "journal.db", SystemClock())
        try:
            found: dict[JobId, Any] = {}
            while lines := await journal.jobs(JobQuery(after=next(reversed(found), ""), limit=200)):
                found |= {line.job_id: await journal.facts_of(line.job_id) for line in lines}
            return found
        finally:
            await journal.close()

    async def audit_verified(self) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "orchestrator", "audit", "verify", "--json", stdout=asyncio.subprocess.PIPE,
            cwd=daemons.ROOT, env=os.environ | {"ORCHESTRATOR_STATE_DIR": str(self.state)},
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == 0, out
        return dict(json.loads(out))


@dataclass
class Callers:
    """Dispatch job after job, each under a key of its own and as often as it takes. Policy denies these jobs, so that
    many go through and none needs a pod."""

    addresses: list[str]
    token: str
    accepted: dict[str, str] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _tasks: list[asyncio.Task] = field(default_factory=list)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self) -> None:
        self._tasks = [asyncio.create_task(self._go_on(f"caller-{number}")) for number in range(CALLERS)]

    async def end(self) -> None:
        self._over.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks)

    async def _go_on(self, who: str) -> None:
        number = 0
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {self.token}"}) as client:
            while not self._over.is_set():
                number += 1
                await self._dispatched(client, f"{who}-{number}")

    async def _dispatched(self, client: aiohttp.ClientSession, key: str) -> None:
        body = {"name": "denied", "script": "true"}
        for address in cycle(self.addresses):
            await asyncio.sleep(0.1)
            try:
                async with client.post(f"{address}/v1/jobs", json=body, headers={"Idempotency-Key": key}) as answer:
                    told = await answer.json(content_type=None)
            except aiohttp.ClientError as error:
                self.refused[type(error).__name__] += 1
                continue
            if answer.status in (200, 202):
                self.accepted[key] = told["id"]
                return
            self.refused[str(told.get("reason"))] += 1
            if told.get("reason") not in RETRYABLE or "Retry-After" not in answer.headers:
                self.wrong.append(f"{key}: {answer.status} {told}")
                return


@pytest.fixture
async def here(world, tmp_path) -> AsyncIterator[Installation]:
    async with OtlpReceiver() as receiver, HeldOpa() as opa:
        made = Installation(world, tmp_path, receiver)
        made.policy, made.opa = opa.setting, opa
        world.script = lambda _: Script(End.HOLD)
        made.kubelet = await world.kubelet(agent=made.agent)
        classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
        name = f"runner-{world.installation}"
        await world.call("POST", classes, {"metadata": {"name": name}, "value": 0, "preemptionPolicy": "Never"})
        try:
            yield made
        finally:
            made.let_claim.set()
            await made.close()
            for shell in made.shells:
                shell.cancel()
            await asyncio.gather(*made.shells, return_exceptions=True)
            await world.call("DELETE", f"{classes}/{name}")


async def jobs_everywhere(here: Installation) -> None:
    """One that will ask for a token and report an artifact, one that ends when its gate opens, one whose agent has not
    claimed, one that waits for a place, one whose admission nobody has decided."""
    begun = BEGUN.format(ran=here.folder / "ran")
    asking = f"orchestrator-token --audience {AUDIENCE} | cut -c1-3; echo x > f; orchestrator-artifact f | cut -c1-7"
    for name, then in (("long", asking), ("short", "exit 3")):
        await here.job_named(name, begun + WAIT.format(gate=here.folder / f"open-{name}") + then)
        await here.phase(here.jobs[name], "running")
    await here.until(lambda: len(ran(here)) == 2)
    here.let_claim.clear()
    await here.job_named("binding", begun)
    await here.phase(here.jobs["binding"], "binding")
    await here.until(lambda: len(here.agents_here) == 3)
    await here.job_named("waiting", begun)
    await here.until(lambda: here.waits("waiting"))
    await here.job_named("held", begun)
    await here.opa.asked_about("held")
    assert (await here.view("held"))["phase"] == "queued"


def ran(here: Installation) -> list[str]:
    """Ids of jobs in the order in which their scripts began, each time that one did."""
    path = here.folder / "ran"
    return path.read_text().split() if path.exists() else []


async def nothing_is_wrong(here: Installation, callers: Callers) -> None:
    """After the last daemon's end: promises, receipts, audit log and traces, of every job there was."""
    history = await here.history()
    accepted = [JobId(job) for job in (*here.jobs.values(), *callers.accepted.values())]
    assert len(accepted) == len(set(accepted)), "two dispatch calls got one job"
    assert set(history) == set(accepted), "a job that nobody was told of, or one that is lost"
    bound = {f.job_id: f.event.uid for facts in history.values() for f in facts if isinstance(f.event, RunnerBound)}
    handed_out = [(JobId(job), bound.pop(JobId(job), "again")) for job in ran(here)]
    assert broken_promises(Witnessed(accepted, handed_out), history) == []
    key = open_evidence_key(here.state / "keys" / "evidence")
    assert wrong_receipts(history, {key_id(key.public): key.public}) == []
    assert (await here.audit_verified())["ok"] is True
    assert await here.world.pod_names() == ["gateway-1"]
    assert [wrong for job in accepted for wrong in wrong_spans(here, job)] == []


def wrong_spans(here: Installation, job: str) -> list[str]:
    """What is wrong with the job's trace. A killed daemon may not know that its last spans were taken, so the next one
    sends them again: the very same ones."""
    trace = received(here.receiver, job)
    once = {span.SerializeToString(deterministic=True): span for span in trace.spans}
    logs = {log.SerializeToString(deterministic=True): log for log in trace.logs}
    return replace(trace, spans=list(once.values()), logs=list(logs.values())).problems()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["rolled out", "killed"])
async def test_the_next_daemon_takes_over_jobs_in_every_state_and_no_call_is_lost(here, number):
    old_port, here.port = here.port, daemons.free_port()
    new = here.settled_as("new")
    new.write_text(new.read_text().replace("registry.example/agent:1", "registry.example/agent:2"))
    new_port, here.port = here.port, old_port
    leader = await here.launch(here.settled_as("old"))
    await here.until(here.leads)
    await here.start_gateway()
    token = (here.state / "caller-token").read_text()
    callers = Callers([f"http://127.0.0.1:{port}" for port in (old_port, new_port)], token)
    await jobs_everywhere(here)
    here.port = new_port
    await here.launch(new)
    await here.until(here.stands_by)
    callers.begin()
    await here.until(lambda: len(callers.accepted) >= 5)

    leader.send_signal(number)
    async with asyncio.timeout(60):
        assert await leader.wait() == (0 if number is signal.SIGTERM else -number)
    before = len(callers.accepted)
    for name in ("short", "long"):  # they end, and ask the daemon, while there is none, or nearly
        (here.folder / f"open-{name}").touch()
    here.let_claim.set()
    await here.until(here.leads, 60)
    await here.until(lambda: len(callers.accepted) >= before + 5)
    here.opa.let_go()

    results = {name: await here.phase(job, "finished", 60) for name, job in here.jobs.items()}
    assert {name: (view["result"], view["exit_code"]) for name, view in results.items()} == {
        "long": ("success", 0), "short": ("failure", 3), "binding": ("success", 0), "waiting": ("success", 0),
        "held": ("success", 0),
    }  # fmt: skip
    assert here.said[results["long"]["runner"]["name"]] == "eyJ\nsha256:\n", "the next daemon answers its jobs"
    assert [one["name"] for one in results["long"]["artifacts"]] == ["f"]
    assert sorted(ran(here)) == sorted(here.jobs.values()), "each script began once"
    await callers.end()
    for job in callers.accepted.values():
        assert (await here.phase(job, "finished"))["result"] == "denied"
    assert callers.wrong == []
    await here.until(lambda: all(received(here.receiver, job).spans for job in callers.accepted.values()))
    here.daemon.terminate()
    async with asyncio.timeout(60):
        assert await here.daemon.wait() == 0
    await nothing_is_wrong(here, callers)


async def test_a_new_version_that_cannot_start_leaves_everything_as_it_was(here):
    """One whose settings are unfit never gets as far as the Lease; one whose rules are gives it back, for the version
    before to go on."""
    here.policy = daemons_policy(here)
    old = here.settled_as("old")
    leader = await here.launch(old)
    await here.until(here.leads)
    await here.start_gateway()
    script = BEGUN.format(ran=here.folder / "ran") + WAIT.format(gate=here.folder / "open")
    await here.job_named("long", script)
    pod = (await here.phase(here.jobs["long"], "running"))["runner"]["name"]
    await here.until(lambda: ran(here))

    unfit = await here.launch(here.settled_as("unfit", no_such_setting=1))
    async with asyncio.timeout(60):
        assert await unfit.wait() == 1
    here.daemon = leader
    assert "no_such_setting" in here.log
    await here.job_named("meanwhile", "true", deployment_environment="prod")
    assert (await here.phase(here.jobs["meanwhile"], "finished"))["result"] == "denied"

    old_port, here.port = here.port, daemons.free_port()
    broken = here.settled_as("broken", policy={"bundle": str(broken_bundle(here.folder))})
    failing = await here.launch(broken)
    await here.until(here.stands_by)
    leader.terminate()
    async with asyncio.timeout(60):
        assert await leader.wait() == 0
        assert await failing.wait() == 1
    assert "[policy_tests_failed]" in here.log
    assert await holder(here) == "", "nobody need wait for a Lease to run out"
    here.port = old_port
    await here.launch(old)
    await here.until(here.leads)
    assert (await here.view("long"))["phase"] == "running"
    (here.folder / "open").touch()
    finished = await here.phase(here.jobs["long"], "finished", 60)
    assert (finished["result"], finished["runner"]["name"]) == ("success", pod)
    assert ran(here) == [here.jobs["long"]]


def daemons_policy(here: Installation) -> dict[str, Any]:
    """The rules that the other tests of daemons have, which `configure` writes."""
    return {"bundle": str(here.folder / "policy")}


def broken_bundle(folder: Path) -> Path:
    """The same rules, and tests of theirs that fail."""
    made = folder / "broken"
    shutil.copytree(folder / "policy", made)
    rules = made / "decision.rego"
    rules.write_text(rules.read_text().replace('"allow": true', '"allow": false'))
    return made


async def holder(here: Installation) -> str:
    space, name = here.world.namespaces[0], f"orchestrator-{here.world.installation}"
    lease = await here.world.call("GET", f"/apis/coordination.k8s.io/v1/namespaces/{space}/leases/{name}")
    return str(lease["spec"].get("holderIdentity") or "")


async def test_a_new_version_that_is_told_to_stop_in_its_start_gives_the_lease_back(here):
    """A second rollout right behind the first. The policy server keeps it from becoming ready."""
    asked = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()  # until it has gone
        writer.close()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    here.policy = {"engine": "opa", "opa_url": url, "timeout_seconds": 60}
    async with server:
        starting = await here.launch(here.settled_as("new"))
        await here.until(asked.is_set, 60)
        assert await holder(here) != ""
        starting.terminate()
        async with asyncio.timeout(60):
            assert await starting.wait() == 0
    assert await holder(here) == ""
