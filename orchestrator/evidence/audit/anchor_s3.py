"""A bucket of an S3-compatible object store as the place that keeps checkpoints.

Each checkpoint is an object of its own, so that a bucket with object lock, or credentials that may only put, keep
what was once put. Source: Amazon S3 API, PutObject.
"""

from __future__ import annotations

import base64
import configparser
import re
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from orchestrator.errors import ConfigurationError
from orchestrator.evidence.audit.anchor_http import Web, check_url, misconfigured, read_secret
from orchestrator.evidence.audit.checkpoint import Checkpoint
from orchestrator.evidence.audit.sigv4 import Credentials, Request, Scope, authorization, timestamp

_SERVICE: Final = "s3"
_PLAIN: Final = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)*/?")


def object_key(checkpoint: Checkpoint) -> str:
    """`<origin>/<size of 20 digits>-<first 16 digits of the root>.checkpoint`: sorted by age, one for each content.

    What of the origin is not a letter, a digit or one of `-_.` becomes a hyphen, so that nothing needs encoding.
    """
    origin = re.sub(r"[^A-Za-z0-9._-]+", "-", checkpoint.origin).strip(".") or "audit"
    return f"{origin}/{checkpoint.size:020d}-{checkpoint.root.hex()[:16]}.checkpoint"


class ObjectStoreAnchor:
    """Puts each checkpoint below `bucket_url`.

    `bucket_url` is the bucket's address with or without a prefix: `https://s3.example/bucket/audit` or
    `https://bucket.s3.eu-central-1.amazonaws.com`. `credentials_file` is of the form that AWS's tools share
    (`aws_access_key_id`, `aws_secret_access_key`, `aws_session_token` below `[default]`), read anew each time.

    Raises:
        ConfigurationError: reason `audit_anchor_invalid`.
    """

    def __init__(
        self,
        bucket_url: str,
        region: str,
        credentials_file: Path,
        *,
        ca_file: Path | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        check_url(bucket_url, secret=False)
        # The path is signed: it must be one that nothing on the way spells in another way.
        if not _PLAIN.fullmatch(urlsplit(bucket_url).path) or urlsplit(bucket_url).query:
            raise ConfigurationError(
                "the address of an audit anchor's bucket has more in its path than a signature can hold",
                reason="audit_anchor_invalid",
                fix="use letters, digits, - _ and . in the names of the bucket and the prefix, and no query",
            )
        self._url = bucket_url.rstrip("/")
        self._scope = Scope(region, _SERVICE)
        self._credentials_file = credentials_file
        self._now = now
        self._web = Web(self.name, ca_file)

    @property
    def name(self) -> str:
        parts = urlsplit(self._url)
        return f"s3:{parts.netloc}{parts.path}"

    async def put(self, checkpoint: Checkpoint) -> None:
        """See `Anchor.put`."""
        credentials = _credentials(self._credentials_file)
        parts = urlsplit(self._url)
        path = f"{parts.path}/{object_key(checkpoint)}"
        body = checkpoint.note.encode()
        digest, at = sha256(body), self._now()
        headers = {
            "content-type": "text/plain; charset=utf-8",
            "host": parts.netloc,
            # Stores with object lock ask for a checksum; it costs nothing elsewhere.
            "x-amz-checksum-sha256": base64.b64encode(digest.digest()).decode(),
            "x-amz-content-sha256": digest.hexdigest(),
            "x-amz-date": timestamp(at),
        }
        if credentials.session_token:
            headers["x-amz-security-token"] = credentials.session_token
        request = Request("PUT", path, headers, body)
        headers["authorization"] = authorization(request, credentials, self._scope, at)
        await self._web.send("PUT", f"{parts.scheme}://{parts.netloc}{path}", body, headers)

    async def close(self) -> None:
        await self._web.close()


def _credentials(path: Path) -> Credentials:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_secret(path))
        section = parser["default"]
        return Credentials(
            section["aws_access_key_id"], section["aws_secret_access_key"], section.get("aws_session_token", "")
        )
    except (configparser.Error, KeyError):
        # The cause may quote a secret, so it is not chained.
        raise misconfigured(path, "it has no aws_access_key_id and aws_secret_access_key below [default]") from None
