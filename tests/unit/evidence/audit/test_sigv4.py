"""Signatures against those that AWS publishes."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

import pytest

from orchestrator.evidence.audit.sigv4 import Credentials, Request, Scope, authorization, timestamp

S3 = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
S3_AT = datetime(2013, 5, 24, tzinfo=UTC)
SUITE = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SUITE_AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
EMPTY = sha256(b"").hexdigest()


def s3_request(method: str, path: str, body: bytes = b"", query=(), **more: str) -> Request:
    headers = {
        "host": "examplebucket.s3.amazonaws.com",
        "x-amz-content-sha256": sha256(body).hexdigest(),
        "x-amz-date": timestamp(S3_AT),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return Request(method, path, headers, body, query)


@pytest.mark.parametrize(
    ("request_", "signature"),
    [
        (
            s3_request("GET", "/test.txt", range="bytes=0-9"),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            s3_request(
                "PUT",
                "/test%24file.text",
                b"Welcome to Amazon S3.",
                date="Fri, 24 May 2013 00:00:00 GMT",
                x_amz_storage_class="REDUCED_REDUNDANCY",
            ),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            s3_request("GET", "/", query=[("lifecycle", "")]),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            s3_request("GET", "/", query=[("prefix", "J"), ("max-keys", "2")]),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_examples_of_the_s3_documentation(request_, signature):
    told = authorization(request_, S3, Scope("us-east-1", "s3"), S3_AT)
    assert told.startswith("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, ")
    assert f"SignedHeaders={';'.join(sorted(request_.headers))}, " in told
    assert told.endswith(f"Signature={signature}")


@pytest.mark.parametrize(
    ("method", "query", "signature"),
    [
        ("GET", (), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", (), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "GET",
            [("Param2", "value2"), ("Param1", "value1")],
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
    ],
)
def test_vectors_of_the_test_suite(method, query, signature):
    headers = {"host": "example.amazonaws.com", "x-amz-date": timestamp(SUITE_AT)}
    told = authorization(Request(method, "/", headers, b"", query), SUITE, Scope("us-east-1", "service"), SUITE_AT)
    assert told == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders=host;x-amz-date, Signature={signature}"
    )


def test_white_space_in_a_header_is_folded_and_secrets_do_not_print():
    loose = s3_request("GET", "/", x_amz_meta="  a   b ")
    tight = s3_request("GET", "/", x_amz_meta="a b")
    scope = Scope("us-east-1", "s3")
    assert authorization(loose, S3, scope, S3_AT) == authorization(tight, S3, scope, S3_AT)
    assert "wJal" not in repr(S3)
    assert "token" not in repr(Credentials("a", "b", "token-1"))
