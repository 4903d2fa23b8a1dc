"""Which `sub` the jobs of a grant have, as far as its conditions say: exact, or with `*` for what they leave open.

The forms are those of `claims.subject`, in which no value holds a `:` or an `@` of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Final
from urllib.parse import quote

from orchestrator.identity.claims import MAX_SUBJECT_BYTES, issuer_tag
from orchestrator.identity.trust.conditions import Condition
from orchestrator.identity.trust.document import GrantRule

ANY: Final = "*"
MAX_SUBJECTS: Final = 50


@dataclass(frozen=True, slots=True)
class Subjects:
    """`patterns` in which `*` stands for any text; without one they are `exact`. `open_issuer` says that the same ids
    from another issuer of callers fit as well; `too_many` that some were left out.
    """

    patterns: tuple[str, ...]
    exact: bool
    open_issuer: bool = False
    too_many: bool = False

    def fit(self, subject: str) -> bool:
        """Whether a job of the grant could have this subject."""
        if re.fullmatch(r"sha256:[0-9a-f]{64}", subject):
            return True  # too long in any other form: nobody can tell from it
        return any(
            re.fullmatch(".*".join(map(re.escape, pattern.split(ANY))), subject, re.DOTALL) for pattern in self.patterns
        )


def subjects_of(grant: GrantRule) -> Subjects:
    """For a grant by repository both forms, names and ids; for one by caller that of a caller without a repository."""
    given = {one.claim: one for one in grant.conditions}
    purposes = _purposes(grant, given)
    tags = [issuer_tag(issuer) for issuer in _values(given, "caller_issuer")] or [ANY]
    found: list[str] = []
    if "repository_id" in given and given["repository_id"].exact:
        ids, names = _values(given, "repository_id"), _values(given, "repository")
        for tag, own_id, purpose in product(tags, ids, purposes):
            found += _by_repository(tag, quote(own_id, safe=""), names if len(ids) == 1 else [], given, purpose)
    elif "caller" in given and given["caller"].exact:
        found += [f"caller:{caller}:{purpose}" for caller, purpose in product(_values(given, "caller"), purposes)]
    else:
        owners = [quote(owner, safe="") for owner in _values(given, "repository_owner_id")]
        found += [f"from:{tag}:repo:*@{owner}/*:{what}" for tag, owner, what in product(tags, owners, purposes)]
    kept = tuple(dict.fromkeys(found))
    exact = all(ANY not in pattern for pattern in kept)
    return Subjects(kept[:MAX_SUBJECTS], exact, tags == [ANY] and kept[0].startswith("from:"), len(kept) > MAX_SUBJECTS)


def _by_repository(tag: str, own_id: str, names: list[str], given: dict[str, Condition], purpose: str) -> Iterable[str]:
    owners = _values(given, "repository_owner_id")
    short = f"from:{tag}:repo-id:{own_id}:{purpose}"
    if len(names) != 1 or len(owners) != 1 or "/" not in names[0]:
        return (f"from:{tag}:repo:*@{own_id}:{purpose}", short)
    owner, _, name = names[0].rpartition("/")
    full = f"from:{tag}:repo:{_escaped(owner)}@{quote(owners[0], safe='')}/{_escaped(name)}@{own_id}:{purpose}"
    if ANY in full:
        return (full, short)
    return (full if len(full) <= MAX_SUBJECT_BYTES else short,)


def _purposes(grant: GrantRule, given: dict[str, Condition]) -> list[str]:
    if grant.environment:
        return [f"environment:{_escaped(grant.environment)}"]
    refs = _values(given, "ref")
    if refs:
        return [f"ref:{_escaped(ref)}" for ref in refs]
    ref = given.get("ref")
    if ref is not None and ref.glob is not None:
        return [f"ref:{ANY.join(map(_escaped, re.split(r'[*]+', ref.glob.pattern)))}"]
    return [ANY]


def _values(given: dict[str, Condition], claim: str) -> list[str]:
    condition = given.get(claim)
    return sorted(condition.values) if condition is not None and condition.exact else []


def _escaped(value: str) -> str:
    return quote(value, safe="/")
