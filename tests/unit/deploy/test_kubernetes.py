"""The Kubernetes manifests fit together; each check can fail."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.deploy import facts, kubernetes
from tests.unit.deploy.kubernetes import Document, find, the

FOLDER = facts.ROOT / "docs/deploy/kubernetes"
SECRET = kubernetes.read_file(FOLDER / "base/secret.example.yaml")
BASE = [*kubernetes.read(FOLDER / "base"), *SECRET]
ALL = [*kubernetes.read(FOLDER / "autoscaling"), *SECRET]
OWN = [*kubernetes.read(FOLDER / "own-volumes"), *SECRET]


@pytest.mark.parametrize("documents", [BASE, ALL, OWN], ids=["base", "autoscaling", "own-volumes"])
def test_the_manifests_have_no_problem(documents: list[Document]) -> None:
    assert kubernetes.problems_of(documents) == []


@pytest.mark.parametrize("name", ["base", "autoscaling", "own-volumes"])
def test_the_kustomizations_have_no_problem(name: str) -> None:
    assert kubernetes.problems_of_kustomization(FOLDER / name) == []


def test_every_manifest_belongs_to_a_kustomization() -> None:
    for folder in FOLDER.iterdir():
        [kustomization] = kubernetes.read_file(folder / "kustomization.yaml")
        named = {"kustomization.yaml", "secret.example.yaml", *kustomization["resources"]}
        assert {path.name for path in folder.iterdir()} <= named


def test_the_secret_is_an_example_only() -> None:
    assert not find(kubernetes.read(FOLDER / "base"), "Secret", "confkeep-redis")
    assert SECRET[0]["stringData"] == {"CONFKEEP_REDIS_URL": "rediss://USER:PASSWORD@HOST:6379/0"}


def worker(documents: list[Document]) -> Any:
    found = find(documents, "Deployment", "confkeep-worker")
    return (found or the(documents, "StatefulSet", "confkeep-worker"))["spec"]


def container(documents: list[Document], name: str = "confkeep-worker") -> Any:
    spec = (
        worker(documents)
        if name == "confkeep-worker"
        else the(documents, "Deployment", name)["spec"]
    )
    return spec["template"]["spec"]["containers"][0]


def scaled(documents: list[Document]) -> Any:
    return the(documents, "ScaledObject", "confkeep-worker")["spec"]


def config(documents: list[Document]) -> Any:
    return the(documents, "ConfigMap", "confkeep")["data"]


BROKEN: dict[str, tuple[Callable[[list[Document]], Any], str]] = {
    "a worker with a number": (
        lambda d: config(d).update(CONFKEEP_WORKER_COUNT="2"),
        "Deployment confkeep-worker: many pods are the same worker of several",
    ),
    "an unknown variable": (
        lambda d: config(d).update(CONFKEEP_SHARD_COUNT="16"),
        "CONFKEEP_SHARD_COUNT: no such setting",
    ),
    "a wrong value": (lambda d: config(d).update(CONFKEEP_SHARDS="x"), "CONFKEEP_SHARDS"),
    "a ConfigMap that is not there": (
        lambda d: container(d)["envFrom"][0]["configMapRef"].update(name="config"),
        "its ConfigMap config is not there",
    ),
    "a Secret that is not there": (
        lambda d: d.remove(the(d, "Secret", "confkeep-redis")),
        "its Secret confkeep-redis is not there",
    ),
    "a Secret without the address": (
        lambda d: the(d, "Secret", "confkeep-redis").update(stringData={"url": "x"}),
        "is not told where Redis is",
    ),
    "a claim that is not there": (
        lambda d: d.remove(the(d, "PersistentVolumeClaim", "confkeep-store")),
        "its claim confkeep-store is not there",
    ),
    "a volume that is not mounted": (
        lambda d: container(d)["volumeMounts"].pop(),
        "volumes ['store', 'tmp'], mounted ['store']",
    ),
    "another port": (
        lambda d: container(d)["ports"][0].update(containerPort=9000),
        "metrics at 9108, port 9000, annotation 9108",
    ),
    "a service without pods": (
        lambda d: the(d, "Service", "confkeep-exporter")["spec"]["selector"].update(x="y"),
        "Service confkeep-exporter: selects no pod",
    ),
    "a service of another port": (
        lambda d: the(d, "Service", "confkeep-exporter")["spec"]["ports"][0].update(
            targetPort="http"
        ),
        "Service confkeep-exporter: no port http in its pods",
    ),
    "a disruption budget for nobody": (
        lambda d: the(d, "PodDisruptionBudget", "confkeep-worker")["spec"]["selector"].update(
            matchLabels={"app": "worker"}
        ),
        "PodDisruptionBudget confkeep-worker: selects no pod",
    ),
    "a policy for nobody": (
        lambda d: the(d, "NetworkPolicy", "confkeep")["spec"]["podSelector"].update(
            matchLabels={"app": "worker"}
        ),
        "NetworkPolicy confkeep: selects no pod",
    ),
    "a selector that misses its pods": (
        lambda d: worker(d)["selector"].update(matchLabels={"app": "worker"}),
        "its selector does not match its own pods",
    ),
    "a selector that takes others' pods": (
        lambda d: worker(d)["selector"].update(matchLabels={"app.kubernetes.io/name": "confkeep"}),
        "its selector matches the pods of",
    ),
    "scaling what is not there": (
        lambda d: scaled(d)["scaleTargetRef"].update(name="helper"),
        "scales Deployment helper, which is not there",
    ),
    "scaling what has a number": (
        lambda d: worker(d).update(replicas=2),
        "ScaledObject confkeep-worker: scales what has a fixed number of replicas",
    ),
    "nobody who sweeps": (
        lambda d: scaled(d).update(minReplicaCount=0),
        "has no room between the fewest and the most",
    ),
    "an unknown command": (
        lambda d: container(d, "confkeep-exporter").update(args=["metrics"]),
        "confkeep metrics: no such command",
    ),
    "a probe of an unknown option": (
        lambda d: container(d)["livenessProbe"]["exec"].update(
            command=["confkeep", "health", "--alive"]
        ),
        "No such option",
    ),
    "a probe of another program": (
        lambda d: container(d)["livenessProbe"]["exec"].update(command=["celery", "inspect"]),
        "livenessProbe runs celery",
    ),
    "a probe in a hurry": (
        lambda d: container(d)["livenessProbe"].update(timeoutSeconds=1),
        "leaves no time to start an interpreter",
    ),
    "a probe of another port": (
        lambda d: container(d, "confkeep-exporter")["readinessProbe"]["httpGet"].update(port="web"),
        "readinessProbe asks the port web",
    ),
    "no readiness": (
        lambda d: container(d).pop("readinessProbe"),
        "Deployment confkeep-worker: has no readinessProbe",
    ),
    "too short a grace": (
        lambda d: worker(d)["template"]["spec"].update(terminationGracePeriodSeconds=10),
        "is killed while it ends in order",
    ),
    "root": (
        lambda d: worker(d)["template"]["spec"]["securityContext"].update(runAsUser=0),
        "may run as root",
    ),
    "a root file system that can be written": (
        lambda d: container(d)["securityContext"].pop("readOnlyRootFilesystem"),
        "may write to its root file system",
    ),
    "capabilities": (
        lambda d: container(d)["securityContext"].update(capabilities={"drop": ["NET_RAW"]}),
        "keeps capabilities",
    ),
    "no limit of memory": (
        lambda d: container(d)["resources"].update(limits={"cpu": "1"}),
        "no limit of memory",
    ),
    "a namespace": (
        lambda d: the(d, "Service", "confkeep-http")["metadata"].update(namespace="default"),
        "names a namespace",
    ),
    "an image without a version": (
        lambda d: container(d).update(image="confkeep"),
        "Deployment confkeep-worker: the image confkeep has no version",
    ),
    "a name twice": (lambda d: d.append(d[0]), ": twice"),
}  # fmt: skip


#: What can be wrong only where workers have disks of their own.
BROKEN_OWN: dict[str, tuple[Callable[[list[Document]], Any], str]] = {
    "more replicas than workers": (
        lambda d: worker(d).update(replicas=3),
        "StatefulSet confkeep-worker: 3 replicas for 2 workers",
    ),
    "no numbers": (
        lambda d: container(d).pop("env"),
        "StatefulSet confkeep-worker: has a disk of its own and no number",
    ),
    "an index from elsewhere": (
        lambda d: container(d)["env"][0]["valueFrom"]["fieldRef"].update(fieldPath="metadata.uid"),
        "takes its index from metadata.uid",
    ),
    "no headless service": (
        lambda d: worker(d).update(serviceName="worker"),
        "its service worker is not there",
    ),
}


@pytest.mark.parametrize(
    ("documents", "change", "problem"),
    [
        pytest.param(documents, *broken, id=name)
        for documents, cases in ((ALL, BROKEN), (OWN, BROKEN_OWN))
        for name, broken in cases.items()
    ],
)
def test_broken_manifests_have_a_problem(
    documents: list[Document], change: Callable[[list[Document]], Any], problem: str
) -> None:
    broken = kubernetes.changed(documents)
    change(broken)
    found = kubernetes.problems_of(broken)
    assert any(problem in each for each in found), found


@pytest.mark.parametrize("name", ["base", "autoscaling", "own-volumes"])
def test_the_image_stands_in_one_place(name: str, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    [own] = kubernetes.read_file(tmp_path / name / "kustomization.yaml")
    assert ("images" in own) == (name == "base")
    path = tmp_path / "base/kustomization.yaml"
    [kustomization] = kubernetes.read_file(path)
    kustomization["images"] = [{"name": "confkeep", "newName": "there/ours", "newTag": "9.9.9"}]
    path.write_text(yaml.safe_dump(kustomization))
    images = [each["image"] for each in kubernetes.containers(kubernetes.read(tmp_path / name))]
    assert len(images) >= 2
    assert set(images) == {"there/ours:9.9.9"}


def test_own_volumes_take_the_shared_one_away_and_scale_nothing() -> None:
    assert not {"ScaledObject", "PersistentVolumeClaim"} & {each["kind"] for each in OWN}
    [claim] = worker(OWN)["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    shared = the(BASE, "PersistentVolumeClaim", "confkeep-store")
    assert shared["spec"]["accessModes"] == ["ReadWriteMany"]
