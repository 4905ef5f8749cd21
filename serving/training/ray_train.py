"""A training by two workers of a Ray cluster: python serving/training/ray_train.py /data/dataset --run /data/runs/joint

/data is a disk that all nodes read; the words are those of amzrec train. Where a node is lost, all begin again with
--resume, at most three times.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import ray

WORKERS, TRIES = 2, 4


@ray.remote(num_cpus=1, max_restarts=0)
class Worker:
    """One worker of the cluster, on the node where Ray puts it."""

    def address(self) -> str:
        """Return a free address of this node."""
        with socket.create_server(("", 0)) as free:
            return f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"

    def train(self, addresses: list[str], number: int, words: list[str]) -> int:
        """Run amzrec train as worker `number`, and return its exit code."""
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
        command = ["amzrec", "train", *words, "--strategy", "multi-worker", "--resume"]
        return subprocess.run(command, env=os.environ | {"TF_CONFIG": json.dumps(config)}).returncode


def once(words: list[str]) -> bool:
    """Train with new workers, and tell whether all of them ended well."""
    workers = [Worker.options(scheduling_strategy="SPREAD").remote() for _ in range(WORKERS)]
    try:
        addresses = ray.get([worker.address.remote() for worker in workers])
        codes = [worker.train.remote(addresses, number, words) for number, worker in enumerate(workers)]
        return not any(ray.get(codes))
    except ray.exceptions.RayActorError:
        return False
    finally:
        for worker in workers:
            ray.kill(worker)


if __name__ == "__main__":
    ray.init(address=os.environ.get("RAY_ADDRESS"))
    sys.exit(0 if any(once(sys.argv[1:]) for _ in range(TRIES)) else 1)
