# Runs in a sandbox: fetch the artifact, exchange the job's identity, deploy. The token is good for this digest only.
curl --silent --show-error --fail -o artifact "$STORE_URL/${DIGEST#sha256:}"
token=$(orchestrator-token --audience "$AUDIENCE")

echo "== another artifact with the same token must be refused"
cp artifact swapped && echo tampered >> swapped
code=$(curl --silent --output answer --write-out '%{http_code}' --data-binary @swapped \
    -H "Authorization: Bearer $token" "$TARGET_URL/deploy")
cat answer
test "$code" = 401

echo "== the artifact that the gate let through"
curl --silent --show-error --fail-with-body --data-binary @artifact -H "Authorization: Bearer $token" "$TARGET_URL/deploy"
