"""A study on a Ray cluster of two nodes, one of which is killed: ``on_ray.py DIRECTORY RUNS``."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from jaxft.study import claims, process
from jaxft.study.cluster import run_on_ray
from jaxft.study.status import study_status
from tests.study import digits


def build(config: digits.Config):
    """On a node, which then stands for a machine of its own, whose processes nobody else can see."""
    node = ray.get_runtime_context().get_node_id()
    claims.this_machine = process.this_machine = lambda: node
    return digits.build(config)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def kill(directory: Path, raylet: int) -> None:
    """Kills the node once some runs are done and it is doing another."""
    while True:
        time.sleep(0.02)
        if not (directory / "study.json").is_file():
            continue
        status = study_status(directory)
        theirs = [run["pid"] for run in status.runs if run["state"] == "under way" and parent(run["pid"]) == raylet]
        if status.counts()["finished"] >= 3 and theirs:
            for pid in (theirs[0], raylet):
                os.kill(pid, signal.SIGKILL)
            print("killed", flush=True)
            return


def main(directory: Path, runs: int) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    raylet = node.all_processes["raylet"][0].process.pid
    killer = threading.Thread(target=kill, args=(directory, raylet), daemon=True)
    killer.start()
    rows = run_on_ray(
        build, digits.Config(steps=3000), digits.grid(runs), directory=directory, name="digits", stale=3.0
    )
    killer.join()
    print(len(rows), "rows")
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
