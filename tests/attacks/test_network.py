"""T3, T4, T8: no way out but the gateway, and no way through it but to what is allowed."""

from __future__ import annotations

import pytest
from witness import HOST

pytestmark = [pytest.mark.attack, pytest.mark.sandbox]


async def test_every_way_out_is_shut(site, failed):
    port, witness = site.installation.port, site.witness
    job_id = await site.play("network.py", str(port), HOST, str(witness.port))
    results = await site.result(job_id)
    assert {name: what for name, what in results.items() if what.startswith("REACHED")} == {}
    assert len(results) > 35
    assert not [visit for visit in witness.visits if visit.word == "smuggle"], "an ambiguous request goes nowhere"

    view = await site.installation.job(job_id)
    refused = [one for one in view["egress"] if not one["allowed"] and not one["canary"]]
    hosts = {one["host"] for one in refused}
    assert {"169.254.169.254", "exfil.example", "metadata.google.internal"} <= hosts, hosts
    assert {one["address"] for one in refused if one["host"].endswith("exfil.example")} == {""}, "not even looked up"
    failed(
        "T3",
        "reach the daemon, another runner, services on loopback",
        stopped_by="an empty network namespace of its own; private addresses are refused by the gateway",
        seen_by="connection errors in the job, `deny` verdicts on its trace",
    )
    failed(
        "T4",
        "ask metadata services: v4, v6, mapped, decimal, hexadecimal and octal spellings, by name",
        stopped_by="no route, and the gateway's list of names",
        seen_by="`deny` verdicts on the job's trace",
    )
    for attack, control in {
        "raw addresses, raw sockets, IPv6, UDP": "an empty network namespace",
        "DNS packets, names with data in them, DNS over HTTPS": "no resolver; the gateway resolves allowed names only",
        "look-alike hosts and other ports of an allowed host": "exact host and port",
        "a second request, or one behind an allowed Host header": "each request is judged by the authority it names",
        "a request with two lengths": "ambiguous requests are refused before anything is forwarded",
    }.items():
        failed("T8", attack, stopped_by=control, seen_by="`deny` verdicts, or an error before any packet")
