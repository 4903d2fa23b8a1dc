"""The subcommands that ask another party, or answer a program that asks us."""

from __future__ import annotations

import argparse
import json
import os

from . import aws, gcp, outside, parties
from .exchange import Answer, exchange
from .options import into_file, name_first, parser
from .runner_api import RefusedError


def run(name: str, arguments: list[str]) -> str:
    found = {
        "aws": aws_credentials,
        "gcp": gcp_configuration,
        "gcp-answer": gcp_answer,
        "kubernetes": kubernetes,
        "vault": vault,
        "rfc8693": rfc8693,
    }
    return found[name](arguments)


def add_place(made: argparse.ArgumentParser) -> None:
    made.add_argument("--ca-file", default="", help="PEM file of the authorities to trust instead of the system's")
    made.add_argument("--allow-http", action="store_true", help="let the token travel in clear to an http:// address")


def add_unmapped(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--unmapped", action="store_true", help="no trust map names roles here: do not ask our side for --role"
    )


def role_of(answer: Answer, options: argparse.Namespace) -> str:
    """The role to name there: the one given, else the one that the trust map chose."""
    role = str(options.role or answer.role)
    if not role:
        raise ValueError("no role is known: give --role")
    return role


def asked_role(options: argparse.Namespace) -> str:
    return "" if options.unmapped else str(options.role)


def aws_credentials(arguments: list[str]) -> str:
    made = parser(
        "aws",
        "Session credentials for this job's token (AssumeRoleWithWebIdentity), as a credential_process prints them.",
        audience=aws.AUDIENCE,
    )
    add_unmapped(made)
    add_place(made)
    made.add_argument("--region", default="", help="ask STS there; default AWS_REGION, AWS_DEFAULT_REGION, else global")
    made.add_argument("--endpoint", default="", help="URL of STS; default AWS_ENDPOINT_URL_STS, else by the region")
    made.add_argument("--session-seconds", type=int, default=aws.SHORTEST_SESSION, help="life of the session; 900")
    options = made.parse_args(arguments)
    ca_file = options.ca_file or os.environ.get("AWS_CA_BUNDLE", "")
    place = outside.Place(options.endpoint or aws.endpoint(options.region), ca_file, options.allow_http)
    if options.role:
        aws.check_role(options.role)
    name = aws.session_name(os.environ["ORCHESTRATOR_JOB_ID"])
    name_first(options)
    answer = exchange(options.audience, asked_role(options))
    found = aws.assume(place, answer.token, role_of(answer, options), name, options.session_seconds)
    return aws.process_document(found)


def add_gcp(made: argparse.ArgumentParser) -> None:
    made.add_argument("--provider", required=True, help="resource name of the workload identity pool's provider")
    made.add_argument("--service-account", default="", help="address of the service account to become")
    made.add_argument("--session-seconds", type=int, default=0, help="life of that account's token: 600 to 43200")
    made.add_argument("--token-file", default="", help="have the libraries read this file, instead of running us")
    made.add_argument("--watch", action="store_true", help="keep that file fresh in the background until the job ends")


def gcp_document(options: argparse.Namespace) -> str:
    """The configuration, with its token's file written if there is one."""
    provider = gcp.check_provider(options.provider)
    audience = options.audience if options.audience != "-" else gcp.audience_of(provider)
    if options.token_file:
        source: dict[str, object] = {"file": os.path.abspath(options.token_file), "format": {"type": "text"}}
    else:
        source = gcp.executable(gcp.this_command(audience, options.role))
    name_first(options)
    found = gcp.configuration(provider, options.service_account, source, options.session_seconds)
    if options.token_file:
        into_file(options.token_file, audience, options.role, watch=options.watch)
    return json.dumps(found)


def gcp_configuration(arguments: list[str]) -> str:
    made = parser(
        "gcp",
        "External-account credentials: what GOOGLE_APPLICATION_CREDENTIALS points to. Without --token-file "
        f"Google's libraries run this program for each token, which they do only with {gcp.ALLOWED}=1.",
        audience="-",
        more="An audience of - is the provider's own: https://iam.googleapis.com/PROVIDER.",
    )
    add_gcp(made)
    options = made.parse_args(arguments)
    if options.watch and not options.token_file:
        made.error("--watch needs --token-file")
    return gcp_document(options)


def gcp_answer(arguments: list[str]) -> str:
    """For the libraries, which read a failure from the answer too."""
    options = parser("gcp-answer", "What Google's libraries read from an executable source.").parse_args(arguments)
    try:
        name_first(options)
        return gcp.good_answer(exchange(options.audience, options.role))
    except (RefusedError, OSError, ValueError, KeyError) as error:
        return gcp.bad_answer(error)


def kubernetes(arguments: list[str]) -> str:
    made = parser("kubernetes", "A credential for kubectl, as a credential plugin prints it.")
    options = made.parse_args(arguments)
    name_first(options)
    return parties.exec_credential(exchange(options.audience, options.role))


def vault(arguments: list[str]) -> str:
    made = parser("vault", "Log in to Vault or OpenBao with a token of this job, and print the client token.")
    add_unmapped(made)
    add_place(made)
    made.add_argument("--address", default="", help="URL of the server; default VAULT_ADDR")
    made.add_argument("--mount", default="jwt", help="path of the JWT auth method; jwt")
    made.add_argument("--namespace", default=os.environ.get("VAULT_NAMESPACE", ""), help="default VAULT_NAMESPACE")
    made.add_argument("--json", action="store_true", help="print the whole answer")
    options = made.parse_args(arguments)
    ca_file = options.ca_file or os.environ.get("VAULT_CACERT", "")
    address = options.address or os.environ.get("VAULT_ADDR", "")
    if not address:
        raise ValueError("where Vault is is not known: give --address, or set VAULT_ADDR")
    place = outside.Place(address, ca_file, options.allow_http)
    name_first(options)
    answer = exchange(options.audience, asked_role(options))
    found = parties.vault_login(place, options.mount, options.namespace, role_of(answer, options), answer.token)
    auth = found["auth"]
    assert isinstance(auth, dict)
    return json.dumps(found) if options.json else str(auth["client_token"])


def rfc8693(arguments: list[str]) -> str:
    made = parser("rfc8693", "Exchange a token of this job at another party's token endpoint, and print what it gives.")
    add_place(made)
    made.add_argument("--endpoint", required=True, help="URL of that token endpoint")
    made.add_argument("--for", dest="wanted", default="", help="audience of the token wanted there")
    made.add_argument("--resource", default="", help="resource (a URI) that the token is wanted for there")
    made.add_argument("--scope", default="", help="scopes wanted there, with blanks between")
    made.add_argument("--client-id", default="", help="client id there, where it wants one")
    made.add_argument("--requested-token-type", default="", help="URN of the kind of token wanted there")
    made.add_argument("--json", action="store_true", help="print the whole answer")
    options = made.parse_args(arguments)
    place = outside.Place(options.endpoint, options.ca_file, options.allow_http)
    wanted = [
        ("audience", options.wanted),
        ("resource", options.resource),
        ("scope", options.scope),
        ("client_id", options.client_id),
        ("requested_token_type", options.requested_token_type),
    ]
    name_first(options)
    found = parties.exchange_there(place, exchange(options.audience, options.role).token, wanted)
    return json.dumps(found) if options.json else str(found["access_token"])
