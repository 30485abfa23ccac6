"""The manifests in ``deploy/``: valid, consistent, and with commands that the programs take."""

import importlib.util
import json
import re
import signal
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import grpc
import jsonschema
import kubernetes_validate
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from indexer.commands.cli import cli as indexer_cli
from retrieval.commands.cli import cli as retrieval_cli
from retrieval.service.config import parse_address, parse_indexes, pulled_indexes
from retrieval.store.objects import CLOUD_SCHEMES
from retrieval.store.replicas.publish import publish
from tests.service.harness import Program, build_index, free_port, write_documents

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
TLS = DEPLOY / "kubernetes-tls"
VERSION = "1.30"
"""The oldest version of Kubernetes that the manifests are for; ``sleep`` in preStop is the newest
of what they use."""
PROGRAMS = {"retrieval": retrieval_cli, "indexer": indexer_cli}
KEYS = {"ports": "containerPort", "volumeMounts": "mountPath"}
"""Names by which Kubernetes merges lists of objects; ``name`` for others."""

Manifest = dict[str, Any]


def load(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def settings(folder: Path) -> Manifest:
    (found,) = load(folder / "kustomization.yaml")
    return found


def base() -> list[Manifest]:
    return [one for name in settings(KUBERNETES)["resources"] for one in load(KUBERNETES / name)]


def merged(old: Any, new: Any, key: str = "") -> Any:
    """Merge a patch as Kubernetes does."""
    if isinstance(old, dict) and isinstance(new, dict):
        changed = {name: merged(old.get(name), value, name) for name, value in new.items()}
        return {name: one for name, one in (old | changed).items() if one is not None}
    if isinstance(new, list) and all(isinstance(one, dict) for one in new) and old:
        by = KEYS.get(key, "name")
        found = {one[by]: one for one in old}
        for one in new:
            found[one[by]] = merged(found.get(one[by]), one)
        return list(found.values())
    return new


def with_tls() -> list[Manifest]:
    """The manifests with TLS."""
    (patch,) = [one for entry in settings(TLS)["patches"] for one in load(TLS / entry["path"])]
    return [
        merged(one, patch) if named(one) == named(patch) else one for one in base()
    ]  # fmt: skip


def named(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


VARIANTS = {"plain": base(), "tls": with_tls()}


@pytest.fixture(params=VARIANTS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return VARIANTS[request.param]


def the(kind: str, manifests: list[Manifest]) -> Manifest:
    (found,) = [one for one in manifests if one["kind"] == kind]
    return found


def pods(manifests: list[Manifest]) -> Iterator[Manifest]:
    """Specifications of all pods."""
    for one in manifests:
        spec = one.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            yield spec["template"]["spec"]


def containers(manifests: list[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Every container, with the specification of its pod."""
    for pod in pods(manifests):
        for one in [*pod.get("initContainers", ()), *pod["containers"]]:
            yield pod, one


def literals() -> dict[str, str]:
    (generator,) = settings(KUBERNETES)["configMapGenerator"]
    return dict(one.split("=", 1) for one in generator["literals"])


def parsed(container: Manifest) -> dict[str, Any]:
    """Parse a container's command as the program does, with the variables of its ConfigMap."""
    words = [*container["command"], *container["args"]]
    words = [re.sub(r"\$\((\w+)\)", lambda name: literals()[name[1]], word) for word in words]
    group = PROGRAMS[words[0]]
    with click.Context(group) as context:
        command = group.get_command(context, words[1])
        assert command is not None
        return command.make_context(words[1], words[2:], parent=context).params


def server(manifests: list[Manifest]) -> tuple[Manifest, Manifest, dict[str, Any]]:
    """The server's pod, its container, and its options."""
    pod = the("Deployment", manifests)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return pod, container, parsed(container)


def test_manifests_are_valid(manifests: list[Manifest]) -> None:
    for one in manifests:
        kubernetes_validate.validate(one, VERSION, strict=True)


def test_the_patch_changes_what_it_names() -> None:
    plain, tls = (server(VARIANTS[name])[1] for name in ("plain", "tls"))
    assert len(tls["volumeMounts"]) == len(plain["volumeMounts"]) + 2
    assert set(tls["readinessProbe"]) & {"grpc", "httpGet"} == {"httpGet"}
    assert tls["resources"] == plain["resources"]


def test_every_container_runs_a_command_that_there_is(manifests: list[Manifest]) -> None:
    assert [parsed(one) for _, one in containers(manifests)]


def test_containers_can_do_nothing_that_they_need_not(manifests: list[Manifest]) -> None:
    user = int(re.search(r"^USER (\d+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)[1])  # type: ignore[index]
    for pod, container in containers(manifests):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == user
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod["automountServiceAccountToken"]
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert not security["allowPrivilegeEscalation"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert pod["serviceAccountName"] == the("ServiceAccount", manifests)["metadata"]["name"]


def test_paths_are_in_volumes(manifests: list[Manifest]) -> None:
    claims = {one["metadata"]["name"] for one in manifests if one["kind"].endswith("VolumeClaim")}
    for pod, container in containers(manifests):
        volumes = {one["name"]: one for one in pod["volumes"]}
        mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
        assert {one["name"] for one in mounts.values()} <= set(volumes)
        assert "/tmp" in mounts
        for word in container["args"]:
            path = word.partition("=")[2] if word.startswith("--") else word
            if path.startswith("/"):
                assert any(Path(path).is_relative_to(mount) for mount in mounts)
        for volume in volumes.values():
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            assert claim is None or claim in claims


def test_ports_are_those_that_the_server_listens_on(manifests: list[Manifest]) -> None:
    _, container, options = server(manifests)
    grpc, metrics = (parse_address(options[name]).port for name in ("listen", "metrics"))
    listening = {grpc, metrics, *([parse_address(options["http"]).port] if options["http"] else [])}
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert set(ports.values()) == listening
    service = the("Service", manifests)["spec"]
    assert [(one["port"], ports[one["targetPort"]]) for one in service["ports"]] == [(grpc, grpc)]
    policy = the("NetworkPolicy", manifests)["spec"]["ingress"]
    assert {port["port"] for one in policy for port in one["ports"]} == {grpc, metrics}
    exposed = re.search(r"^EXPOSE (.+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert exposed is not None
    assert {int(port) for port in exposed[1].split()} == {grpc, metrics}


def test_probes_ask_what_the_server_answers(manifests: list[Manifest]) -> None:
    _, container, options = server(manifests)
    collections = parse_indexes(options["indexes"])
    ports = {one["containerPort"] for one in container["ports"]}
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container[name]
        (kind,) = {"grpc", "httpGet", "tcpSocket"} & set(probe)
        assert probe[kind]["port"] in ports
        # Kubernetes has no TLS for gRPC, and no tokens.
        assert kind != "grpc" or (options["insecure"] and not options["token_file"])
        asked = probe[kind].get("service", "")
        assert not asked or asked.removeprefix("collections/") in collections
        assert probe[kind].get("path", "/readyz") in ("/readyz", "/healthz")


def test_the_server_pulls_what_the_build_publishes(manifests: list[Manifest]) -> None:
    _, _, options = server(manifests)
    (build,) = the("CronJob", manifests)["spec"]["jobTemplate"]["spec"]["template"]["spec"][
        "initContainers"
    ]
    (publish,) = [one for _, one in containers(manifests) if one["name"] == "publish"]
    assert parsed(build)["index"] == parsed(publish)["index"]
    _, pulled = pulled_indexes(parse_indexes(options["indexes"]), options["pull"])
    assert list(pulled.values()) == [parsed(publish)["url"]]
    assert parsed(publish)["url"].partition("://")[0] in CLOUD_SCHEMES


def test_pods_may_end_before_they_are_killed(manifests: list[Manifest]) -> None:
    pod, container, options = server(manifests)
    paused = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    # Threads, gateway and connections take less than 15 s to close.
    assert paused + options["grace"] + 15 <= pod["terminationGracePeriodSeconds"]
    text = (ROOT / "docs/scale-out.md").read_text(encoding="utf-8")
    assert f"`terminationGracePeriodSeconds` is {pod['terminationGracePeriodSeconds']}" in text


def test_selectors_find_the_server_alone(manifests: list[Manifest]) -> None:
    deployment = the("Deployment", manifests)["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    job = the("CronJob", manifests)["spec"]["jobTemplate"]["spec"]["template"]
    for selector in (
        deployment["selector"]["matchLabels"],
        the("Service", manifests)["spec"]["selector"],
        the("PodDisruptionBudget", manifests)["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
        assert not selector.items() <= job["metadata"]["labels"].items()
    target = the("HorizontalPodAutoscaler", manifests)["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == named(the("Deployment", manifests))


def test_names_of_the_kustomization_are_used(manifests: list[Manifest]) -> None:
    (image,) = [one["name"] for one in settings(KUBERNETES)["images"]]
    (config,) = [one["name"] for one in settings(KUBERNETES)["configMapGenerator"]]
    for _, container in containers(manifests):
        assert container["image"] == image
        for source in container.get("envFrom", ()):
            assert source.get("configMapRef", {"name": config})["name"] == config
            assert source.get("secretRef", {"optional": True})["optional"]
    assert settings(TLS)["namespace"] == settings(KUBERNETES)["namespace"]


def test_the_image_is_built_from_what_the_project_says() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    made = re.search(r"^TORCH \?= (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert made is not None
    assert f"ARG TORCH={made[1]}\n" in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.search(r"^ARG EXTRAS=(\S+)$", text, re.MULTILINE)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(project["optional-dependencies"])
    python = re.findall(r"^FROM python:([\d.]+)-slim", text, re.MULTILINE)
    assert all(
        f"Programming Language :: Python :: {one}" in project["classifiers"] for one in python
    )
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert all((ROOT / line[1:]).exists() for line in ignored if line.startswith("!"))


def test_the_cluster_of_ray_is_one_that_ray_takes() -> None:
    cluster = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text(encoding="utf-8"))
    types = cluster["available_node_types"]
    assert cluster["head_node_type"] in types
    assert types[cluster["head_node_type"]]["resources"] == {"CPU": 0}
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^TORCH \?= (\S+)", makefile, re.MULTILINE)[1] in str(  # type: ignore[index]
        cluster["setup_commands"]
    )
    extras = re.findall(r"\[([\w,]+)\]'", str(cluster["setup_commands"]))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras[0].split(",")) <= set(project["optional-dependencies"])
    ray = importlib.util.find_spec("ray")
    if ray is not None and ray.origin:  # in the environment of `make test-ray`
        schema = Path(ray.origin).with_name("autoscaler") / "ray-schema.json"
        jsonschema.validate(cluster, json.loads(schema.read_text()))


@pytest.mark.slow
def test_the_servers_command_serves_what_was_published(tmp_path: Path) -> None:
    """It runs as written, but with other folders, ports and another object store."""
    write_documents(tmp_path / "documents")
    build_index(tmp_path / "documents", tmp_path / "index")
    url = (tmp_path / "bucket").as_uri()
    publish(tmp_path / "index", url)
    _, container, _ = server(VARIANTS["plain"])
    metrics = free_port()
    instead = {
        "$(INDEX)": url,
        "/var/lib/retrieval": str(tmp_path),
        "0.0.0.0:50051": "127.0.0.1:0",
        "0.0.0.0:9464": f"127.0.0.1:{metrics}",
    }
    words = container["args"]
    for old, new in instead.items():
        assert any(old in word for word in words)
        words = [word.replace(old, new) for word in words]
    program = Program(*words)
    program.wait_ready()
    with grpc.insecure_channel(program.target) as channel:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = health_pb2.HealthCheckRequest(
                service=container[probe]["grpc"].get("service", "")
            )
            answer = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=60)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=60) as page:
        assert b"retrieval_index_generation" in page.read()
    code, _, log = program.finish(signal.SIGTERM)
    assert code == 0, log
