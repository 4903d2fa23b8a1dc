"""Whose signatures an attestation carries."""

from __future__ import annotations

from typing import Final

from orchestrator.evidence.attestations.documents import refused
from orchestrator.evidence.attestations.keys import PublicKey, Signed
from orchestrator.evidence.attestations.reading import Attestation, Signature
from orchestrator.evidence.attestations.signers import Signer, Signers
from orchestrator.evidence.envelope import pre_authentication_encoding

_MOST_TRIES: Final = 1024


class Tries:
    """How often a signature that names no known key may still be tried with every key, over one artifact's
    attestations. Those that name theirs are not counted: nobody can crowd them out."""

    def __init__(self, left: int = _MOST_TRIES) -> None:
        self._left = left

    def take(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise refused("too many signatures that name no known key", "signatures_too_many")


def signers_of(attestation: Attestation, signers: Signers, tries: Tries) -> tuple[Signer, ...]:
    """Everybody known who has signed it, each once.

    Raises:
        AttestationRefusedError: nobody has: reason `key_unknown`, `signature_invalid` or `signatures_too_many`.
    """
    if attestation.artifact:
        signed = Signed.by_digest(attestation.artifact)
    else:
        signed = Signed(pre_authentication_encoding(attestation.payload_type, attestation.payload))
    found: dict[str, Signer] = {}
    named_known = False
    for signature in attestation.signatures:
        known = signers.named(signature.key)
        named_known = named_known or known is not None
        signer = _whose(signed, signature, known, signers, tries)
        if signer is not None:
            found[signer.name] = signer
    if not found:
        reason = "signature_invalid" if named_known else "key_unknown"
        raise refused("no signature by a known key holds", reason)
    return tuple(found.values())


def _whose(
    signed: Signed,
    signature: Signature,
    known: tuple[PublicKey, Signer] | None,
    signers: Signers,
    tries: Tries,
) -> Signer | None:
    if known is not None:
        key, signer = known
        return signer if signed.holds(key, signature.value) else None
    # The name that a signature gives its key is anybody's choice: a known key may have signed under another.
    for key, signer in signers.keys:
        tries.take()
        if signed.holds(key, signature.value):
            return signer
    return None
