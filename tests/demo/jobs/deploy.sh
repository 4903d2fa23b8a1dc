# Runs in a sandbox: exchange the job's identity for a token of one audience, and deploy with it.
token=$(orchestrator-token --audience "$AUDIENCE")
echo "got a token of ${#token} characters for $AUDIENCE"

echo "== the target that expects this audience"
curl --silent --show-error --fail-with-body -X POST -H "Authorization: Bearer $token" "$TARGET_URL/deploy"

echo "== another audience must refuse the same token"
code=$(curl --silent --output answer --write-out '%{http_code}' -X POST -H "Authorization: Bearer $token" "$OTHER_URL/deploy")
cat answer
test "$code" = 401

echo "== an audience that policy does not give this job"
if orchestrator-token --audience "$OTHER_AUDIENCE" > /dev/null; then
    echo "got a token for $OTHER_AUDIENCE, which must not happen"
    exit 1
fi
