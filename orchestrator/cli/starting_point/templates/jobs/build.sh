# Runs in a single-use runner of the pool `build`. Whatever is reported here is signed by the control plane at the job's
# end: what was built, from which commit, where and under which policy. No key is in the runner.
set -eu
printf 'hello\n' > app.txt                                # your build
cat > app.cdx.json <<'SBOM'
{"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
 "components": [{"type": "application", "name": "app", "version": "1"}]}
SBOM
# Your generator writes it instead: syft scan dir:. --output cyclonedx-json=app.cdx.json
orchestrator-artifact app.txt --sbom app.cdx.json
