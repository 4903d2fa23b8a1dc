"""`orchestrator trust recipe`: what the other side of a grant has to be told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orchestrator.identity.trust.document import GrantRule
    from orchestrator.identity.trust.recipe_parts import Recipe
    from orchestrator.identity.trust.trust_map import TrustMap

RECIPE_EXAMPLES = (
    "orchestrator trust recipe prod/app-release trust/ --url https://runners.example",
    "orchestrator trust recipe prod/app-release trust/ --url https://runners.example --part 2 > trust-policy.json",
)


def recipe(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="The grant, as environment/name (-/name for none).")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Documents, or folders of them.")],
    url: Annotated[str, typer.Option("--url", metavar="URL", help="The daemon's server.public_url.")],
    subject: Annotated[
        str, typer.Option(metavar="SUB", help="Exact subject of the jobs meant, where the grant leaves it open.")
    ] = "",
    part: Annotated[int, typer.Option(min=0, metavar="N", help="Print this part alone, counted from 1.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Print what a grant's target has to be told, so that it accepts what the grant gives and nothing else.

    For AWS an IAM trust policy, for Google Cloud a provider, for Entra a federated credential, for Vault a role, for
    step-ca a provisioner, for the Kubernetes API server its authentication file. Nothing is changed anywhere.
    """
    from orchestrator.cli.output import print_json
    from orchestrator.identity.trust.recipes import recipe as recipe_of
    from orchestrator.identity.trust.trust_map import TrustMap

    found = recipe_of(_grant(TrustMap.load(paths), rule), url, subject)
    if json:
        print_json(found.as_json())
    elif part:
        print(_part(found, part))
    else:
        _print(found)


def _grant(trust_map: TrustMap, rule: str) -> GrantRule:
    from orchestrator.errors import ConfigurationError

    grants = {grant.rule: grant for document in trust_map.documents for grant in document.grants}
    if rule not in grants:
        raise ConfigurationError(
            f"the trust map has no grant {rule!r}", reason="recipe_impossible", fix=f"grants are {', '.join(grants)}"
        )
    return grants[rule]


def _part(found: Recipe, number: int) -> str:
    from orchestrator.errors import ConfigurationError

    if number > len(found.parts):
        raise ConfigurationError(
            f"the recipe has {len(found.parts)} parts", reason="recipe_impossible", fix="leave --part out to see them"
        )
    return found.parts[number - 1].text


def _print(found: Recipe) -> None:
    """Plain text: it is for copying, so nothing may be wrapped."""
    for number, part in enumerate(found.parts, 1):
        print(f"# {number}. {part.title}\n{part.text}\n")
    for note in found.notes:
        print(f"# note: {note}")
