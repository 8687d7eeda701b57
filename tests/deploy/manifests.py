"""Whether pods are confined as promised, and their sidecar would start: `manifests.py BINARY RENDERED.yaml`."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

CONFINED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def containers(pod):
    return pod.get("initContainers", []) + pod["containers"]


def unconfined(pod):
    """What the strictest admission does not ask for, or what it would find."""
    security = pod["securityContext"]
    if not security["runAsNonRoot"] or security["seccompProfile"]["type"] != "RuntimeDefault":
        yield "the pod"
    for container in containers(pod):
        context = container["securityContext"]
        if {name: context.get(name) for name in CONFINED} != CONFINED or "limits" not in container["resources"]:
            yield container["name"]
    if pod.get("automountServiceAccountToken") is not False:
        yield "a token of the cluster's API"


def unwatched(container):
    probes = ["startupProbe", "readinessProbe", "livenessProbe"]
    return [name for name in probes if name not in container] + ([] if "preStop" in container["lifecycle"] else ["preStop"])


def would_start(binary, pod, container):
    """`config check` with the container's own settings; each file that they name is there, in a scratch folder."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"PATH": os.environ["PATH"]}
        for entry in container["env"]:
            value = entry.get("value", "from-a-secret")
            if entry["name"].endswith("_FILE"):
                mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
                if not any(value.startswith(f"{mount}/") for mount in mounts):
                    return f"{value} is on no volume"
                value = f"{folder}/{Path(value).name}"
                made = {"master.key": [binary, "keys", "generate"]}.get(Path(value).name, ["head", "-c", "24", "/dev/zero"])
                content = subprocess.run(made, check=True, capture_output=True).stdout
                Path(value).touch(mode=0o600)
                Path(value).write_bytes(content.replace(b"\0", b"t"))
            environment[entry["name"]] = value
        checked = subprocess.run([binary, "config", "check"], env=environment, capture_output=True, text=True)
        return None if checked.returncode == 0 else checked.stdout + checked.stderr


def main(binary, rendered):
    found, sidecars = [], 0
    documents = [document for document in yaml.safe_load_all(Path(rendered).read_text()) if document]
    for document in documents:
        if document["kind"] != "Deployment":
            continue
        name, pod = document["metadata"]["name"], document["spec"]["template"]["spec"]
        found += [f"{name}: {what} is not confined" for what in unconfined(pod)]
        for container in containers(pod):
            if container["image"].startswith("kiket-sidecar:"):
                sidecars += 1
                found += [f"{name}: no {what}" for what in unwatched(container)]
                if reason := would_start(binary, pod, container):
                    found.append(f"{name}: would not start: {reason}")
    # Policies, budgets and monitors select pods by labels: each has to find some.
    labels = [d["spec"]["template"]["metadata"]["labels"] for d in documents if d["kind"] == "Deployment"]
    for document in documents:
        selector = document["spec"].get("podSelector") or document["spec"].get("selector") if "spec" in document else None
        if selector and document["kind"] != "Deployment":
            wanted = selector.get("matchLabels", selector).items()
            if not any(wanted <= own.items() for own in labels):
                found.append(f"{document['kind']} {document['metadata']['name']}: selects no pod")
    if found or sidecars == 0:
        sys.exit("\n".join(found) or "no sidecar in it")


main(*sys.argv[1:])
