"""Hosts without Kubernetes: systemd, compose, ECS."""

import json
import pathlib
import re
import subprocess
import tempfile

import botocore.session
import botocore.validate
import compose_spec
import yaml

from common import BROKER, DEPLOY, GROUP, LOADER, Check
from fits import BROKER_PATHS, LOADER_PATHS, at

SYSTEMD = DEPLOY / "systemd"
# 0 is a unit that can do nothing; systemd calls everything below 2 "OK".
EXPOSURE = 1.6


def units(_):
    yield "systemd", {path.name: path.read_text() for path in SYSTEMD.iterdir() if path.suffix in (".service", ".timer")}


def systemd(files):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, text in files.items():
            # The programs are not installed where this runs.
            text = re.sub(r"/usr/bin/(broker|loader)", "/bin/true", text)
            (folder / name.replace("@", "@sales-nightly")).write_text(text.replace("file:///usr/share/doc", "https://example.com"))
        for path in sorted(folder.iterdir()):
            verify = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path],
                                    capture_output=True, text=True, env={"SYSTEMD_UNIT_PATH": f"{folder}:", "PATH": "/usr/bin:/bin"})
            yield from (line for line in verify.stderr.splitlines() if path.name in line)
            if verify.returncode:
                yield f"{path.name}: systemd-analyze verify ends with {verify.returncode}: {verify.stderr.strip()}"
            if path.suffix == ".service":
                level = subprocess.run(["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE * 10:.0f}", "--no-pager", path],
                                       capture_output=True, text=True)
                if level.returncode:
                    yield f"{path.name}: exposure above {EXPOSURE}: {level.stdout.strip().splitlines()[-1:]} {level.stderr.strip()}"


def separate(files):
    """What systemd does not know: what these two units need of each other."""
    broker, loader = files["keyferry-broker.service"], files["keyferry-loader@.service"]
    for name, text in files.items():
        if re.search(r"^PrivateUsers=(?!no)", text, re.M):
            yield f"{name}: PrivateUsers hides the other side's uid"
        if re.search(r"^(Environment|EnvironmentFile|SetCredential)=", text, re.M):
            yield f"{name}: a secret could come by the environment or lie in the unit"
    # What the programs call for themselves although `@privileged` has it.
    for name, needed in ((B, "capset @chown"), (L, "capset")):
        if files[name].rfind(f"\nSystemCallFilter={needed}") < files[name].find("SystemCallFilter=~"):
            yield f"{name}: {needed} is denied"
    for line in ("LoadCredentialEncrypted=secret-id:", "LimitCORE=0", "MemorySwapMax=0", "RuntimeDirectoryMode=0700", "ReadOnlyPaths=/run\n"):
        if f"\n{line}" not in broker:
            yield f"keyferry-broker.service: {line.strip()} is missing"
    for line in ("ReadOnlyPaths=/run/keyferry /run\n", "InaccessiblePaths=-/run/keyferry-private", "RestartPreventExitStatus=64 65 66 77 78", "MemorySwapMax=0"):
        if f"\n{line}" not in loader:
            yield f"keyferry-loader@.service: {line.strip()} is missing"
    if "\nUser=keyferry-broker" not in broker or "\nUser=keyferry-loader" not in loader:
        yield "broker and loader do not run as two users"
    people = (SYSTEMD / "keyferry.sysusers.conf").read_text()
    for name, number in (("keyferry-broker", BROKER), ("keyferry-loader", LOADER), ("keyferry", GROUP)):
        if not re.search(rf"^[ug] {name} +{number}\b", people, re.M):
            yield f"keyferry.sysusers.conf: {name} is not {number}"


def compose(_):
    for path in (DEPLOY / "compose/production.yaml", DEPLOY / "compose/development.yaml"):
        yield f"compose/{path.stem}", path.read_text()


def compose_form(text):
    try:
        compose_spec.PyCompose.from_json(json.dumps(yaml.safe_load(text)))
    except Exception as error:  # the binding has no class of its own
        yield f"not as the compose specification has it: {error}"


def compose_apart(text):
    document = yaml.safe_load(text)
    if document["name"] == "keyferry-development":
        return
    services = document["services"]
    for name, uid in (("broker", BROKER), ("loader", LOADER)):
        service = services[name]
        if service.get("user") != f"{uid}:{uid}" or service.get("group_add") != [str(GROUP)]:
            yield f"{name}: does not run as {uid} with the group {GROUP}"
        if service.get("read_only") is not True or service.get("cap_drop") != ["ALL"]:
            yield f"{name}: a writable root or a capability"
        if "no-new-privileges:true" not in service.get("security_opt", []):
            yield f"{name}: may gain privileges"
        if service.get("environment") or service.get("env_file"):
            yield f"{name}: something comes by the environment"
        if not service.get("mem_limit") or service["mem_limit"] != service.get("memswap_limit"):
            yield f"{name}: memory has no limit, or may be swapped"
        if service.get("ports") or service.get("network_mode") or service.get("privileged") or service.get("pid"):
            yield f"{name}: opens a port or shares a namespace"
    sources = {name: {v["source"]: v for v in services[name]["volumes"]} for name in ("broker", "loader")}
    if sources["loader"]["socket"].get("read_only") is not True:
        yield "the loader's socket is not mounted read-only"
    if set(sources["broker"]) & set(sources["loader"]) != {"socket"}:
        yield "broker and loader share more than the socket"
    private = document["volumes"].get("private", {}).get("driver_opts", {})
    if private.get("type") != "tmpfs" or not {f"uid={BROKER}", "mode=0700"} <= set(private.get("o", "").split(",")):
        yield "the keytab's volume is not tmpfs of the broker's own, mode 0700"
    options = document["volumes"]["socket"].get("driver_opts", {})
    if options.get("type") != "tmpfs" or not {f"uid={BROKER}", f"gid={GROUP}", "mode=0750"} <= set(options.get("o", "").split(",")):
        yield "the socket's volume is not tmpfs of the broker's own, mode 0750"


def ecs(_):
    yield "ecs", json.loads((DEPLOY / "ecs/task-definition.json").read_text())


def ecs_form(document):
    """The parameters of RegisterTaskDefinition, by AWS's own model of its API."""
    model = botocore.session.get_session().get_service_model("ecs").operation_model("RegisterTaskDefinition").input_shape
    report = botocore.validate.ParamValidator().validate(document, model)
    if report.has_errors():
        yield report.generate_report()


def ecs_apart(document):
    by_name = {c["name"]: c for c in document["containerDefinitions"]}
    if document.get("taskRoleArn"):
        yield "a task role: every container of the task could use it"
    for name, user in (("broker", f"{BROKER}:{GROUP}"), ("loader", f"{LOADER}:{GROUP}")):
        container = by_name[name]
        if container.get("user") != user:
            yield f"{name}: does not run as {user}"
        if container.get("secrets") or container.get("environment") or container.get("environmentFiles"):
            yield f"{name}: something comes by the environment"
    for name, container in by_name.items():
        if container.get("readonlyRootFilesystem") is not True or container["linuxParameters"]["capabilities"] != {"drop": ["ALL"]}:
            yield f"{name}: a writable root or a capability"
        if re.search(r":latest$|^[^:@]*$", container["image"]):
            yield f"{name}: its image is not pinned"
    mounts = {name: {m["sourceVolume"]: m for m in c["mountPoints"]} for name, c in by_name.items()}
    if mounts["loader"]["socket"].get("readOnly") is not True:
        yield "the loader's socket is not mounted read-only"
    if set(mounts["broker"]) & set(mounts["loader"]) != {"socket"}:
        yield "broker and loader share more than the socket"
    # Docker unmounts a tmpfs volume when its last container ends.
    delivers = by_name["secret-id"]
    if {"containerName": "secret-id", "condition": "HEALTHY"} not in by_name["broker"]["dependsOn"] or not delivers.get("healthCheck"):
        yield "the secret_id is on tmpfs that goes with the container that wrote it, before the broker has it"
    made = (DEPLOY / "ecs/user-data.sh").read_text()
    for volume in document["volumes"]:
        place = volume.get("host", {}).get("sourcePath")
        if place and not re.search(rf"^install -d .*{place}( |$)", made, re.M):
            yield f"volume {volume['name']}: user-data.sh does not make {place}, and Docker would make it as root"


def configurations(_):
    """What each place's sample configuration says, and the folders that its two programs have there."""
    services = yaml.safe_load((DEPLOY / "compose/production.yaml").read_text())["services"]
    compose = {name: [v["target"] for v in s["volumes"]] + [t.split(":")[0] for t in s.get("tmpfs", [])] for name, s in services.items()}
    task = json.loads((DEPLOY / "ecs/task-definition.json").read_text())["containerDefinitions"]
    folders = {"compose": compose, "ecs": {c["name"]: [m["containerPath"] for m in c["mountPoints"]] for c in task}, "systemd": None}
    for place, has in folders.items():
        read = {name: yaml.safe_load((DEPLOY / place / f"{name}.yaml").read_text()) for name in ("broker", "pipeline")}
        yield f"{place}/broker.yaml", {**read, "folders": has}


def configured(document):
    if not document["broker"]["audit"].get("signing_key"):
        yield "broker.yaml: the audit log is not signed"
    if document["folders"] is None:
        return  # systemd: its unit makes the folders
    for name, program, paths in (("broker", "broker", BROKER_PATHS), ("pipeline", "loader", LOADER_PATHS)):
        for path in paths:
            place = at(document[name], path)
            if place and not any(f"{place}/".startswith(f"{folder}/") for folder in document["folders"][program]):
                yield f"{name}.yaml: {'.'.join(path)} is {place}, which is on no volume of the {program}"


def setting(*path, value):
    def apply(document):
        for part in path[:-1]:
            document = document[part]
        document[path[-1]] = value

    return apply


def text(old, new, name=None):
    def apply(document):
        if name is None:
            assert old in document, old
            return document.replace(old, new, 1)
        assert old in document[name], old
        document[name] = document[name].replace(old, new, 1)
        return None

    return apply


def container(name, key, value):
    def apply(document):
        next(c for c in document["containerDefinitions"] if c["name"] == name)[key] = value

    return apply


B, L = "keyferry-broker.service", "keyferry-loader@.service"
CHECKS = [
    Check("systemd-analyze verify and security", units, systemd, [
        ("an unknown key", text("UMask=0077", "Umaks=0077", B), "Umaks"),
        ("a type that is none", text("Type=exec", "Type=executive", B), "service type"),
        ("no system call filter", lambda d: d.update({L: d[L].replace("SystemCallFilter", "#")}), "exposure"),
        ("capabilities", text("CapabilityBoundingSet=", "#", B), "exposure"),
    ]),
    Check("systemd units apart", units, separate, [
        ("a user namespace", text("PrivateMounts=yes", "PrivateUsers=yes", B), "hides"),
        ("one user", text("User=keyferry-loader", "User=keyferry-broker", L), "two users"),
        ("a writable socket", text("ReadOnlyPaths=/run/keyferry ", "", L), "ReadOnlyPaths"),
        ("a writable /run", text("ReadOnlyPaths=/run\n", "", B), "ReadOnlyPaths"),
        ("a secret in the environment", text("UMask", "Environment=SECRET_ID=x\nUMask", B), "environment"),
        ("no way to change the socket's group", text("SystemCallFilter=capset @chown", "", B), "is denied"),
        ("the credential in the clear", text("LoadCredentialEncrypted", "LoadCredential", B), "LoadCredentialEncrypted"),
    ]),
    Check("the compose specification", compose, compose_form, [
        ("an unknown key", text("pids_limit", "pid_limits"), "pid_limits"),
        ("a list for a text", text('user: "10001:10001"', "user: [1]"), "not as the compose"),
    ]),
    Check("compose services apart", compose, compose_apart, [
        ("a writable socket", text("target: /run/keyferry, read_only: true", "target: /run/keyferry"), "read-only"),
        ("one user", text('user: "10002:10002"', 'user: "10001:10001"'), "does not run as 10002"),
        ("a capability", text("cap_drop: [ALL]", "cap_drop: []"), "capability"),
        ("everybody's folder", text("mode=0750", "mode=0777"), "0750"),
        ("everybody's keytab", text("mode=0700", "mode=0755"), "0700"),
        ("swap", text("memswap_limit: 64m", "memswap_limit: 1g"), "swapped"),
    ]),
    Check("ECS: RegisterTaskDefinition", ecs, ecs_form, [
        ("an unknown key", container("loader", "dependOn", []), "dependOn"),
        ("a text for a number", container("loader", "memory", "640"), "memory"),
    ]),
    Check("ECS containers apart", ecs, ecs_apart, [
        ("a task role", lambda d: d.update(taskRoleArn="arn:aws:iam::1:role/x"), "task role"),
        ("a secret in the broker's environment", container("broker", "secrets", [{"name": "A", "valueFrom": "b"}]), "environment"),
        ("one user", container("loader", "user", "10001:10000"), "does not run as"),
        ("latest", container("loader", "image", "x/loader:latest"), "not pinned"),
        ("a secret_id that goes before it is read", lambda d: d["containerDefinitions"][1].update(
            dependsOn=[{"containerName": "secret-id", "condition": "SUCCESS"}]), "goes with the container"),
        ("a folder that nobody makes", lambda d: d["volumes"].append({"name": "x", "host": {"sourcePath": "/var/lib/x"}}), "does not make /var/lib/x"),
        ("no mount read-only", lambda d: d["containerDefinitions"][2]["mountPoints"][0].update(readOnly=False), "read-only"),
    ]),
    Check("configuration fits the host", configurations, configured, [
        ("an unsigned log", setting("broker", "audit", value={"path": "/var/log/keyferry/audit.log"}), "not signed"),
        ("a log on no volume", setting("broker", "audit", "path", value="/var/lib/audit.log"), "audit.path"),
        ("a spool on no volume", setting("pipeline", "limits", "spool_dir", value="/tmp"), "spool_dir"),
    ]),
]
