"""Kubernetes: the schemas of several versions, and what a schema cannot say about our pods."""

import itertools
import pathlib
import re
import subprocess

import kubernetes_validate
import yaml

from common import BROKER, DEPLOY, GROUP, LOADER, METRICS, ROOT, Check, read

# Native sidecars are on by default since 1.29.
SCHEMAS = pathlib.Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
VERSIONS = [f"1.{minor}.0" for minor in range(29, 60) if (SCHEMAS / f"v1.{minor}.0-local-strict").is_dir()]


PORTS = {("UDP", 53), ("TCP", 53), ("TCP", 88), ("TCP", 443), ("TCP", 1433), ("TCP", 8200)}
KEYS = "keyferry-cluster-keys"
POD = ["spec", "jobTemplate", "spec", "template"]


def rendered(folder):
    """Every overlay; cronjob first, so that mistakes are made in it."""
    paths = sorted(pathlib.Path(folder).glob("*.yaml"), key=lambda path: (path.stem != "cronjob", path.stem))
    return [(path.stem, read(path)) for path in paths]


def pods(documents):
    """(document, pod spec) of what makes pods with broker and loader."""
    return (item for item in every_pod(documents) if named(item[1], "loader"))


def every_pod(documents):
    """(document, pod spec) of everything that makes pods."""
    for document in documents:
        spec = document.get("spec", {})
        if document["kind"] == "Pod":
            yield document, spec
        elif document["kind"] == "CronJob":
            yield document, spec["jobTemplate"]["spec"]["template"]["spec"]
        elif document["kind"] == "Job":
            yield document, spec["template"]["spec"]


def containers(spec):
    return [*spec.get("initContainers", []), *spec["containers"]]


def named(spec, name):
    return next((c for c in containers(spec) if c["name"] == name), None)


def mounts(container):
    return {m["name"]: m for m in container.get("volumeMounts", [])}


def schema(documents):
    for document, version in itertools.product(documents, VERSIONS):
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            yield f"Kubernetes {version}, {document['kind']}: {str(error).splitlines()[0]}"


def restricted(documents):
    """Pod Security's level `restricted`, and a little more."""
    for document, spec in every_pod(documents):
        pod = spec.get("securityContext", {})
        if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield "the pod's seccompProfile is not RuntimeDefault"
        if pod.get("runAsNonRoot") is not True:
            yield "the pod's runAsNonRoot is not true"
        for key in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
            if spec.get(key):
                yield f"{key} is set"
        for container in containers(spec):
            own, name = container.get("securityContext", {}), container["name"]
            if own.get("allowPrivilegeEscalation") is not False:
                yield f"{name}: allowPrivilegeEscalation is not false"
            if own.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{name}: capabilities are not drop ALL"
            if own.get("readOnlyRootFilesystem") is not True:
                yield f"{name}: readOnlyRootFilesystem is not true"
            if own.get("privileged") or own.get("runAsNonRoot") is False or own.get("seccompProfile"):
                yield f"{name}: it takes back what the pod says"
            if "limits" not in container.get("resources", {}) or "memory" not in container["resources"]["limits"]:
                yield f"{name}: no memory limit"
        allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
        if document["kind"] == "Pod":
            allowed.add("hostPath")  # podman; its file says why
        for volume in spec.get("volumes", []):
            kinds = set(volume) - {"name"}
            if not kinds <= allowed or len(kinds) != 1:
                yield f"volume {volume['name']}: {sorted(kinds)} is not allowed"
    for document in documents:
        if document["kind"] == "Namespace":
            label = document["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce")
            if label != "restricted":
                yield f"the namespace enforces {label}"


def boundary(documents):
    """What holds broker and loader apart."""
    for document, spec in pods(documents):
        on_podman = document["kind"] == "Pod"
        broker, loader = named(spec, "broker"), named(spec, "loader")
        for container, uid in ((broker, BROKER), (loader, LOADER)):
            own = container["securityContext"]
            if (own.get("runAsUser"), own.get("runAsGroup")) != (uid, uid):
                yield f"{container['name']}: does not run as {uid}:{uid}"
        pod = spec["securityContext"]
        if pod.get("supplementalGroups" if on_podman else "fsGroup") not in (GROUP, [GROUP]):
            yield "the group keyferry is not shared"
        if not on_podman and pod.get("fsGroupChangePolicy") != "OnRootMismatch":
            yield "fsGroupChangePolicy: the kubelet would let the group write the audit log at each mount of a persistent volume"
        if not on_podman and [c["name"] for c in spec["initContainers"]] != ["socket-folder", "broker"]:
            yield "the init containers are not socket-folder, then broker"
        if not on_podman and broker.get("restartPolicy") != "Always":
            yield "the broker is no native sidecar"
        if not on_podman and broker.get("startupProbe", {}).get("exec", {}).get("command", [])[1:2] != ["health"]:
            yield "the broker has no startup probe"
        if mounts(loader).get("socket", {}).get("readOnly") is not True:
            yield "the loader's socket is not mounted read-only"
        for container in (broker, loader):
            if not on_podman and mounts(container).get("socket", {}).get("subPath") != "socket":
                yield f"{container['name']}: mounts the socket volume's root, which everybody may write"
        shared = set(mounts(broker)) & set(mounts(loader))
        if shared - {"socket", "corporate-ca"}:
            yield f"both mount {sorted(shared - {'socket', 'corporate-ca'})}"
        if spec.get("automountServiceAccountToken") is not False:
            yield "the ordinary service-account token is mounted"
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for volume in volumes.values():
            if "emptyDir" in volume and not (volume["emptyDir"] or {}).get("sizeLimit"):
                yield f"volume {volume['name']} has no size limit"
        for name in ("socket", "private"):
            if not on_podman and (volumes[name].get("emptyDir") or {}).get("medium") != "Memory":
                yield f"volume {name} is not in memory"
        for source in volumes.get("caller-token", {}).get("projected", {}).get("sources", []):
            token = source["serviceAccountToken"]
            if (token.get("audience"), token.get("expirationSeconds")) != ("keyferry", 600):
                yield "the caller's token is not for the audience keyferry and 600 seconds"


def secrets(documents):
    """No secret in any manifest, nor a way for one to come by the environment."""
    words = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY|\bhv[sb]\.[A-Za-z0-9_-]{20,}|\bs\.[A-Za-z0-9]{24}\b|eyJ[A-Za-z0-9_-]{20,}\.")
    for document in documents:
        if document["kind"] == "Secret":
            yield "a Secret is in the manifests"
        if words.search(yaml.safe_dump(document)):
            yield f"{document['kind']} {document['metadata']['name']} looks as if it held a secret"
    for _, spec in every_pod(documents):
        for container in containers(spec):
            if container.get("envFrom") or any("valueFrom" in env for env in container.get("env", [])):
                yield f"{container['name']}: something comes by the environment from elsewhere"
            for env in container.get("env", []):
                if re.search("SECRET|PASSWORD|TOKEN|KEY", env["name"]):
                    yield f"{container['name']}: {env['name']} in the environment"


def pinned(documents):
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    for _, spec in every_pod(documents):
        for container in containers(spec):
            image = container["image"]
            if not re.search(r"@sha256:[0-9a-f]{64}$", image) and not image.endswith(f":{version}"):
                yield f"{container['name']}: {image} is neither a digest nor version {version}"


def jobs(documents):
    for document in documents:
        if document["kind"] == "CronJob":
            if document["spec"].get("concurrencyPolicy") != "Forbid":
                yield "two runs of the CronJob may overlap"
            if any(pods([document])):
                yield from job(document["spec"]["jobTemplate"]["spec"])
        elif document["kind"] == "Job":
            yield from job(document["spec"])
        elif document["kind"] == "NetworkPolicy":
            if sorted(document["spec"].get("policyTypes", [])) != ["Egress", "Ingress"]:
                yield "the network policy does not bound both directions"
            for rule in document["spec"].get("egress") or [{}]:
                if not rule.get("ports"):
                    yield "the network policy lets every port out"
            ports = {(p["protocol"], p["port"]) for rule in document["spec"].get("egress", []) for p in rule.get("ports", [])}
            if document["metadata"]["name"] == "keyferry-loader":
                if ports != PORTS:
                    yield f"the network policy's ports are {sorted(ports)}; docs/network.md has others"
                ways = [(sorted(way), rule.get("ports")) for rule in document["spec"].get("ingress", []) for way in rule.get("from", [{}])]
                if ways != [(["namespaceSelector"], [{"protocol": "TCP", "port": METRICS}])]:
                    yield f"the network policy lets in {ways}; wanted: Prometheus' namespace, to the metrics"
            elif not ports <= {("TCP", 443), ("TCP", 6443)} or document["spec"].get("ingress"):
                yield f"{document['metadata']['name']}: more than the API server is reached"


def job(spec):
    codes = [rule["onExitCodes"]["values"] for rule in spec.get("podFailurePolicy", {}).get("rules", []) if "onExitCodes" in rule]
    if codes != [[64, 65, 66, 77, 78]]:
        yield "exit codes that trying again does not change are tried again"
    if spec.get("completionMode") == "Indexed":
        env = {e["name"]: e["value"] for e in named(spec["template"]["spec"], "loader").get("env", [])}
        if env.get("JOB_COMPLETION_COUNT") != str(spec["completions"]):
            yield f"JOB_COMPLETION_COUNT is {env.get('JOB_COMPLETION_COUNT')}, completions {spec['completions']}"


def claims(documents):
    """A persistent volume is claimed in the same place, for one pod."""
    held = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "PersistentVolumeClaim"}
    for _, spec in pods(documents):
        for volume in spec["volumes"]:
            name = volume.get("persistentVolumeClaim", {}).get("claimName")
            if name and name not in held:
                yield f"volume {volume['name']}: nothing claims {name}"
            elif name and held[name].get("accessModes") != ["ReadWriteOncePod"]:
                yield f"{name}: two brokers could write one audit log"


def keys_refreshed(documents):
    """What writes the cluster's keys may do that and nothing else, and writes what the broker mounts."""
    wanted = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["keyferry-cluster-keys"], "verbs": ["get", "update"]}
    jobs = [(d, s) for d, s in every_pod(documents) if s.get("serviceAccountName") == "keyferry-cluster-keys"]
    for document in documents:
        name = document["metadata"]["name"]
        if document["kind"] in ("ClusterRole", "ClusterRoleBinding"):
            yield f"{document['kind']} {name}: a right in the whole cluster"
        if document["kind"] == "Role" and document["rules"] != [wanted]:
            yield f"Role {name}: more than one ConfigMap, or more than get and update"
        if document["kind"] == "RoleBinding":
            subject = {"kind": "ServiceAccount", "name": "keyferry-cluster-keys", "namespace": document["metadata"]["namespace"]}
            if document["subjects"] != [subject]:
                yield f"RoleBinding {name}: it is given to {document['subjects']}"
            if len(jobs) != 1:
                yield f"{len(jobs)} CronJobs run as keyferry-cluster-keys"
    mounted = {v["configMap"]["name"] for _, s in pods(documents) for v in s["volumes"] if v["name"] == "cluster-keys"}
    for document, spec in jobs:
        script = spec["containers"][0]["args"][0]
        if not mounted or any(f"create configmap {name} " not in script for name in mounted):
            yield f"{document['metadata']['name']}: it does not write {mounted}, which the broker mounts"
        done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True)
        if done.returncode:
            yield f"{document['metadata']['name']}: {done.stderr.strip()}"
        labels = document["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
        policies = [d["spec"]["podSelector"]["matchLabels"] for d in documents if d["kind"] == "NetworkPolicy"]
        if not any(selector.items() <= labels.items() for selector in policies):
            yield f"{document['metadata']['name']}: no network policy bounds it"


def corporate(folder):
    return [item for item in rendered(folder) if item[0] == "example-corp"]


def sharded(folder):
    return sorted(rendered(folder), key=lambda item: item[0] != "sharded")


def copies(pair):
    """Files that kustomize cannot read from elsewhere are copies of one file."""
    for name, (original, copy) in pair.items():
        if original != copy:
            yield f"{name} is not the file that it is a copy of"


def copied(_):
    krb5 = (DEPLOY / "krb5/krb5.conf").read_text()
    others = [path for path in DEPLOY.rglob("krb5.conf") if path.parent.name != "krb5"]
    yield "krb5.conf", {str(path.relative_to(DEPLOY)): (krb5, path.read_text()) for path in others}


def every(name, path, value):
    """Sets what lies at a path of the one document of this kind and name."""

    def apply(documents):
        place = next(d for d in documents if (d["kind"], d["metadata"]["name"]) == name)
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = value

    return apply


def change(path, value):
    """Sets what lies at a path below the first pod; a container is found by name."""

    def apply(documents):
        spec = next(pods(documents))[1]
        place = spec
        for part in path[:-1]:
            place = named(spec, part[1:]) if isinstance(part, str) and part.startswith("@") else place[part]
        if value is None:
            del place[path[-1]]
        else:
            place[path[-1]] = value

    return apply


def kind(name, path, value):
    def apply(documents):
        place = next(d for d in documents if d["kind"] == name)
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = value

    return apply


def volume(name, value):
    def apply(documents):
        spec = next(pods(documents))[1]
        spec["volumes"] = [v if v["name"] != name else {"name": name, **value} for v in spec["volumes"]]

    return apply


def remount(container, name, **values):
    def apply(documents):
        mounts(named(next(pods(documents))[1], container))[name].update(values)

    return apply


def add_mount(documents):
    named(next(pods(documents))[1], "loader")["volumeMounts"].append({"name": "private", "mountPath": "/x"})


CHECKS = [
    Check(f"schemas of Kubernetes {VERSIONS[0]} to {VERSIONS[-1]}", rendered, schema, [
        ("an unknown key", change(["@loader", "securityContex"], {}), "securityContex"),
        ("a number for a text", change(["@loader", "image"], 5), "is not of type"),
        ("a misspelt policy", kind("CronJob", ["spec", "concurrencyPolicies"], "Forbid"), "concurrencyPolicies"),
    ]),
    Check("Pod Security restricted", rendered, restricted, [
        ("privilege escalation", change(["@broker", "securityContext", "allowPrivilegeEscalation"], None), "allowPrivilegeEscalation"),
        ("a capability", change(["@loader", "securityContext", "capabilities"], {"drop": ["ALL"], "add": ["SYS_PTRACE"]}), "capabilities"),
        ("a writable root", change(["@loader", "securityContext", "readOnlyRootFilesystem"], False), "readOnlyRootFilesystem"),
        ("seccomp off", change(["securityContext", "seccompProfile"], {"type": "Unconfined"}), "seccompProfile"),
        ("root", change(["securityContext", "runAsNonRoot"], None), "runAsNonRoot"),
        ("a shared process namespace", change(["shareProcessNamespace"], True), "shareProcessNamespace"),
        ("a host path", volume("audit", {"hostPath": {"path": "/var/log"}}), "not allowed"),
        ("no memory limit", change(["@broker", "resources"], {}), "no memory limit"),
        ("another level", kind("Namespace", ["metadata", "labels"], {}), "enforces"),
    ]),
    Check("broker and loader apart", rendered, boundary, [
        ("one uid", change(["@loader", "securityContext", "runAsUser"], BROKER), "does not run as 10002"),
        ("a writable socket", remount("loader", "socket", readOnly=False), "read-only"),
        ("the volume's root", remount("loader", "socket", subPath=""), "volume's root"),
        ("the keytab in the loader", add_mount, "both mount"),
        ("no size limit", volume("spool", {"emptyDir": {}}), "no size limit"),
        ("a keytab on disk", volume("private", {"emptyDir": {"sizeLimit": "1Mi"}}), "not in memory"),
        ("the ordinary token", change(["automountServiceAccountToken"], True), "ordinary"),
        ("no sidecar", change(["@broker", "restartPolicy"], None), "sidecar"),
        ("no probe", change(["@broker", "startupProbe"], None), "startup probe"),
        ("another audience", volume("caller-token", {"projected": {"sources": [
            {"serviceAccountToken": {"audience": "vault", "expirationSeconds": 600, "path": "token"}}]}}), "audience"),
        ("broker before the folder", lambda d: next(pods(d))[1]["initContainers"].reverse(), "socket-folder, then broker"),
        ("ownership at each mount", change(["securityContext", "fsGroupChangePolicy"], "Always"), "fsGroupChangePolicy"),
        ("no shared group", change(["securityContext", "fsGroup"], None), "group keyferry"),
    ]),
    Check("no secret in a manifest", rendered, secrets, [
        ("a Secret", lambda d: d.append({"kind": "Secret", "metadata": {"name": "x"}}), "a Secret"),
        ("a token in a file", lambda d: d.append({"kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "hvs.CAESIJ0123456789abcdefghij"}}), "looks as if"),
        ("an environment variable", change(["@broker", "env"], [{"name": "SF_PASSWORD", "value": "x"}]), "SF_PASSWORD"),
        ("a variable from a Secret", change(["@broker", "envFrom"], [{"secretRef": {"name": "x"}}]), "environment"),
    ]),
    Check("images pinned", rendered, pinned, [
        ("latest", change(["@loader", "image"], "keyferry/loader:latest"), "neither"),
        ("no tag", change(["@broker", "image"], "keyferry/broker"), "neither"),
        ("another version", change(["@broker", "image"], "keyferry/broker:0.0.9"), "neither"),
    ]),
    Check("jobs and network", sharded, jobs, [
        ("another count", change(["@loader", "env"], [{"name": "JOB_COMPLETION_COUNT", "value": "5"}]), "JOB_COMPLETION_COUNT"),
        ("no failure policy", kind("Job", ["spec", "podFailurePolicy"], {}), "tried again"),
        ("a door for every port", kind("NetworkPolicy", ["spec", "egress"], [{}]), "every port"),
        ("Kerberos over UDP", lambda d: next(x for x in d if x["kind"] == "NetworkPolicy")["spec"]["egress"][1]["ports"].append(
            {"protocol": "UDP", "port": 88}), "has others"),
        ("a door for everybody", kind("NetworkPolicy", ["spec", "ingress"], [{"ports": [{"protocol": "TCP", "port": METRICS}]}]), "lets in"),
        ("nobody can scrape", kind("NetworkPolicy", ["spec", "ingress"], []), "lets in"),
        ("no ingress rule", kind("NetworkPolicy", ["spec", "policyTypes"], ["Egress"]), "both directions"),
        ("overlap", lambda d: d.append({"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": []}}}}}}), "overlap"),
    ]),
    Check("volumes that stay", corporate, claims, [
        ("no claim", lambda d: d.remove(next(x for x in d if x["kind"] == "PersistentVolumeClaim")), "nothing claims"),
        ("many pods", every(("PersistentVolumeClaim", "keyferry-audit"), ["spec", "accessModes"], ["ReadWriteMany"]), "two brokers"),
    ]),
    Check("the cluster's keys", corporate, keys_refreshed, [
        ("every ConfigMap", every(("Role", KEYS), ["rules", 0, "resourceNames"], []), "more than one"),
        ("another verb", every(("Role", KEYS), ["rules", 0, "verbs"], ["get", "update", "delete"]), "more than one"),
        ("the loader's account", every(("RoleBinding", KEYS), ["subjects", 0, "name"], "keyferry-loader"), "it is given to"),
        ("another namespace", every(("RoleBinding", KEYS), ["subjects", 0, "namespace"], "keyferry"), "it is given to"),
        ("another account", every(("CronJob", KEYS), [*POD, "spec", "serviceAccountName"], "default"), "0 CronJobs"),
        ("another ConfigMap", every(("CronJob", KEYS), [*POD, "spec", "containers", 0, "args", 0], "kubectl create configmap keys "), "does not write"),
        ("no shell script", every(("CronJob", KEYS), [*POD, "spec", "containers", 0, "args", 0], "case x in"), "sh"),
        ("another label", every(("CronJob", KEYS), [*POD, "metadata", "labels"], {"app": "keys"}), "no network policy"),
        ("the whole cluster", lambda d: d.append({"kind": "ClusterRole", "metadata": {"name": "x"}}), "whole cluster"),
    ]),
    Check("copies", copied, copies, [
        ("a copy that was changed", lambda pair: {name: (a, b + "#") for name, (a, b) in pair.items()}, "not the file"),
    ]),
]
