"""Which subcommand, and how it ends: exit 0 with what was asked for on standard output, 1 refused, 2 anything else."""

from __future__ import annotations

import json
import sys

from .exchange import exchange
from .options import into_file, name_first, parser
from .runner_api import RefusedError, failed

OVERVIEW = """usage: orchestrator-token [print] --audience AUDIENCE [--role ROLE] [--artifact FILE|DIGEST] [--json]
                          [--out FILE [--watch]]
       orchestrator-token COMMAND --help

An ID token of this job for one audience, or what another party gives for one.

  print        the token itself, to standard output or into a file that is kept fresh
  env          shell lines for the SDKs of aws, gcp and azure: eval "$(orchestrator-token env aws --role ARN)"
  aws          session credentials, as a credential_process prints them
  gcp          external-account credentials for Google's libraries
  kubernetes   a credential for kubectl (client.authentication.k8s.io/v1)
  vault        log in to Vault or OpenBao
  artifact     say which artifact this job deploys, as --artifact does
  rfc8693      exchange the token at another party's endpoint (RFC 8693)
"""

COMMANDS = ("print", "env", "aws", "gcp", "gcp-answer", "kubernetes", "vault", "rfc8693", "artifact")


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in ("-h", "--help"):
        print(OVERVIEW, end="")
        return 0
    name = given[0] if given and given[0] in COMMANDS else "print"
    rest = given[1:] if given and given[0] in COMMANDS else given
    try:
        said = run(name, rest)
    except (RefusedError, KeyError, OSError, ValueError) as error:
        return failed("orchestrator-token", error)
    if said:
        print(said)
    return 0


def run(name: str, arguments: list[str]) -> str:
    if name == "print":
        return print_token(arguments)
    if name == "artifact":
        from . import artifact

        return artifact.artifact(arguments)
    if name == "env":
        from . import variables

        return variables.env(arguments)
    from . import commands

    return commands.run(name, arguments)


def print_token(arguments: list[str]) -> str:
    made = parser("print", "An ID token of this job for one audience.")
    made.add_argument("--json", action="store_true", help="print the whole answer (token, type, lifetime)")
    made.add_argument("--out", metavar="FILE", help="write the token into this file (mode 0600) instead")
    made.add_argument(
        "--watch", action="store_true", help="go on in the background, and keep the file fresh until the job ends"
    )
    options = made.parse_args(arguments)
    if options.watch and not options.out:
        made.error("--watch needs --out")
    if options.json and options.out:
        made.error("--json and --out exclude each other")
    name_first(options)
    if options.out:
        into_file(options.out, options.audience, options.role, watch=options.watch)
        return ""
    answer = exchange(options.audience, options.role)
    return json.dumps(answer.document) if options.json else answer.token
