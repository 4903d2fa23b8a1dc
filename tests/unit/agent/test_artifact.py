"""`orchestrator-artifact`: what it sends, and what it refuses before it sends anything."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from orchestrator.agent.tokens import report
from orchestrator.evidence.attestations import scan as reader

DIGEST = "sha256:" + "a" * 64
APP = b"the artifact"
TRIVY = {"SchemaVersion": 2, "CreatedAt": "2027-01-15T07:00:00Z", "Results": []}


class Api(http.server.BaseHTTPRequestHandler):
    received: ClassVar[list[tuple[str, str, dict]]]
    status = 201

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.received.append((self.path, self.headers["Authorization"], body))
        answer = {"predicate_digest": "sha256:d"} if self.status == 201 else {"reason": "job_not_running"}
        data = json.dumps(answer).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments) -> None:
        """Nothing."""


@pytest.fixture
def api(monkeypatch, tmp_path):
    class Handler(Api):
        received: ClassVar[list[tuple[str, str, dict]]] = []

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    (tmp_path / "token").write_text("the-token\n")
    monkeypatch.setenv("ORCHESTRATOR_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("ORCHESTRATOR_ARTIFACTS_URL", f"http://127.0.0.1:{server.server_port}/runner/v1/artifacts")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.whl").write_bytes(APP)
    yield Handler
    server.shutdown()
    thread.join(10)
    server.server_close()


def write(name: str, document: object) -> str:
    Path(name).write_text(json.dumps(document), encoding="utf-8")
    return name


def test_an_artifact_is_reported_before_its_documents_with_the_jobs_credential(api, capsys):
    bom = write("bom.json", {"bomFormat": "CycloneDX", "specVersion": "1.6"})
    spdx = write("spdx.json", {"spdxVersion": "SPDX-2.3"})
    assert report.main(["app.whl", "--sbom", bom, "--sbom", spdx]) == 0
    digest = "sha256:" + hashlib.sha256(APP).hexdigest()
    assert [path for path, _, _ in api.received] == ["/runner/v1/artifacts", *["/runner/v1/attestations"] * 2]
    assert {credential for _, credential, _ in api.received} == {"Bearer the-token"}
    assert [body["digest"] for _, _, body in api.received] == [digest] * 3
    assert [body["predicate_type"] for _, _, body in api.received[1:]] == [report.CYCLONEDX, report.SPDX]
    assert capsys.readouterr().out.splitlines()[0] == f"{digest}  app.whl"


def test_a_scanners_report_is_wrapped_so_that_its_reader_knows_who_looked_and_when(api):
    found = write("report.json", TRIVY)
    assert report.main(["attest", DIGEST, "--scan", found, "--scanner", "trivy"]) == 0
    ((path, _, body),) = api.received
    assert (path, body["digest"], body["predicate_type"]) == (
        "/runner/v1/attestations",
        DIGEST,
        report.VULNERABILITIES,
    )
    predicate = msgspec.Raw(json.dumps(body["predicate"]).encode())
    read = reader.read_scan(body["predicate_type"], predicate, 1_800_000_000_000_000_000)
    assert (read["scanner"], read["finished_at"]) == ("trivy", "2027-01-15T07:00:00Z")
    wrapped = write("wrapped.json", body["predicate"])
    assert report.main(["attest", DIGEST, "--scan", wrapped, "--scanner", "trivy"]) == 0
    assert api.received[1][2] == body


def test_a_file_may_stand_for_an_artifact_of_another_job_and_is_not_reported_as_built(api):
    document = write("results.json", {"result": "PASSED"})
    assert report.main(["attest", "app.whl", "--predicate", document, "--type", "https://t.example"]) == 0
    ((path, _, body),) = api.received
    assert path == "/runner/v1/attestations"
    assert body == {
        "digest": "sha256:" + hashlib.sha256(APP).hexdigest(),
        "predicate_type": "https://t.example",
        "predicate": {"result": "PASSED"},
    }


@pytest.mark.parametrize("content", ["[]", "{", '{"neither": 1}', '"text"'])
def test_nothing_is_sent_when_a_document_is_none(api, capsys, content):
    Path("bom.json").write_text(content, encoding="utf-8")
    assert report.main(["app.whl", "--sbom", "bom.json"]) == 2
    assert "bom.json" in capsys.readouterr().err
    assert api.received == []


def test_a_document_that_is_too_large_is_not_sent(api, capsys, monkeypatch):
    monkeypatch.setattr(report, "MAX_DOCUMENT", 64)
    bom = write("bom.json", {"bomFormat": "CycloneDX", "note": "x" * 64})
    assert report.main(["app.whl", "--sbom", bom]) == 2
    assert "64 bytes" in capsys.readouterr().err
    assert api.received == []


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["attest", DIGEST],
        ["app.whl", "--scan", "x"],
        ["app.whl", "--scanner", "trivy"],
        ["app.whl", "--predicate", "x"],
        ["app.whl", "app.whl", "--sbom", "x"],
        ["app.whl", "app.whl", "--name", "x"],
    ],
)
def test_options_that_do_not_fit_together_are_told_at_once(api, words):
    with pytest.raises(SystemExit) as ended:
        report.main(words)
    assert ended.value.code == 2
    assert api.received == []


def test_a_refusal_names_the_file_and_the_reason(api, capsys):
    api.status = 409
    assert report.main(["app.whl"]) == 1
    assert "app.whl: 409 job_not_running" in capsys.readouterr().err
