"""A job that lays its credentials open: none of it is kept or shown anywhere."""

from __future__ import annotations

import codecs
import json
import re

import pytest

pytestmark = pytest.mark.sandbox

SHOUT = r"""
token=$(cat "$ORCHESTRATOR_TOKEN_FILE")
id=$(orchestrator-token --audience https://cache.example)
# Turned so that no masker can know it: the test needs to know what it looks for.
printf 'turned %s %s\n' "$token" "$id" | tr 'A-Za-z' 'N-ZA-Mn-za-m'
echo "runner token: $token; id token: $id"
printf %s "$token" | base64 -w0; echo
for secret in "$token" "$id"; do
    orchestrator-token --audience "https://$secret.example" || true
    curl --silent --output /dev/null "http://$secret.example/" || true
    printf x > artifact
    orchestrator-artifact --name "of-$secret.bin" artifact || true
done
python3 - "$token" <<'PROGRAM'
import os, sys, urllib.request
from time import time_ns
def field(number, data): return bytes([number << 3 | 2]) + varint(len(data)) + data
def varint(n):
    out = b""
    while n > 127: out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])
def fixed(number, n): return bytes([number << 3 | 1]) + n.to_bytes(8, "little")
_, trace, parent, _ = os.environ["TRACEPARENT"].split("-")
now = time_ns()
span = (field(1, bytes.fromhex(trace)) + field(2, b"12345678") + field(4, bytes.fromhex(parent))
        + field(5, sys.argv[1].encode()) + fixed(7, now) + fixed(8, now + 1))
request = field(1, field(2, field(2, span)))
call = urllib.request.Request(os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"], request,
                              {"Content-Type": "application/x-protobuf"})
print("spans:", urllib.request.build_opener(urllib.request.ProxyHandler({})).open(call).status)
PROGRAM
"""


async def test_runner_token_and_id_token_are_masked_everywhere(world):
    job_id = await world.offer("shout", SHOUT)
    await world.finished(job_id)
    await world.until(lambda: world.rooms.exporter.counts.exported == 1)
    log = await world.log(job_id)
    turned = re.search(r"^ghearq (\S+) (\S+)$", log, re.MULTILINE)
    assert turned, log
    runner, identity = (codecs.decode(word, "rot13") for word in turned.groups())
    assert len(runner) == 43
    assert identity.startswith("eyJ")
    assert "runner token: ***; id token: ***" in log
    assert "spans: 200" in log
    shown = {"log": log}
    for path in ("", "/trace", "/events?follow=false"):
        shown[path or "job"] = await world.get(f"/v1/jobs/{job_id}{path}")
    shown["jobs"] = await world.get("/v1/jobs")
    shown["metrics"] = await world.get("/metrics", Accept="application/openmetrics-text")
    assert [one["name"] for one in json.loads(shown["job"])["artifacts"]] == ["of-***.bin"], (
        "an ID token is too long a name"
    )
    everything = {name: text.encode() for name, text in shown.items()}
    everything |= {f"export {number}": body for number, body in enumerate(world.receiver.bodies)}
    everything |= {str(path): path.read_bytes() for path in world.state.rglob("*") if path.is_file()}
    # The signature is what makes an ID token worth anything; nor may a good part of either be left.
    pieces = {"runner token": runner[:20], "id token": identity[:200], "signature": identity.rpartition(".")[2][:40]}
    found = {
        where: [what for what, piece in pieces.items() if piece.encode() in text] for where, text in everything.items()
    }
    assert {where: what for where, what in found.items() if what} == {}
    assert any(b"***" in body for body in world.receiver.bodies), "the relayed span's name is masked, not dropped"


async def test_the_masker_forgets_a_job_at_its_end(world):
    job_id = await world.offer("quiet", "orchestrator-token --audience https://cache.example > /dev/null")
    await world.finished(job_id)
    assert world.rooms.masker._of_job == {}
    assert world.rooms.masker._filed == {}
