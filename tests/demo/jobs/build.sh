# Runs in a sandbox: clone, test, build, report. Its only way out is the gateway.
echo "== clone"
git clone --quiet "$REPOSITORY_URL" source
cd source
git log -1 --format='at %h %s'

echo "== test"
# The tests' own spans land under this job's span: pytest-opentelemetry reads TRACEPARENT. Its exporter's thread
# draws random numbers, which hypothesis would take for the tests' doing. Each test is some fifteen spans, a job may
# have 20,000, and the one that all others hang from comes last: so not all tests.
PYTHONPATH=. "$TOOLCHAIN/bin/python" -m pytest tests/unit/evidence \
    --quiet --quiet --no-header -p no:cacheprovider --export-traces \
    -W ignore::hypothesis.errors.HypothesisDeprecationWarning

echo "== build"
PYTHONPATH=. "$TOOLCHAIN/bin/python" -m hatchling build -t wheel -d dist
"$TOOLCHAIN/bin/python" tests/demo/jobs/bill_of_materials.py requirements/runtime.txt > dist/bom.cdx.json

echo "== report"
orchestrator-artifact dist/*.whl
orchestrator-artifact --media-type application/vnd.cyclonedx+json dist/bom.cdx.json
