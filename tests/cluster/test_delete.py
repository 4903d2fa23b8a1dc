"""A runner that takes its time to go is asked to once, on a real API server."""

from __future__ import annotations

import pytest

from orchestrator.model.runner import RunnerState

pytestmark = pytest.mark.cluster


async def test_a_deletion_that_was_accepted_is_not_sent_again(world):
    backend = await world.backend()
    spec = world.spec()
    created = await backend.create(spec)
    # On a node that nobody plays: the API server only marks the pod, and waits for a kubelet.
    binding = {"metadata": {"name": spec.name}, "target": {"kind": "Node", "name": f"node-{world.installation}"}}
    await world.call("POST", f"{world.pods()}/{spec.name}/binding", {"apiVersion": "v1", "kind": "Binding", **binding})

    await backend.delete(spec.name)
    await backend.delete(spec.name)
    await backend.delete(spec.name)
    assert (backend.client.requests["POST"], backend.client.requests["DELETE"]) == (1, 1)
    there = await backend.inspect(spec.name)
    assert (there.state, there.uid) == (RunnerState.ALIVE, created.uid)

    # The kubelet's last word, said for it.
    await world.call("DELETE", f"{world.pods()}/{spec.name}", {"gracePeriodSeconds": 0})
    await backend.delete(spec.name)

    async def gone():
        return (await backend.inspect(spec.name)).state is RunnerState.ABSENT

    await world.until(gone)
    assert backend.client.writes == 2

    # The name may be used again, and the new pod is another one's to delete.
    again = await backend.create(spec)
    assert again.uid != created.uid
    await backend.delete(spec.name)
    await world.until(gone)
    assert backend.client.writes == 4
