"""Who may call what: the chain of credentials, kinds of tokens, paths and versions."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import time

import aiohttp
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from platform_clients import AGENTS, SETS, VERSION

from orchestrator.testing.github.server import GitHubServer
from orchestrator.testing.github.tokens import Kind, pem_of, signing_key


async def installation_token(github, listener, **body):
    path = f"/app/installations/{github.app.installation_id}/access_tokens"
    return await listener.rest("POST", path, listener.app_jwt(), **({"json": body} if body else {}))


async def test_the_whole_chain_of_an_app(github, listener):
    told = await installation_token(github, listener)
    assert told.status == 201
    token = told.json["token"]
    assert token.startswith("ghs_")
    told = await listener.rest("POST", "/orgs/acme/actions/runners/registration-token", token)
    assert told.status == 201
    body = {"url": github.config_url("acme"), "runner_event": "register"}
    url = f"{github.url}/actions/runner-registration"
    told = await listener.call("POST", url, told.json["token"], "RemoteAuth", json=body)
    assert told.status == 201
    claims = jwt.decode(told.json["token"], options={"verify_signature": False})
    assert claims["exp"] - time.time() == pytest.approx(3600, abs=5)
    assert jwt.get_unverified_header(told.json["token"])["alg"] == "RS256"


@pytest.mark.parametrize("scope", ["acme", "acme/shop", "enterprises/big"])
async def test_registration_for_each_scope(github, listener, scope):
    kind = "" if scope.startswith("enterprises") else "repos/" if "/" in scope else "orgs/"
    told = await listener.rest("POST", f"/{kind}{scope}/actions/runners/registration-token")
    assert told.status == 201
    for address, status in ((scope, 201), ("somebody", 404)):
        body = {"url": github.config_url(address), "runner_event": "register"}
        url = f"{github.url}/api/v3/actions/runner-registration"
        answer = await listener.call("POST", url, told.json["token"], "RemoteAuth", json=body)
        assert answer.status == status


async def test_rest_is_served_with_and_without_the_prefix(github, listener):
    for prefix in ("/api/v3", ""):
        answer = await listener.call("GET", f"{github.url}{prefix}/repos/acme/shop", github.personal_token)
        assert answer.status == 200
        assert answer.headers["X-GitHub-Request-Id"]


async def test_a_registration_may_be_refused_at_first(github, listener):
    github.faults.unpropagated = 2
    token = (await listener.rest("POST", "/orgs/acme/actions/runners/registration-token")).json["token"]
    body = {"url": github.config_url("acme"), "runner_event": "register"}
    url = f"{github.url}/api/v3/actions/runner-registration"
    found = [(await listener.call("POST", url, token, "RemoteAuth", json=body)).status for _ in range(3)]
    assert found == [403, 401, 201]


@pytest.mark.parametrize(
    ("claim", "ahead", "words"),
    [
        ("exp", 900, "too far in the future"),
        ("exp", -1, "in the future"),
        ("iat", 60, "Issued at"),
    ],
)
async def test_an_app_s_token_is_checked_for_its_times(github, listener, claim, ahead, words):
    answer = await listener.rest("GET", "/app", listener.app_jwt(**{claim: int(time.time()) + ahead}))
    assert answer.status == 401
    assert words in answer.json["message"]


async def test_an_app_s_token_names_the_app(github, listener):
    answer = await listener.rest("GET", "/app", listener.app_jwt(iss="somebody"))
    assert (answer.status, "Issuer" in answer.json["message"]) == (401, True)


async def test_an_app_is_known_by_either_id_and_its_own_key_only(github, listener):
    assert (await listener.rest("GET", "/app", listener.app_jwt(iss=str(github.app.app_id)))).status == 200
    forged = jwt.encode({"iss": github.app.client_id, "iat": 1, "exp": int(time.time()) + 60}, "x" * 32, "HS256")
    assert (await listener.rest("GET", "/app", forged)).status == 401


async def test_a_narrowed_token_sees_less(github, listener):
    github.add_repository("acme/secret")
    told = await installation_token(github, listener, repositories=["shop"], permissions={"actions": "read"})
    token = told.json["token"]
    assert told.json["permissions"] == {"actions": "read"}
    assert (await listener.rest("GET", "/repos/acme/shop/actions/runs", token)).status == 200
    assert (await listener.rest("GET", "/repos/acme/secret/actions/runs", token)).status == 404
    refused = await listener.rest("POST", "/orgs/acme/actions/runners/registration-token", token)
    assert (refused.status, refused.json["message"]) == (403, "Resource not accessible by integration")


@pytest.mark.parametrize("body", [{"permissions": {"actions": "write"}}, {"repositories": ["none"]}])
async def test_a_token_cannot_be_widened(github, listener, body):
    assert (await installation_token(github, listener, **body)).status == 422


async def test_every_kind_of_token_has_its_place(github, listener):
    one = await listener.make_set()
    session = await listener.open(one["id"])
    queue = session["messageQueueAccessToken"]
    assert (await listener.ask("GET", f"{SETS}/{one['id']}", token=queue)).status == 401
    assert (await listener.ask("GET", AGENTS, token=github.personal_token)).status == 401
    assert (await listener.ask("POST", f"{SETS}/{one['id']}/acquirejobs", json=[1])).status == 401
    assert (await listener.rest("GET", "/repos/acme/shop", listener.admin)).status == 401
    for token in (listener.admin, github.personal_token, ""):
        wrong = session | {"messageQueueAccessToken": token}
        assert (await listener.poll(wrong)).status == 401
        assert (await listener.delete(wrong, 1)).status == 401
    registration = (await listener.rest("POST", "/orgs/acme/actions/runners/registration-token")).json["token"]
    url, body = f"{github.url}/actions/runner-registration", {"url": github.config_url("acme")}
    assert (await listener.call("POST", url, registration, "Bearer", json=body)).status == 401


async def test_tokens_expire_and_are_forgotten(github, listener, options):
    one = await listener.make_set()
    session = await listener.open(one["id"])
    options.queue_token = options.admin_token
    assert github.expire_tokens(Kind.QUEUE) == 1
    assert (await listener.poll(session)).status == 401
    path = f"{SETS}/{one['id']}/sessions/{session['sessionId']}"
    assert (await listener.ask("PATCH", path)).status == 200
    await github.clock.step(3601)
    answer = await listener.ask("PATCH", path)
    assert answer.status == 401
    assert answer.json["message"] == "The token has expired"


async def test_the_version_is_asked_for(github, listener):
    one = await listener.make_set()
    assert (await listener.call("GET", f"{listener.service}{SETS}/{one['id']}", listener.admin)).status == 400
    session = await listener.open(one["id"])
    assert (await listener.poll(session, Accept="application/json")).status == 400


async def test_the_service_lives_under_its_base_and_the_queue_url_has_a_query(github, listener):
    one = await listener.make_set()
    assert listener.service.endswith("/tenant/123/")
    assert (await listener.call("GET", f"{github.url}/{SETS}/{one['id']}?{VERSION}", listener.admin)).status == 404
    session = await listener.open(one["id"])
    cut = session | {"messageQueueUrl": session["messageQueueUrl"].partition("?")[0] + "?a=1"}
    assert (await listener.poll(cut)).status == 400


async def test_another_scope_s_set_does_not_exist(github, listener):
    one = await listener.make_set()
    github.add_repository("other/tool")
    await listener.connect("other")
    assert (await listener.ask("GET", f"{SETS}/{one['id']}")).status == 404
    assert (await listener.ask("GET", SETS)).json["count"] == 0


async def test_it_serves_https_when_given_a_certificate(tmp_path):
    key, name = signing_key("tls"), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test server")])
    now = dt.datetime.now(dt.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    day = dt.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    signed = builder.add_extension(here, critical=False).sign(key, hashes.SHA256())
    path = tmp_path / "server.pem"
    path.write_text(pem_of(key) + signed.public_bytes(serialization.Encoding.PEM).decode())
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(path)
    trusting = ssl.create_default_context(cadata=signed.public_bytes(serialization.Encoding.PEM).decode())
    async with GitHubServer(tls=tls) as github, aiohttp.ClientSession() as http:
        assert github.url.startswith("https://127.0.0.1:")
        async with http.get(f"{github.url}/api/v3/meta", ssl=trusting) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await http.get(f"{github.url}/api/v3/meta")
