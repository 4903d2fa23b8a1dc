import base64
import time

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook, WebhookVerificationError

from orchestrator.errors import TryAgainError
from orchestrator.identity.webhook_keys import (
    PrivateKey,
    WebhookSigner,
    new_private_key,
    new_shared_key,
    parse_key,
)

BODY = b'{"type":"job.ended"}'


def written(folder, name, text):
    path = folder / name
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


def headers(signature, moment):
    return {"webhook-id": "msg_1", "webhook-timestamp": str(moment), "webhook-signature": signature}


def test_the_standards_own_library_takes_a_shared_keys_signature(tmp_path):
    key, now = new_shared_key(), int(time.time())
    signature = WebhookSigner([written(tmp_path, "key", key)]).sign("msg_1", now, BODY)
    assert Webhook(key).verify(BODY, headers(signature, now)) == {"type": "job.ended"}
    with pytest.raises(WebhookVerificationError):
        Webhook(key).verify(BODY + b" ", headers(signature, now))
    with pytest.raises(WebhookVerificationError):
        Webhook(key).verify(BODY, headers(signature, now - 1))
    with pytest.raises(WebhookVerificationError):
        Webhook(new_shared_key()).verify(BODY, headers(signature, now))


def test_a_private_keys_signature_verifies_with_its_public_half(tmp_path):
    text = new_private_key()
    key = parse_key(text)
    assert isinstance(key, PrivateKey)
    version, _, signature = WebhookSigner([written(tmp_path, "key", text)]).sign("msg_1", 17, BODY).partition(",")
    assert version == "v1a"
    prefix, _, public = key.public.partition("_")
    assert prefix == "whpk"
    verifier = Ed25519PublicKey.from_public_bytes(base64.b64decode(public))
    verifier.verify(base64.b64decode(signature), b"msg_1.17." + BODY)
    with pytest.raises(InvalidSignature):
        verifier.verify(base64.b64decode(signature), b"msg_1.18." + BODY)


def test_while_a_key_is_replaced_every_receiver_finds_its_signature(tmp_path):
    old, new, private, now = new_shared_key(), new_shared_key(), new_private_key(), int(time.time())
    files = [written(tmp_path, name, text) for name, text in (("new", new), ("old", old), ("private", private))]
    signature = WebhookSigner(files).sign("msg_1", now, BODY)
    assert [one.partition(",")[0] for one in signature.split(" ")] == ["v1", "v1", "v1a"]
    for key in (old, new):
        Webhook(key).verify(BODY, headers(signature, now))


def test_a_replaced_file_is_used_at_once(tmp_path):
    file = written(tmp_path, "key", new_shared_key())
    signer = WebhookSigner([file])
    before = signer.sign("msg_1", 1, BODY)
    key = new_shared_key()
    written(tmp_path, "next", key).rename(file)
    assert signer.sign("msg_1", 1, BODY) == parse_key(key).sign(b"msg_1.1." + BODY) != before


def test_a_private_key_may_bring_its_public_half():
    seed = base64.b64decode(new_private_key().partition("_")[2])
    public = parse_key("whsk_" + base64.b64encode(seed).decode()).public
    both = base64.b64encode(seed + base64.b64decode(public.partition("_")[2])).decode()
    assert parse_key("whsk_" + both).public == public
    with pytest.raises(ValueError, match="not its own"):
        parse_key("whsk_" + base64.b64encode(seed * 2).decode())


@pytest.mark.parametrize(
    "text",
    [
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        "whsec_no*base64",
        "whsk_" + base64.b64encode(b"x" * 31).decode(),
        "whpk_" + base64.b64encode(b"x" * 32).decode(),
        base64.b64encode(b"x" * 32).decode(),
        "",
    ],
)
def test_an_unfit_key_is_refused_without_being_repeated(text, tmp_path):
    with pytest.raises(ValueError, match=r"key|secret|prefix") as caught:
        parse_key(text)
    assert text[8:] == "" or text[8:] not in str(caught.value)
    if text:
        with pytest.raises(TryAgainError) as refused:
            WebhookSigner([written(tmp_path, "key", text)]).sign("msg_1", 1, BODY)
        assert refused.value.reason == "webhook_key_unfit"
        assert text[8:] not in refused.value.diagnostics()
