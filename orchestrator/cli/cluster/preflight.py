"""`orchestrator preflight`: which guards does the cluster lack, pool by pool, and how are they mended?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from orchestrator.backends.kubernetes.client import ApiClient
    from orchestrator.backends.kubernetes.preflight import Report
    from orchestrator.settings import Settings

EXAMPLES = (
    "orchestrator preflight --config orchestrator.yaml",
    "orchestrator preflight --config orchestrator.yaml --canary --json",
)


_NO_CA = "none: this pod claims nothing"
"""In the document of a canary, where a runner's has the CA of the runner API."""


def preflight(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", envvar="ORCHESTRATOR_CONFIG", help="Settings in YAML, as the daemon's."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    canary: Annotated[
        bool,
        typer.Option(
            "--canary", help="Also start one pod in each pool that tries forbidden connections, and delete it again."
        ),
    ] = False,
) -> None:
    """Look for guards of cluster pools that are missing or are not as rendered, and say how to mend each.

    Run it with your own rights: the daemon's are asked about by its ServiceAccount's name if you may ask that, else
    your own are looked at. Exit code 0: nothing is missing, though there may be warnings; 1: a guard is missing.
    Nothing in the cluster is changed, except for the pods of `--canary`.
    """
    from orchestrator.backends.kubernetes.guards import Severity
    from orchestrator.cli.exits import CommandError, ExitCode
    from orchestrator.cli.output import print_json, say
    from orchestrator.settings import load_settings

    settings = load_settings(config)
    if not any(pool.backend == "kubernetes" for pool in settings.pools):
        raise CommandError(
            "no pool has the backend kubernetes, so no cluster has to guard anything",
            fix="name the daemon's settings with --config, or give a pool `backend: kubernetes`",
        )
    report = asyncio.run(_look(settings, str(config or "FILE"), canary=canary))
    if json:
        print_json(_document(report))
    else:
        for line in _lines(settings, report):
            say(line)
    if any(one.severity is Severity.MISSING for one in report.findings):
        raise typer.Exit(ExitCode.FAILURE)


async def _look(settings: Settings, config_file: str, *, canary: bool) -> Report:
    from dataclasses import replace

    from orchestrator.backends.kubernetes.client import ApiClient
    from orchestrator.daemon.cluster.guards import cluster_preflight
    from orchestrator.daemon.cluster.slice import kubernetes_config

    cluster = kubernetes_config(settings)
    async with await ApiClient.open(cluster) as client:
        user = await _daemon_user(settings, client)
        report = await cluster_preflight(settings, client, user=user, config_file=config_file).look()
        if canary:
            from orchestrator.backends.kubernetes.canary import service_addresses, try_egress

            addresses = await service_addresses(client, cluster)
            cluster = kubernetes_config(settings, runner_api_ca=_NO_CA, host_addresses=addresses)
            found = [one for pool in cluster.pools.values() for one in await try_egress(client, pool, cluster)]
            report = replace(report, findings=(*report.findings, *found))
    return report


async def _daemon_user(settings: Settings, client: ApiClient) -> str:
    """The daemon's user name, if we may ask what it may do; empty asks about ourselves."""
    import msgspec

    from orchestrator.daemon.cluster.manifests import installation
    from orchestrator.errors import GiveUpError

    user = installation(settings, "").daemon_user
    question = {"user": user, "resourceAttributes": {"verb": "get", "resource": "pods"}}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": question}
    try:
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        await client.request("POST", path, body=msgspec.json.encode(review))
    except GiveUpError:
        return ""
    return user


def _document(report: Report) -> dict[str, Any]:
    from dataclasses import asdict

    return {"server_version": report.version, "findings": [asdict(one) for one in report.findings]}


def _lines(settings: Settings, report: Report) -> list[str]:
    made = [f"API server: {report.version or 'unknown version'}"]
    pools = [one.name for one in settings.pools if one.backend == "kubernetes"]
    for pool in ["", *pools]:
        found = [one for one in report.findings if one.pool == pool]
        if pool or found:
            made.append(f"{f'pool {pool}' if pool else 'all pools'}: {'as rendered' if not found else len(found)}")
        for one in found:
            made.append(f"  {one.severity.value} {one.guard}: {one.what}")
            made.append(f"    protects from: {one.protects_from}")
            made.append(f"    fix: {one.fix}")
    return made
