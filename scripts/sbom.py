"""What amzrec is installed with, as a bill of materials: CycloneDX 1.6 (JSON), made by python scripts/sbom.py FILE."""

from __future__ import annotations

import argparse
import json
import re
import uuid
from collections import deque
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = "amzrec"


def plain(name: str) -> str:
    """Return the one spelling of the name of a package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needs(found: Distribution, extras: frozenset[str]) -> list[tuple[str, frozenset[str]]]:
    """List the packages that an installed one needs on this machine, each with the extras that are asked of it."""
    wanted = map(Requirement, found.requires or [])
    return [
        (plain(one.name), frozenset(one.extras))
        for one in wanted
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in (*extras, ""))
    ]


def installed(extras: frozenset[str]) -> dict[str, tuple[Distribution, list[str]]]:
    """Follow requirements from amzrec on: each package that is there, and what it needs of those that are."""
    found: dict[str, tuple[Distribution, set[str]]] = {}
    done, waiting = set[tuple[str, str]](), deque([(ROOT, extras)])
    while waiting:
        name, wanted = waiting.popleft()
        try:
            package = distribution(name)
        except PackageNotFoundError:  # of another platform
            continue
        known = found.setdefault(name, (package, set()))
        for extra in sorted({*wanted, ""}):
            if (name, extra) not in done:
                done.add((name, extra))
                following = needs(package, frozenset({extra}))
                known[1].update(other for other, _ in following)
                waiting.extend(following)
    return {name: (package, sorted(others & found.keys())) for name, (package, others) in sorted(found.items())}


def component(name: str, package: Distribution) -> dict[str, Any]:
    """Describe one package."""
    reference = f"pkg:pypi/{name}@{package.version}"
    told = {"type": "library", "bom-ref": reference, "name": name, "version": package.version, "purl": reference}
    if package.metadata["License-Expression"]:
        return told | {"licenses": [{"expression": package.metadata["License-Expression"]}]}
    classified = [
        line.rpartition(" :: ")[2]
        for line in package.metadata.get_all("Classifier") or []
        if line.startswith("License :: OSI Approved :: ")
    ]
    return told | ({"licenses": [{"license": {"name": line}} for line in classified]} if classified else {})


def bill(extras: frozenset[str]) -> dict[str, Any]:
    """Make the document; equal installations give equal documents."""
    packages = installed(extras)
    parts = {name: component(name, package) for name, (package, _) in packages.items()}
    references = {name: part["bom-ref"] for name, part in parts.items()}
    root = parts.pop(ROOT) | {"type": "application"}
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": root},
        "components": list(parts.values()),
        "dependencies": [
            {"ref": references[name], "dependsOn": [references[other] for other in others]}
            for name, (_, others) in packages.items()
        ],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document))
    return document | {"serialNumber": f"urn:uuid:{serial}"}


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--extras", default="serve,postgres,mysql,xlsx,onnx", help="of amzrec, with commas between")
    arguments = parser.parse_args()
    document = bill(frozenset(arguments.extras.split(",")))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{arguments.out}: {len(document['components'])} packages")


if __name__ == "__main__":
    main()
