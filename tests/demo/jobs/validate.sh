# Runs in a sandbox: what must hold before anything is built. Its only way out is the gateway.
echo "== clone"
git clone --quiet "$REPOSITORY_URL" source
cd source
test "$(git rev-parse HEAD)" = "$COMMIT"
git log -1 --format='at %h %s'

echo "== style"
"$TOOLCHAIN/bin/ruff" check --quiet --no-cache orchestrator

echo "== policy's own tests"
PYTHONPATH=. "$TOOLCHAIN/bin/python" -m orchestrator policy test | tail -n 1
