"""Airflow's KubernetesExecutor, driven at its scheduler class as the executor does. Runs with Airflow's environment.

    python airflow_peer.py NAMESPACE JOBS default|tuned FOLDER

Prints `ready`, then for each line on standard input one round: JOBS tasks at once, a JSON line with what it took.
*default* makes one pod in a loop and sleeps a second where the scheduler would; *tuned* makes pods concurrently, 64 in
a loop, and sleeps 50 ms. No metadata database is behind it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from queue import Empty

TEMPLATE = """
apiVersion: v1
kind: Pod
metadata: {name: template}
spec:
  restartPolicy: Never
  containers: [{name: base, image: image}]
"""


def configure(namespace: str, folder: Path, tuned: bool) -> None:
    """Before Airflow is imported: it reads its settings then."""
    (folder / "template.yaml").write_text(TEMPLATE)
    chosen = {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__EXECUTOR": "KubernetesExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "FATAL",
        "AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER": "false",
        "AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE": os.environ["KUBECONFIG"],
        "AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE": namespace,
        "AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE": str(folder / "template.yaml"),
    }
    if tuned:
        chosen["AIRFLOW__KUBERNETES_EXECUTOR__ASYNC_POD_CREATION"] = "true"
        chosen["AIRFLOW__KUBERNETES_EXECUTOR__WORKER_PODS_CREATION_BATCH_SIZE"] = "64"
        chosen["AIRFLOW__KUBERNETES_EXECUTOR__POD_CREATION_MAX_CONCURRENCY"] = "64"
    os.environ.update(chosen)


def main(namespace: str, jobs: int, tuned: bool) -> None:
    import multiprocessing

    from airflow.models.taskinstancekey import TaskInstanceKey
    from airflow.providers.cncf.kubernetes.executors.kubernetes_executor_types import KubernetesJob
    from airflow.providers.cncf.kubernetes.executors.kubernetes_executor_utils import AirflowKubernetesScheduler
    from airflow.providers.cncf.kubernetes.kube_client import get_kube_client
    from airflow.providers.cncf.kubernetes.kube_config import KubeConfig

    config = KubeConfig()
    results = multiprocessing.Manager().Queue()
    scheduler = AirflowKubernetesScheduler(config, results, get_kube_client(), "1")
    time.sleep(5)
    print("ready", flush=True)
    number = 0
    while sys.stdin.readline():
        waiting = []
        for _ in range(jobs):
            number += 1
            key = TaskInstanceKey("dag", f"task{number}", "run", 1, -1)
            waiting.append(KubernetesJob(key, ["airflow", "tasks", "run", "dag", f"task{number}"], None, None))
        began = time.perf_counter()
        # A pod gives several results; those of an earlier round are nobody's here.
        done: dict[object, float] = {}
        keys = {job.key for job in waiting}
        while len(done) < jobs and time.perf_counter() - began < 180:
            turn(scheduler, results, waiting, keys, done, began, config)
            time.sleep(0.05 if tuned else 1.0)
        taken = {"seconds": time.perf_counter() - began}
        lost = [f"{jobs - len(done)} tasks never came back"] if len(done) < jobs else []
        print(json.dumps({**taken, "latencies": list(done.values()), "failures": lost}), flush=True)
    scheduler.terminate()


def turn(scheduler, results, waiting, keys, done, began, config) -> None:
    """`KubernetesExecutor.sync` without its database: results first, then a batch of pods."""
    scheduler.sync()
    with contextlib.suppress(Empty):
        while True:
            result = results.get_nowait()
            if result.key in keys and result.key not in done:
                scheduler.delete_pod(result.pod_name, result.namespace)
                done[result.key] = time.perf_counter() - began
    batch = [waiting.pop(0) for _ in range(min(len(waiting), config.worker_pods_creation_batch_size))]
    if config.async_pod_creation and batch:
        for job, error in scheduler.run_next_batch(batch):
            if error is not None:
                waiting.append(job)
    else:
        for job in batch:
            scheduler.run_next(job)


if __name__ == "__main__":
    configure(sys.argv[1], Path(sys.argv[4]), sys.argv[3] == "tuned")
    # What Airflow prints itself must not come between our answers.
    answers = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(answers, "w")
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "tuned")
