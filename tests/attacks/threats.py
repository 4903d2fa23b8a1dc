"""The threats of the product's threat model, and where each is answered when not by an attack of this suite."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Threat:
    """`stride`: Spoofing, Tampering, Repudiation, Information disclosure, Denial of service, Elevation.

    `elsewhere` names the tests that play it in another suite; `open_part` says what no test of ours shows, and why.
    """

    id: str
    stride: str
    title: str
    elsewhere: tuple[str, ...] = ()
    open_part: str = ""


THREATS: tuple[Threat, ...] = (
    Threat(
        "T1",
        "S, I",
        "A compromised job steals tokens from the environment, files or memory",
        ("tests/integration/sandbox/test_isolation.py", "tests/cluster/node/test_jobs.py"),
        "A job can always use what it was itself given, for as long as it runs.",
    ),
    Threat(
        "T2",
        "S",
        "A stolen token is replayed elsewhere",
        ("tests/cluster/node/test_jobs.py",),
        "A session that a cloud made from a token lives until it expires there; the receipt says until when.",
    ),
    Threat(
        "T3",
        "E, I",
        "Lateral movement from runner to runner, or to services of the machine",
        ("tests/cluster/node/test_jobs.py",),
    ),
    Threat(
        "T4", "I, E", "The metadata service of a cloud is asked for credentials", ("tests/cluster/node/test_jobs.py",)
    ),
    Threat(
        "T5",
        "E",
        "The Kubernetes API is reached from a job",
        ("tests/cluster/node/test_jobs.py", "tests/cluster/test_installation.py"),
        "A sandbox has no cluster; in pods it is played on a real node.",
    ),
    Threat(
        "T6",
        "E",
        "A job breaks out of its isolation",
        ("tests/integration/sandbox/test_isolation.py",),
        "A defect of the kernel itself is not ours to stop: use gVisor or virtual machines for strangers' code.",
    ),
    Threat("T7", "T", "A job poisons what a later, more trusted job finds"),
    Threat(
        "T8",
        "I",
        "Data leaves by address, name, allowed host or log",
        ("tests/integration/egress", "tests/unit/egress"),
        "What an allowed host does with what it is sent, and what a job transforms before it prints it.",
    ),
    Threat(
        "T9",
        "S",
        "Jobs are dispatched by forged or replayed requests",
        ("tests/integration/github", "tests/unit/intake"),
    ),
    Threat(
        "T10",
        "S, E",
        "A fork obtains its base's identity, or one job another's",
        ("tests/integration/github", "tests/cluster/node/test_github.py"),
    ),
    Threat(
        "T11",
        "D",
        "A noisy neighbour takes processor, memory or disk",
        ("tests/integration/sandbox/test_limits.py",),
        "Processor time in sandboxes needs control groups, which this suite may not have.",
    ),
    Threat(
        "T12",
        "R, D",
        "Orphans: something is left behind",
        ("tests/acceptance/test_kill.py", "tests/cluster/test_restart.py"),
    ),
    Threat("T13", "E", "The orchestrator itself is taken over", ("tests/cluster/test_installation.py",)),
    Threat("T14", "T, R", "The audit log is changed or cut"),
    Threat(
        "T15",
        "T",
        "A pod is changed between decision and run",
        ("tests/cluster/test_admission.py", "tests/unit/backends/kubernetes"),
        "A running image is its digest's by the runtime's word; who may change a pod later meets admission rules only.",
    ),
    Threat(
        "T16",
        "T",
        "Definitions that move: tags of third parties",
        ("tests/unit/policy/test_pipelines.py", "tests/cluster/test_webhook.py"),
        "Platforms pin actions by their own means; `orchestrator policy lint-pipeline FILE` names those that are not.",
    ),
    Threat(
        "T17",
        "T, S",
        "A legitimate pipeline is made to sign malware",
        ("tests/unit/policy/test_default_bundle.py",),
        "What a build does without leaving its sandbox is seen by scanners and reviewers, or not at all.",
    ),
    Threat("T18", "I", "Secrets end up in traces and logs", ("tests/integration/daemon/test_secrets.py",)),
    Threat("T19", "D", "Policy is made unavailable, so that everything is let through", ("tests/unit/policy",)),
    Threat("T20", "E", "Emergency access is abused", ("tests/unit/evidence/approvals",), "Three people who agree can."),
    Threat(
        "T21",
        "S",
        "The registration of a runner is stolen",
        ("tests/integration/github", "tests/acceptance/test_github_kill.py"),
    ),
    Threat("T22", "T", "Clocks are wrong or are set wrong", ("tests/unit/identity",)),
)
