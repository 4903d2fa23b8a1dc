# Runs in a sandbox: build the wheel, say what it is made of, hand both to the store, report them with the job's identity.
git clone --quiet "$REPOSITORY_URL" source
cd source
test "$(git rev-parse HEAD)" = "$COMMIT"
PYTHONPATH=. "$TOOLCHAIN/bin/python" -m hatchling build -t wheel -d dist
"$TOOLCHAIN/bin/python" tests/demo/jobs/bill_of_materials.py requirements/runtime.txt > dist/bom.cdx.json

wheel=$(echo dist/*.whl)
digest=$(sha256sum "$wheel" | cut -d' ' -f1)
curl --silent --show-error --fail -T "$wheel" "$STORE_URL/$digest"
curl --silent --show-error --fail -T dist/bom.cdx.json "$STORE_URL/$digest.bom"
orchestrator-artifact "$wheel" --sbom dist/bom.cdx.json
