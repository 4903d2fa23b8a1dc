"""Presents a credential stolen from another runner at every door of this runner. Prints JSON: door to answer."""

import json
import os
import urllib.error
import urllib.parse
import urllib.request

stolen = os.environ["LOOT"]
stolen_id = os.environ["LOOT_ID"]
exchange = os.environ["ORCHESTRATOR_EXCHANGE_URL"]
base = exchange.removesuffix("/runner/v1/token")
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
answers = {}


def ask(name, path, body, **headers):
    request = urllib.request.Request(base + path, data=body, headers=headers)
    try:
        with opener.open(request, timeout=20) as response:
            answers[name] = {"status": response.status, "body": response.read(2000).decode()}
    except urllib.error.HTTPError as error:
        answers[name] = {"status": error.code, "body": error.read(2000).decode()}


def form(token, **more):
    return urllib.parse.urlencode(
        {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "audience": os.environ["AUDIENCE"],
            "requested_token_type": "urn:ietf:params:oauth:token-type:id_token",
        }
        | more
    ).encode()


kind = "application/x-www-form-urlencoded"
ask("exchange of the runner's token", "/runner/v1/token", form(stolen), **{"Content-Type": kind})
ask("exchange of the ID token", "/runner/v1/token", form(stolen_id), **{"Content-Type": kind})
proof = json.dumps({"proof": {"denied": ["metadata", "direct"], "reached": []}}).encode()
for name, token in (("claim with the stolen token", stolen), ("claim with its own", "")):
    own = open(os.environ["ORCHESTRATOR_TOKEN_FILE"]).read().strip()
    ask(
        name,
        "/runner/v1/claim",
        proof,
        **{"Content-Type": "application/json", "Authorization": f"Bearer {token or own}"},
    )
artifact = json.dumps({"name": "x", "digest": "sha256:" + "0" * 64}).encode()
ask(
    "artifact in the victim's name",
    "/runner/v1/artifacts",
    artifact,
    **{"Content-Type": "application/json", "Authorization": f"Bearer {stolen}"},
)
print(json.dumps(answers))
