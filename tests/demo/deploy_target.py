"""A deploy target that knows only an issuer's URL: it trusts what its discovery document and key set say.

Written against the OIDC and RFC 7662 texts with a JWT library that the product does not use. It keeps the last
token it saw, so that the demo can ask it again after the job's end. Prints its port, serves until its
standard input closes.

Usage: deploy_target.py ADDRESS ISSUER AUDIENCE [AUDIENCE...]   (one virtual target for each: /0, /1, ...)
"""

import asyncio
import hashlib
import sys
import time

import aiohttp
from aiohttp import web
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet


class Target:
    def __init__(self, issuer: str, audience: str) -> None:
        self.issuer = issuer
        self.audience = audience
        self.last_token = ""

    async def judge(self, token: str, artifact: bytes = b"") -> tuple[bool, str]:
        """Signature, issuer, audience, time, whether the issuer still stands by the token, and that it is for this
        artifact, when one is given."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            async with session.get(f"{self.issuer}/.well-known/openid-configuration") as answer:
                discovery = await answer.json()
            if discovery["issuer"] != self.issuer:
                return False, "the discovery document speaks for another issuer"
            async with session.get(discovery["jwks_uri"]) as answer:
                keys = KeySet.import_key_set(await answer.json())
            try:
                algorithms = discovery["id_token_signing_alg_values_supported"]
                claims = jwt.decode(token, keys, algorithms=algorithms).claims
                jwt.JWTClaimsRegistry(
                    now=lambda: int(time.time()),
                    iss={"essential": True, "value": self.issuer},
                    aud={"essential": True, "value": self.audience},
                    exp={"essential": True},
                    sub={"essential": True},
                ).validate(claims)
            except (JoseError, ValueError) as error:
                return False, f"{type(error).__name__}: {error}"
            async with session.post(discovery["introspection_endpoint"], data={"token": token}) as answer:
                if not (await answer.json()).get("active"):
                    return False, "the issuer no longer stands by this token: its job has ended"
        digest = f"sha256:{hashlib.sha256(artifact).hexdigest()}"
        if artifact and claims.get("artifact_digest") != digest:
            return False, f"the token is for another artifact than {digest}"
        return True, f"welcome, {claims['sub']}"

    async def deploy(self, request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.last_token = token
        return self._answer(*await self.judge(token, await request.read()))

    async def again(self, _request: web.Request) -> web.Response:
        return self._answer(*await self.judge(self.last_token))

    def _answer(self, accepted: bool, why: str) -> web.Response:
        word = "accepted" if accepted else "refused"
        return web.Response(status=200 if accepted else 401, text=f"{self.audience}: {word}: {why}\n")


async def main() -> None:
    address, issuer, *audiences = sys.argv[1:]
    app = web.Application(client_max_size=64 << 20)
    for number, audience in enumerate(audiences):
        target = Target(issuer, audience)
        app.router.add_post(f"/{number}/deploy", target.deploy)
        app.router.add_post(f"/{number}/again", target.again)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, address, 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


asyncio.run(main())
