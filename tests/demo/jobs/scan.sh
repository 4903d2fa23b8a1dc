# Runs in a sandbox of its own pool: look at an artifact that another job built, and report what was found.
curl --silent --show-error --fail -o artifact "$STORE_URL/$DIGEST"
echo "$DIGEST  artifact" | sha256sum --check --quiet
curl --silent --show-error --fail -o bom.cdx.json "$STORE_URL/$DIGEST.bom"
printf '%s' "$ADVISORIES" > advisories.json
printf '%s' "$SCANNER" > scanner.py
python3 scanner.py artifact bom.cdx.json advisories.json "$FINISHED_AT" > report.json
orchestrator-artifact attest "sha256:$DIGEST" --scan report.json --scanner demo-scanner
