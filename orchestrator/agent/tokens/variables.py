"""`env`: shell lines by which the SDKs of the clouds find this job's token by themselves."""

from __future__ import annotations

import argparse
import os
import re

from . import aws, commands, files, gcp
from .options import into_file, name_first, parser

AZURE_AUDIENCE = "api://AzureADTokenExchange"
CLOUDS = ("aws", "gcp", "azure")

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DOMAIN = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")


def env(arguments: list[str]) -> str:
    cloud = arguments[0] if arguments else ""
    if cloud not in CLOUDS:
        raise ValueError(f"env is of one of {', '.join(CLOUDS)}, as in: orchestrator-token env aws --help")
    found = {"aws": of_aws, "gcp": of_gcp, "azure": of_azure}[cloud](arguments[1:])
    return "\n".join(f"export {name}={quoted(value)}" for name, value in found.items())


def quoted(value: str) -> str:
    """One word to a POSIX shell, whatever is in it (POSIX.1-2017, XCU 2.2.2)."""
    return "'" + value.replace("'", "'\\''") + "'"


def add_file(made: argparse.ArgumentParser) -> None:
    made.add_argument("--token-file", default="", help="where the token is written; default a private place")
    made.add_argument("--once", action="store_true", help="do not keep that file fresh in the background")


def of_aws(arguments: list[str]) -> dict[str, str]:
    """What every AWS SDK reads for `AssumeRoleWithWebIdentity`; the file is read again for each session."""
    made = parser("env aws", "Shell lines for AWS's SDKs and programs.", audience=aws.AUDIENCE)
    commands.add_unmapped(made)
    add_file(made)
    options = made.parse_args(arguments)
    if options.role:
        aws.check_role(options.role)
    role = commands.asked_role(options)
    path = os.path.abspath(options.token_file or files.own_file("aws", options.audience, options.role))
    name_first(options)
    answer = into_file(path, options.audience, role, watch=not options.once)
    return {
        "AWS_WEB_IDENTITY_TOKEN_FILE": path,
        "AWS_ROLE_ARN": aws.check_role(commands.role_of(answer, options)),
        "AWS_ROLE_SESSION_NAME": aws.session_name(os.environ["ORCHESTRATOR_JOB_ID"]),
    }


def of_gcp(arguments: list[str]) -> dict[str, str]:
    made = parser("env gcp", "Shell lines for Google's libraries.", audience="-")
    commands.add_gcp(made)
    options = made.parse_args(arguments)
    if options.watch and not options.token_file:
        made.error("--watch needs --token-file")
    document = commands.gcp_document(options)
    path = files.own_file("gcp", options.provider, options.service_account, options.role) + ".json"
    files.put(path, document)
    found = {"GOOGLE_APPLICATION_CREDENTIALS": path}
    return found if options.token_file else found | {gcp.ALLOWED: "1"}


def of_azure(arguments: list[str]) -> dict[str, str]:
    """What `WorkloadIdentityCredential` of Azure's libraries reads; the file is read again for each access token."""
    made = parser("env azure", "Shell lines for Azure's libraries.", audience=AZURE_AUDIENCE)
    made.add_argument("--client-id", required=True, help="application (client) id with the federated credential")
    made.add_argument("--tenant-id", required=True, help="tenant, by its id or domain")
    made.add_argument("--authority-host", default="", help="another cloud's https://login.microsoftonline.com")
    add_file(made)
    options = made.parse_args(arguments)
    if not _UUID.fullmatch(options.client_id):
        raise ValueError(f"{options.client_id!r} is no client id; it is a UUID")
    if not _UUID.fullmatch(options.tenant_id) and not _DOMAIN.fullmatch(options.tenant_id):
        raise ValueError(f"{options.tenant_id!r} is no tenant; it is a UUID or a domain")
    path = os.path.abspath(options.token_file or files.own_file("azure", options.audience, options.client_id))
    name_first(options)
    into_file(path, options.audience, options.role, watch=not options.once)
    found = {
        "AZURE_FEDERATED_TOKEN_FILE": path,
        "AZURE_CLIENT_ID": options.client_id,
        "AZURE_TENANT_ID": options.tenant_id,
    }
    return found | ({"AZURE_AUTHORITY_HOST": options.authority_host} if options.authority_host else {})
