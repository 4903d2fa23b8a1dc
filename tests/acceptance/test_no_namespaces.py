"""Where the kernel forbids user namespaces the daemon says so, names the knob, ends with 1, and runs no job."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from installation import Installation, NotStartedError
from witness import GATE, Witness

pytestmark = pytest.mark.sandbox

GATED = "visit started\nvisit gate\nvisit done\n"

FORBID = 'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --ambient-caps=-all -- "$@"'
"""In a user namespace of our own the kernel takes the limit from us, and holds it against us; then we give up all
capabilities, as an ordinary user has none."""

AS_USER = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--keep-caps", "sh", "-c", FORBID, "sh")
AS_ROOT = ("unshare", "--user", "--map-root-user", "sh", "-c", FORBID.partition(" && ")[0] + ' && exec "$@"', "sh")


def forbidding(prefix: tuple[str, ...]) -> bool:
    """Whether this machine can be made to forbid: namespaces are refused behind the prefix, and only there."""
    if not all(map(shutil.which, ("unshare", "setpriv"))):
        return False
    inside = subprocess.run([*prefix, "unshare", "--user", "true"], capture_output=True, text=True, check=False)
    works = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    return works.returncode == 0 and inside.returncode != 0


NAMED_KNOB = ("[isolation_unavailable]", "fix: sudo sysctl -w user.max_user_namespaces=15000")
NAMED_SETTING = ("it cannot give up its privileges", "fix: set host_uid_base", "[gateway_unavailable]")
"""Root of a container that has no other user ids is stopped earlier: not even the gateway can be confined."""


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        pytest.param(AS_USER, NAMED_KNOB, id="user"),
        pytest.param(AS_ROOT, NAMED_SETTING, id="root without other ids", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
async def test_it_says_so_and_runs_nothing(
    prefix: tuple[str, ...], words: tuple[str, ...], here: Installation, witness: Witness
) -> None:
    if not forbidding(prefix):
        pytest.skip("needs unshare(1) and setpriv(1) of util-linux 2.36 or newer")
    await here.start()
    here.part("orchestrator.egress").suspend()  # so that the job is not run before the kill
    job_id = await here.dispatch("waits", GATED)
    await here.kill()
    witness.open_gate()

    here.prefix = prefix
    with pytest.raises(NotStartedError) as refusal:
        await here.start()
    assert refusal.value.code == 1
    for word in words:
        assert word in refusal.value.said
    assert "Traceback" not in refusal.value.said
    assert await here.left() == []
    assert witness.words(job_id) == [], "never unisolated"

    here.prefix = ()
    await here.start()
    assert (await here.finished(job_id))["result"] == "success", "once it is allowed again, the job runs"
    assert witness.words(job_id) == ["started", GATE, "done"]
    assert await here.stop() == 0
    assert await here.broken_promises() == []
