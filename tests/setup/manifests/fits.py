"""The configuration in a ConfigMap against the pod that mounts it: every path lies in a volume, and names agree."""

import yaml

from common import GROUP, METRICS, Check
from pods import mounts, named, pods, rendered, remount

BROKER_PATHS = [
    ("socket", "path"), ("vault", "ca_file"), ("vault", "auth", "approle", "role_id_file"), ("vault", "auth", "approle", "secret_id_file"),
    ("kerberos", "tmpfs"), ("kerberos", "krb5_conf"), ("audit", "path"), ("service_accounts", "keys_file"), ("service_accounts", "pod_uid_file"),
]
LOADER_PATHS = [("broker", "socket"), ("broker", "service_account_token"), ("source", "ca_file"), ("target", "ca_file"), ("limits", "spool_dir")]
# What the process needs beside limits.memory_mib, in MiB.
BESIDE = 96


def at(document, path):
    for part in path:
        document = (document or {}).get(part)
    return document


def outside(config, paths, container, what):
    folders = [mount["mountPath"] for mount in mounts(container).values()]
    for path in paths:
        place = at(config, path)
        if place and not any(place == folder or place.startswith(folder + "/") for folder in folders):
            yield f"{what}: {'.'.join(path)} is {place}, which is on no volume of the {container['name']}"


def fits(documents):
    maps = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
    for document, spec in pods(documents):
        volumes = {v["name"]: v.get("configMap", {}).get("name") for v in spec["volumes"]}
        if not maps and document["kind"] == "Pod":
            continue  # podman: the files are the host's
        broker = yaml.safe_load(maps[volumes["broker-config"]]["broker.yaml"])
        pipeline = yaml.safe_load(maps[volumes["pipeline"]]["pipeline.yaml"])
        container, loader = named(spec, "broker"), named(spec, "loader")
        yield from outside(broker, BROKER_PATHS, container, "broker.yaml")
        yield from outside(pipeline, LOADER_PATHS, loader, "pipeline.yaml")
        account = f"{document['metadata']['namespace']}/{spec['serviceAccountName']}"
        for entry in broker["policy"]:
            caller = entry["caller"]
            if caller != {"uid": loader["securityContext"]["runAsUser"], "service_account": account}:
                yield f"broker.yaml: policy names {caller}, and the loader is {account}"
        if str(broker["socket"].get("group")) != str(GROUP):
            yield "broker.yaml: socket.group is not the pod's fsGroup"
        if pipeline["broker"]["server_uid"] != container["securityContext"]["runAsUser"]:
            yield "pipeline.yaml: server_uid is not the broker's user"
        limit = loader["resources"]["limits"]["memory"]
        if int(limit.removesuffix("Mi")) < pipeline["limits"]["memory_mib"] + BESIDE:
            yield f"pipeline.yaml: memory_mib {pipeline['limits']['memory_mib']} does not fit the limit {limit}"
        if (broker.get("admin") or {}).get("listen") not in (f"0.0.0.0:{METRICS}", f"[::]:{METRICS}"):
            yield "broker.yaml: nothing outside the pod can scrape admin.listen"
        if [port["containerPort"] for port in container.get("ports", [])] != [METRICS]:
            yield "the broker's port for Prometheus is not named"
        if not broker["audit"].get("signing_key"):
            yield "broker.yaml: the audit log is not signed"
        if broker["audit"].get("copy") != "stdout":
            yield "broker.yaml: the audit log ends with the pod (copy: stdout)"
        command = container["startupProbe"]["exec"]["command"]
        if command[-1] != container["args"][-1]:
            yield "the startup probe reads another configuration"


def config(name, old, new):
    def apply(documents):
        data = next(d["data"] for d in documents if d["kind"] == "ConfigMap" and name in d["data"])
        assert old in data[name], old
        data[name] = data[name].replace(old, new, 1)

    return apply


CHECKS = [
    Check("configuration fits the pod", rendered, fits, [
        ("a socket elsewhere", config("broker.yaml", "/run/keyferry/broker.sock", "/run/broker/broker.sock"), "socket.path"),
        ("a keytab on no tmpfs", config("broker.yaml", "/run/keyferry-private/own", "/tmp/own"), "kerberos.tmpfs"),
        ("a token elsewhere", remount("loader", "caller-token", mountPath="/run/token"), "service_account_token"),
        ("another account", config("broker.yaml", "keyferry/keyferry-loader", "keyferry/default"), "policy names"),
        ("another uid", config("pipeline.yaml", "server_uid: 10001", "server_uid: 10002"), "server_uid"),
        ("metrics for nobody", config("broker.yaml", "0.0.0.0:8080", "127.0.0.1:8080"), "scrape"),
        ("no port", lambda d: named(next(pods(d))[1], "broker")["ports"].clear(), "not named"),
        ("an unsigned log", config("broker.yaml", ", signing_key: audit_signing_key", ""), "not signed"),
        ("a log that ends with the pod", config("broker.yaml", ", copy: stdout", ""), "ends with the pod"),
        ("more memory than there is", config("pipeline.yaml", "memory_mib: 512", "memory_mib: 2048"), "does not fit"),
    ]),
]
