"""The whole way: a job builds a commit, and a release of it is judged by what GitHub and the tracker say of it now."""

from __future__ import annotations

import json

import pytest

from orchestrator.model.job import Caller
from orchestrator.policy.bundle import default_bundle
from orchestrator.testing.github.faults import Fault
from orchestrator.testing.github.server import GitHubServer
from orchestrator.testing.tracker import TrackerFault, TrackerServer

pytestmark = pytest.mark.sandbox

BUILD = """
echo "$ORCHESTRATOR_JOB_ID" > app.txt
printf '{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"type": "library", "name": "a"}]}' > bom.json
orchestrator-artifact app.txt --sbom bom.json
"""
SOURCE = {"commit_not_on_protected_branch", "commit_unreviewed", "commit_unsigned"}
TICKET = {"ticket_missing", "ticket_unfit"}


class Release:
    """`acme/shop` at the stand-ins, and a world whose policy wants a protected, reviewed commit and an open ticket."""

    def __init__(self, world, github, tracker) -> None:
        self.world, self.github, self.tracker = world, github, tracker
        self.repository = github.state.repositories["acme/shop"]
        self.kim = github.person("kim", right="write", repository="acme/shop")
        self.lee = github.person("lee", right="write", repository="acme/shop")
        self.repository.history.commit(self.kim, branch="main")

    def merged(self, *reviewers) -> str:
        history = self.repository.history
        pull = history.propose(self.kim, "main", history.commit(self.kim, parents=[history.heads["main"]]))
        for one in reviewers:
            history.review(pull, one)
        return history.merge(pull, self.github.clock.now(), message="a change\n\nRelease-Ticket: REL-7")

    async def built(self, sha: str) -> str:
        """The digest of what a job of this commit has built."""
        facts = {
            "repository": "acme/shop",
            "repository_id": str(self.repository.id),
            "sha": sha,
            "ref": "refs/heads/main",
        }
        caller = Caller(f"{self.github.url}/_services/token", "repo:acme/shop", facts)
        job_id = await self.world.offer(f"build-{sha}", BUILD, caller)
        await self.world.finished(job_id)
        [artifact] = json.loads(await self.world.get(f"/v1/jobs/{job_id}"))["artifacts"]
        return artifact["digest"]

    async def lacks(self, digest: str, ticket: str = "") -> set[str]:
        """Codes of what a release to prod would lack."""
        body = {"environment": "prod", "artifact_digest": digest, "ticket": ticket}
        async with self.world.client.post(
            f"{self.world.url}/v1/policy/check", json=body, headers=self.world.operator
        ) as answer:
            assert answer.status == 200, await answer.text()
            return {reason["code"] for reason in (await answer.json())["reasons"]}


@pytest.fixture
async def release(open_world, tmp_path):
    data = json.loads((default_bundle() / "data.json").read_text())
    data["environments"]["prod"]["source"] |= {"signed": True, "reviewed": True}
    bundle = tmp_path / "strict"
    bundle.mkdir()
    for path in default_bundle().glob("*.rego"):
        if not path.name.endswith("_test.rego") or path.name == "data_test.rego":
            (bundle / path.name).write_bytes(path.read_bytes())
    (bundle / "data.json").write_text(json.dumps(data))
    async with GitHubServer() as github, TrackerServer(token="t") as tracker:
        github.add_repository("acme/shop", branches={"main": True})
        (tmp_path / "app.pem").write_text(github.app.private_key)
        (tmp_path / "app.pem").chmod(0o600)
        (tmp_path / "tracker").write_text("t")
        tracker.add("REL-7", project="SHOP")
        sets = [{"name": "zt", "pool": "default"}]
        app = {"client_id": github.app.client_id, "installation_id": 777, "private_key_file": str(tmp_path / "app.pem")}
        settings = {
            "policy": {"bundle": str(bundle)},
            "pools": [{"name": "default"}],
            "github": [
                {"name": "acme", "url": f"{github.url}/acme", "app": app, "scale_sets": sets}
            ],
            "promotion": {
                "commits": {"sources": ["acme"], "max_age_seconds": 0, "environments": ["prod"]},
                "tickets": {
                    "url": tracker.url, "token_file": str(tmp_path / "tracker"), "max_age_seconds": 0,
                    "environments": ["prod"], "trailer": "Release-Ticket",
                },
            },
        }  # fmt: skip
        async with open_world(**settings) as world:
            yield Release(world, github, tracker)


async def test_a_release_is_judged_by_what_is_said_of_its_commit_and_ticket_now(release):
    digest = await release.built(release.merged(release.lee))
    assert await release.lacks(digest) & (SOURCE | TICKET) == set()  # the ticket is the commit's
    assert "ticket_missing" in await release.lacks(digest, "REL-8")
    release.tracker.close_ticket("REL-7")
    assert await release.lacks(digest) & TICKET == {"ticket_unfit"}
    release.repository.branches["main"] = False
    assert await release.lacks(digest, "REL-7") & SOURCE == {"commit_not_on_protected_branch"}
    release.repository.branches["main"] = True

    digest = await release.built(release.merged(release.kim))
    assert await release.lacks(digest) & SOURCE == {"commit_unreviewed"}
    fork = release.repository.history.commit(release.github.person("mallory"), verified=True)
    digest = await release.built(fork)
    assert await release.lacks(digest, "REL-7") & SOURCE == SOURCE


@pytest.mark.slow
async def test_while_others_are_away_nothing_is_allowed_and_staging_does_not_mind(release):
    digest = await release.built(release.merged(release.lee))
    release.github.faults.add(Fault.FORBIDDEN, "compare", times=9)
    assert await release.lacks(digest) == {"policy_error"}
    release.github.faults.clear()
    release.tracker.faults.extend([TrackerFault.FORBIDDEN] * 2)
    assert await release.lacks(digest) == {"policy_error"}
    await release.tracker.stop()
    caller = Caller(f"{release.github.url}/_services/token", "repo:acme/shop", {
        "repository": "acme/shop", "repository_id": str(release.repository.id)
    })  # fmt: skip
    spec = {"deployment_environment": "staging", "artifact_digest": digest}
    job_id = await release.world.offer("staging", "true", caller, **spec)
    await release.world.finished(job_id)
    assert json.loads(await release.world.get(f"/v1/jobs/{job_id}"))["result"] == "success"
