"""Which worker of a cluster this process is, as the variable TF_CONFIG says; read without TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from amzrec.errors import AmzrecError
from amzrec.store.documents import json_value

VARIABLE = "TF_CONFIG"
EXAMPLE = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
STRATEGIES = ("auto", "one", "mirrored", "multi-worker")


class Worker(NamedTuple):
    """A process that trains, one of the `workers` of its cluster."""

    number: int = 0  # the chief is 0: it alone writes the run
    workers: int = 1

    @property
    def chief(self) -> bool:
        """Tell whether this process writes the run."""
        return self.number == 0


ALONE = Worker()


def worker_of(strategy: str, environment: Mapping[str, str] = os.environ) -> Worker:
    """Return which worker this process is with this --strategy; ALONE where it is no part of a cluster.

    Raises AmzrecError for another strategy than STRATEGIES, for multi-worker without TF_CONFIG, and for a TF_CONFIG
    that cannot be read.
    """
    if strategy not in STRATEGIES:
        raise AmzrecError(f"--strategy is {strategy!r}; allowed: {', '.join(STRATEGIES)}")
    text = environment.get(VARIABLE, "").strip()
    if strategy in ("one", "mirrored") or (strategy == "auto" and not text):
        return ALONE
    if not text:
        raise AmzrecError(
            f"--strategy multi-worker needs the variable {VARIABLE}, which is not set: it lists the workers and says "
            f"which of them this is, as in {VARIABLE}='{EXAMPLE}'. On this machine alone: amzrec launch --workers 2 -- "
            "train …"
        )
    return read(text)


def read(text: str) -> Worker:
    """Read a TF_CONFIG with a list of workers, and of one chief where there is one; others are not known here."""
    try:
        document = json_value(text)
    except ValueError as error:
        raise wrong(f"is no JSON ({error})") from error
    found = document if isinstance(document, dict) else {}
    cluster, task = found.get("cluster"), found.get("task")
    if not isinstance(cluster, dict) or not isinstance(task, dict):
        raise wrong("needs an object with the keys cluster and task")
    if others := sorted(set(cluster) - {"chief", "worker"}):
        raise wrong(f"lists {', '.join(others)}: allowed are chief and worker; amzrec trains without parameter servers")
    hosts = {kind: addresses(kind, cluster.get(kind, [])) for kind in ("chief", "worker")}
    if len(hosts["chief"]) > 1:
        raise wrong(f"lists {len(hosts['chief'])} chiefs: one is allowed")
    kind, index = task.get("type"), task.get("index")
    if kind not in hosts or not hosts[kind]:
        raise wrong(f"has the task type {kind!r}: allowed are those that the cluster lists, {', '.join(cluster)}")
    if isinstance(index, str) and index.isdecimal():
        index = int(index)
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(hosts[kind]):
        raise wrong(f"has the task index {index!r}: the {len(hosts[kind])} of type {kind} are numbered from 0")
    before = len(hosts["chief"]) if kind == "worker" else 0
    return Worker(before + index, sum(map(len, hosts.values())))


def addresses(kind: str, listed: Any) -> list[str]:
    """Check the addresses of one kind of task."""
    if not isinstance(listed, list) or not all(isinstance(each, str) and ":" in each for each in listed):
        raise wrong(f"needs a list of HOST:PORT for {kind}; found {listed!r}")
    if len(set(listed)) < len(listed):
        raise wrong(f"lists an address of {kind} twice")
    return listed


def wrong(what: str) -> AmzrecError:
    """Return the error of a TF_CONFIG in which something is wrong."""
    return AmzrecError(
        f"the variable {VARIABLE} {what}. It has the form {EXAMPLE}; without a cluster: unset {VARIABLE}, or "
        "--strategy one"
    )
