"""The audit log's checkpoint and key over HTTP: for everybody, as they are."""

from __future__ import annotations


async def test_the_checkpoint_is_the_signed_note_itself(api):
    async with api.client.get(f"{api.url}/v1/audit/checkpoint") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        assert answer.headers["Cache-Control"] == "no-cache"
        assert await answer.text() == "ci.test/audit\n3\ncm9vdA==\n\n— ci.test/audit c2lnbmF0dXJl\n"


async def test_the_key_is_one_line(api):
    async with api.client.get(f"{api.url}/v1/audit/key") as answer:
        assert (answer.status, await answer.text()) == (200, "ci.test/audit+01234567+a2V5\n")
    async with api.client.get(f"{api.url}/v1/audit/key?x=1") as answer:
        assert answer.status == 400
