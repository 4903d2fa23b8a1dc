"""Prints its credentials in each form that a careless or a clever job would, and asks with them in wrong places."""

import base64
import json
import os
import subprocess
import urllib.parse

runner = open(os.environ["ORCHESTRATOR_TOKEN_FILE"]).read().strip()
identity = subprocess.run(
    ["orchestrator-token", "--audience", os.environ["AUDIENCE"]], check=True, capture_output=True, text=True, timeout=30
).stdout.strip()
for secret in (runner, identity):
    print("plain", secret)
    print("base64", base64.b64encode(secret.encode()).decode())
    print("shifted", base64.b64encode(b"x" + secret.encode()).decode())
    print("url-safe", base64.urlsafe_b64encode(secret.encode()).decode())
    print("hex", secret.encode().hex())
    print("json", json.dumps({"token": secret}))
    print("percent", urllib.parse.quote(secret))
print("turned", runner[::-1], identity[::-1])
