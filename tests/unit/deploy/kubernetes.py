"""The manifests of docs/deploy/kubernetes: read as kustomize does, and what must hold among them.

Only what these files use of kustomize is known: resources, generated ConfigMaps, images and patches.
The types of the fields are checked by the API server; here it is what refers to what.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.unit.deploy import facts

Document = dict[str, Any]

#: The label that Kubernetes gives each pod of a StatefulSet.
_ORDINAL = "metadata.labels['apps.kubernetes.io/pod-index']"
_WORKLOADS = ("Deployment", "StatefulSet")
_KUSTOMIZATION = {
    "apiVersion", "kind", "resources", "images", "configMapGenerator", "patches",
}  # fmt: skip


def read(folder: Path) -> list[Document]:
    """The documents of a kustomization, its bases first; generated names get no hash."""
    kustomization = read_file(folder / "kustomization.yaml")[0]
    documents: list[Document] = []
    for name in kustomization["resources"]:
        path = folder / name
        documents += read(path) if path.is_dir() else read_file(path)
    for generated in kustomization.get("configMapGenerator", []):
        data = dict(literal.split("=", 1) for literal in generated["literals"])
        name = generated["name"]
        documents.append(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
        )
    for image in kustomization.get("images", []):
        for container in containers(documents):
            if re.sub(r":[\w.-]+$", "", container["image"]) == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
    for patch in kustomization.get("patches", []):
        target, change = _patch(patch)
        found = find(documents, *target)
        if found is not None:
            documents.remove(found)
        if found is not None and change.get("$patch") != "delete":
            documents.append(_merged(found, change))
    return documents


def _patch(patch: Document) -> tuple[tuple[str, str], Document]:
    """What a patch is for, by kind and name, and its change."""
    [change] = yaml.safe_load_all(patch["patch"])
    target = patch.get("target") or {"kind": change["kind"], "name": change["metadata"]["name"]}
    return (target["kind"], target["name"]), change


def _merged(old: Any, new: Any) -> Any:
    """A strategic merge: null and `$patch: delete` take away, elements of lists have names."""
    if isinstance(old, dict) and isinstance(new, dict):
        both = {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}
        return {key: value for key, value in both.items() if value is not None}
    if isinstance(old, list) and isinstance(new, list) and isinstance(new[0], dict):
        key = "mountPath" if "mountPath" in new[0] else "name"
        elements = {each[key]: each for each in old}
        for each in new:
            elements[each[key]] = _merged(elements.get(each[key]), each)
        return [each for each in elements.values() if each.get("$patch") != "delete"]
    return new


def containers(documents: Iterable[Document]) -> Iterator[Document]:
    """The containers of all workloads."""
    for document in documents:
        if document["kind"] in _WORKLOADS:
            yield from document["spec"]["template"]["spec"]["containers"]


def read_file(path: Path) -> list[Document]:
    """The documents of one file."""
    return list(yaml.load_all(path.read_text("utf-8"), yaml.CSafeLoader))


def find(documents: Iterable[Document], kind: str, name: str) -> Document | None:
    """A document by kind and name."""
    for document in documents:
        if document["kind"] == kind and document["metadata"]["name"] == name:
            return document
    return None


def the(documents: Iterable[Document], kind: str, name: str) -> Any:
    """A document that is there."""
    found = find(documents, kind, name)
    assert found is not None, f"{kind} {name}"
    return found


def problems_of(documents: list[Document]) -> list[str]:
    """What a cluster or a reader would stumble over; nothing when all is well."""
    problems = []
    seen = set()
    for document in documents:
        name = f"{document['kind']} {document['metadata']['name']}"
        if name in seen:
            problems.append(f"{name}: twice")
        seen.add(name)
        found = list(_own_problems(documents, document))
        problems += [f"{name}: {problem}" for problem in found]
    return problems


def _own_problems(documents: list[Document], document: Document) -> Iterator[str]:
    if "namespace" in document["metadata"]:
        yield "names a namespace"
    spec = document.get("spec", {})
    match document["kind"]:
        case "Deployment" | "StatefulSet":
            yield from _workload(documents, document)
        case "Service":
            ports = [port["targetPort"] for port in spec["ports"]]
            yield from _selects(documents, spec["selector"], ports)
        case "PodDisruptionBudget":
            yield from _selects(documents, spec["selector"]["matchLabels"], [])
        case "NetworkPolicy":
            ports = [port["port"] for rule in spec["ingress"] for port in rule["ports"]]
            yield from _selects(documents, spec["podSelector"]["matchLabels"], ports, any_pod=True)
        case "ScaledObject":
            name = spec["scaleTargetRef"]["name"]
            found = find(documents, "Deployment", name)
            if found is None:
                yield f"scales Deployment {name}, which is not there"
            elif "replicas" in found["spec"]:
                yield "scales what has a fixed number of replicas"
            if not 1 <= spec["minReplicaCount"] < spec["maxReplicaCount"]:
                yield "has no room between the fewest and the most"


def _selects(
    documents: list[Document], labels: Document, ports: list[str], *, any_pod: bool = False
) -> Iterator[str]:
    """Whether a selector finds pods, all of which, or one, have the ports of these names."""
    found = [
        document
        for document in documents
        if document["kind"] in _WORKLOADS
        and labels.items() <= document["spec"]["template"]["metadata"]["labels"].items()
    ]
    if not found:
        yield f"selects no pod by {labels}"
    each_pods: list[set[str]] = []
    for workload in found:
        [container] = workload["spec"]["template"]["spec"]["containers"]
        # One without ports listens nowhere, so nobody can be sent to it.
        if "ports" in container:
            each_pods.append({port["name"] for port in container["ports"]})
    if any_pod:
        each_pods = [set().union(*each_pods)]
    for names in each_pods:
        yield from (f"no port {port} in its pods" for port in ports if port not in names)


def _workload(documents: list[Document], document: Document) -> Iterator[str]:
    spec = document["spec"]
    template = spec["template"]
    labels = template["metadata"]["labels"]
    if not spec["selector"]["matchLabels"].items() <= labels.items():
        yield "its selector does not match its own pods"
    others = [
        each["metadata"]["name"]
        for each in documents
        if each["kind"] in _WORKLOADS
        and each is not document
        and spec["selector"]["matchLabels"].items()
        <= each["spec"]["template"]["metadata"]["labels"].items()
    ]
    if others:
        yield f"its selector matches the pods of {others}"
    if document["kind"] == "StatefulSet" and not find(documents, "Service", spec["serviceName"]):
        yield f"its service {spec['serviceName']} is not there"
    pod = template["spec"]
    [container] = pod["containers"]
    if not re.fullmatch(r".+:\d+\.\d+\.\d+", container["image"]):
        yield f"the image {container['image']} has no version"
    yield from _closed(pod, container)
    yield from _volumes(documents, spec, pod, container)
    environment = dict(_environment(documents, container))
    yield from (value for name, value in environment.items() if name.startswith("?") and value)
    known = {name: value for name, value in environment.items() if not name.startswith("?")}
    yield from facts.problems_of_environment(known)
    if "CONFKEEP_REDIS_URL" not in known:
        yield "is not told where Redis is"
    yield from _commands(container)
    if "ports" in container:
        yield from _ports(template, container, known)
    if container["args"][0] == "worker":
        yield from _worker(document, pod, known)


def _closed(pod: Document, container: Document) -> Iterator[str]:
    security = pod["securityContext"]
    if not security.get("runAsNonRoot") or security.get("runAsUser", 0) == 0:
        yield "may run as root"
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "has no seccomp profile"
    if pod.get("automountServiceAccountToken") is not False:
        yield "gets a token of the API server"
    own = container["securityContext"]
    if own.get("readOnlyRootFilesystem") is not True:
        yield "may write to its root file system"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if own.get("capabilities") != {"drop": ["ALL"]}:
        yield "keeps capabilities"
    resources = container["resources"]
    if "memory" not in resources["limits"] or not {"cpu", "memory"} <= resources["requests"].keys():
        yield "has no requests or no limit of memory"


def _volumes(
    documents: list[Document], spec: Document, pod: Document, container: Document
) -> Iterator[str]:
    claims = {each["metadata"]["name"] for each in spec.get("volumeClaimTemplates", [])}
    there = {volume["name"] for volume in pod["volumes"]} | claims
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    if there != mounted:
        yield f"volumes {sorted(there)}, mounted {sorted(mounted)}"
    for volume in pod["volumes"]:
        claim = volume.get("persistentVolumeClaim")
        if claim and not find(documents, "PersistentVolumeClaim", claim["claimName"]):
            yield f"its claim {claim['claimName']} is not there"
    if not any(mount["mountPath"] == "/tmp" for mount in container["volumeMounts"]):
        yield "has no /tmp to write to"


def _environment(
    documents: list[Document], container: Document
) -> Iterator[tuple[str, str | None]]:
    """Variables and values, None for what the cluster fills in; `?N` is a problem."""
    for source in container["envFrom"]:
        for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if key in source:
                found = find(documents, kind, source[key]["name"])
                if found is None and source[key].get("optional"):
                    continue
                if found is None:
                    yield f"?{source}", f"its {kind} {source[key]['name']} is not there"
                else:
                    yield from (found.get("data") or found.get("stringData") or {}).items()
    for variable in container.get("env", []):
        if "value" in variable:
            yield variable["name"], variable["value"]
            continue
        path = variable["valueFrom"]["fieldRef"]["fieldPath"]
        yield variable["name"], None
        if variable["name"] == "CONFKEEP_WORKER_INDEX" and path != _ORDINAL:
            yield f"?{path}", f"takes its index from {path}"


def _commands(container: Document) -> Iterator[str]:
    yield from facts.problems_of_command(container["args"])
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        how = container.get(probe)
        if how is None:
            if probe != "startupProbe":
                yield f"has no {probe}"
        elif "exec" in how:
            program, *arguments = how["exec"]["command"]
            if program != "confkeep":
                yield f"{probe} runs {program}"
            yield from facts.problems_of_command(arguments)
            if how["timeoutSeconds"] < 5:
                yield f"{probe} leaves no time to start an interpreter"
        else:
            port = (how.get("httpGet") or how["tcpSocket"])["port"]
            if port not in [each["name"] for each in container["ports"]]:
                yield f"{probe} asks the port {port}, which is not there"


def _ports(
    template: Document, container: Document, environment: dict[str, str | None]
) -> Iterator[str]:
    expected = environment.get("CONFKEEP_METRICS_PORT")
    if container["name"] == "http":
        # Its metrics want a token.
        return
    [port] = [port["containerPort"] for port in container["ports"] if port["name"] == "metrics"]
    annotated = template["metadata"]["annotations"]["prometheus.io/port"]
    if not str(port) == annotated == expected:
        yield f"metrics at {expected}, port {port}, annotation {annotated}"


def _worker(document: Document, pod: Document, environment: dict[str, str | None]) -> Iterator[str]:
    if pod["terminationGracePeriodSeconds"] < facts.shortest_grace_s():
        yield "is killed while it ends in order"
    if document["kind"] == "Deployment":
        if facts.is_numbered(environment):
            yield "many pods are the same worker of several"
    elif "CONFKEEP_WORKER_INDEX" not in environment:
        yield "has a disk of its own and no number"
    elif str(document["spec"]["replicas"]) != (count := environment.get("CONFKEEP_WORKER_COUNT")):
        yield f"{document['spec']['replicas']} replicas for {count} workers"


def problems_of_kustomization(folder: Path) -> list[str]:
    """What a kustomization refers to and is not there."""
    [kustomization] = read_file(folder / "kustomization.yaml")
    problems = [f"unknown: {key}" for key in kustomization.keys() - _KUSTOMIZATION]
    for image in kustomization.get("images", []):
        if not re.fullmatch(r"\d+\.\d+\.\d+", str(image["newTag"])):
            problems.append(f"image {image['newName']} without a version")
    bases = [folder / name for name in kustomization["resources"]]
    documents = [each for base in bases if base.is_dir() for each in read(base)]
    for patch in kustomization.get("patches", []):
        target, _change = _patch(patch)
        if not find(documents, *target):
            problems.append(f"patches {target}")
    return problems


def changed(documents: list[Document]) -> list[Document]:
    """A copy to break."""
    return copy.deepcopy(documents)
