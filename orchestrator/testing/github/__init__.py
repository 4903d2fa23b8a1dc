"""A stateful test server that speaks GitHub's Actions protocols, and a stand-in for its runner program.

REST API (with and without `/api/v3`), Actions service with scale sets, sessions and the message queue, webhooks,
an OpenID issuer, and broker endpoints of its own for the runner program. In short::

    from orchestrator.testing.github.model import Flavour, JobPlan
    from orchestrator.testing.github.server import GitHubServer

    async with GitHubServer() as github:                      # or: await github.start() ... await github.stop()
        github.add_repository("acme/shop", branches={"main": True})          # True: protected
        github.config_url("acme")                             # what a scale set client is configured with
        github.app                                            # client_id, app_id, installation_id, private_key (PEM)
        github.personal_token                                 # a token that may do everything
        run = github.dispatch_workflow("acme/shop", [JobPlan("build", labels=("zt",), steps=("echo hello",))])
        await github.until(lambda: run.done)
        run.jobs[0].conclusion, run.jobs[0].runner_name, run.jobs[0].log

- `github.url` is where it listens. Give `runner_url` when runners reach it under another name, as through the egress
  gateway: `GitHubServer(port=8085, runner_url="http://github.example:8085")` with `egress.names` for that host.
- `github.clock.step(seconds)` moves its time ahead: rules of 50 seconds, a minute, a day, a week fire at once.
- `github.options` are the platform's rules as numbers; `Options(flavour=Flavour.GHES)` announces jobs first.
- `github.faults` breaks answers: `faults.add(Fault.RATE_LIMITED, "generatejitconfig", times=3)`; see `faults.py`.
- `github.counters["POST /_apis/runtime/runnerscalesets/{id}/generatejitconfig"]` counts the calls of each endpoint.
- `github.webhooks.add(url, secret)` sends every change of a job there; its counts drop, double, reverse or forge.
- `repository.history` has commits, branches, pull requests and reviews; see `history.py`. `github.person("kim")` is an
  account, `github.rename_repository` gives a repository another name.
- `github.state` is the whole platform: `state.sets`, `state.runners`, `state.runs`.

- From another process: `GitHubServer(control=True)`, or `python -m orchestrator.testing.github --help`, then JSON to
  `POST /_control/dispatch`, `/_control/faults`, `/_control/step`, and `GET /_control/state`; see `routes_control.py`.

The runner program is `runner.py`: a single file, standard library only, `python -I -S runner.py`, with the just-in-time
configuration in `ACTIONS_RUNNER_INPUT_JITCONFIG` or after `--jitconfig`; it goes through `http_proxy`, over plain http.
`runner_folder.lay_out(folder)` puts it there compiled, with a `run.sh`, which is quicker for each job.
"""
