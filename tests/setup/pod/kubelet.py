"""Runs deploy/kubernetes/base/pod.yaml on one host as a kubelet would, with podman for the containers.

What a kubelet does and `podman play kube` does not: native sidecars in their order, startup probes, fsGroup and its change
policy, memory-backed volumes, sub-paths, files of ConfigMaps behind `..data`, projected service-account tokens, the downward
API, a claim that outlives the pod. Needs root.
"""

import argparse
import base64
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import time
import uuid

import yaml

UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
NAMESPACE = "keyferry"
ISSUER = "https://kubernetes.default.svc.cluster.local"


def main():
    asked = argparse.ArgumentParser()
    asked.add_argument("template", help="a file with a PodTemplate")
    asked.add_argument("--root", required=True, help="a folder for the volumes, made anew")
    asked.add_argument("--files", action="append", default=[], metavar="NAME=FOLDER", help="a ConfigMap or Secret")
    asked.add_argument("--key", required=True, help="the cluster's private key, PEM; the ConfigMap keyferry-cluster-keys is made of it")
    asked.add_argument("--claim", metavar="VOLUME=FOLDER", help="a volume that is a claim, and where it lies between pods")
    asked.add_argument("--instead", metavar="CONTAINER=COMMAND", help="another command for a container; its folder is mounted")
    asked.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for that command")
    asked.add_argument("--look", action="append", default=[], metavar="CONTAINER=FILE", help="where its selfcheck is kept")
    asked.add_argument("--logs", required=True, help="a folder for the containers' logs")
    pod = Pod(asked.parse_args())
    try:
        sys.exit(pod.run())
    finally:
        pod.clean()


def podman(*words, check=True, quiet=True):
    done = subprocess.run(["podman", *words], check=False, text=True, capture_output=quiet)
    if check and done.returncode != 0:
        raise SystemExit(f"kubelet: podman {words[0]} ended with {done.returncode}: {done.stderr}")
    return done


def said(text):
    print(f"  {text}", flush=True)


class Pod:
    def __init__(self, asked):
        documents = yaml.safe_load_all(pathlib.Path(asked.template).read_text())
        self.spec = next(document for document in documents if document["kind"] == "PodTemplate")["template"]["spec"]
        self.asked = asked
        self.root = pathlib.Path(asked.root)
        self.files = dict(pair.split("=", 1) for pair in asked.files)
        self.claim = dict([asked.claim.split("=", 1)]) if asked.claim else {}
        self.instead = dict([asked.instead.split("=", 1)]) if asked.instead else {}
        self.look = dict(pair.split("=", 1) for pair in asked.look)
        self.uid = str(uuid.uuid4())
        self.group = self.spec["securityContext"]["fsGroup"]
        self.names = [c["name"] for c in self.spec["initContainers"] + self.spec["containers"]]
        self.clean()

    def clean(self):
        for name in self.names:
            podman("rm", "--force", "--ignore", "--time", "0", f"kubelet-{name}", check=False)
        for folder in sorted(self.root.glob("*")) if self.root.exists() else []:
            subprocess.run(["umount", folder], check=False, capture_output=True)
        shutil.rmtree(self.root, ignore_errors=True)

    def run(self):
        self.root.mkdir(parents=True)
        for volume in self.spec["volumes"]:
            self.volume(volume)
        sidecars = []
        for container in self.spec["initContainers"]:
            if container.get("restartPolicy") == "Always":
                self.start(container, "--detach")
                sidecars.append(container)
                self.started(container)
            else:
                self.start(container)
                said(f"init container {container['name']}: ended with 0")
        for container in self.spec["containers"]:
            self.start(container, "--detach")
        for container in self.spec["containers"]:
            self.selfcheck(container)
        code = 0
        for container in self.spec["containers"]:
            code = max(code, self.ended(container["name"]))
        # What the main containers leave behind: first looked at, then told to stop, the last started first.
        for container in reversed(sidecars):
            self.selfcheck(container)
            running = self.running(container)
            podman("stop", "--time", str(self.spec["terminationGracePeriodSeconds"]), f"kubelet-{container['name']}")
            code = max(code, self.ended(container["name"]), 0 if running == "true" else 1)
        return code

    def running(self, container):
        return podman("inspect", "--format", "{{.State.Running}}", f"kubelet-{container['name']}").stdout.strip()

    def ended(self, name):
        code = int(podman("wait", f"kubelet-{name}").stdout.split()[-1])
        with open(pathlib.Path(self.asked.logs) / f"{name}.log", "w") as log:
            subprocess.run(["podman", "logs", f"kubelet-{name}"], check=False, stdout=log, stderr=log)
        said(f"container {name}: ended with {code}")
        return code

    def start(self, container, *how):
        context, limits = container["securityContext"], container["resources"]["limits"]
        words = ["run", *how, "--name", f"kubelet-{container['name']}", "--network", "host", "--pull", "never"]
        words += ["--user", f"{context['runAsUser']}:{context['runAsGroup']}", "--group-add", str(self.group)]
        assert context["readOnlyRootFilesystem"] and context["capabilities"] == {"drop": ["ALL"]}
        words += ["--read-only", "--read-only-tmpfs=false", "--cap-drop", "all"]
        assert context["allowPrivilegeEscalation"] is False
        words += ["--security-opt", "no-new-privileges", "--env", "KUBERNETES_SERVICE_HOST=127.0.0.1"]
        memory = str(size(limits["memory"]))
        words += ["--memory", memory, "--memory-swap", memory]
        for mount in container["volumeMounts"]:
            source = self.root / mount["name"] / mount.get("subPath", "")
            mode = "ro" if mount.get("readOnly") else "rw"
            words += ["--volume", f"{source}:{mount['mountPath']}:{mode},rprivate"]
        image, arguments = f"localhost/{container['image']}:0.1.0", container.get("args", [])
        if container["name"] in self.instead:
            program = pathlib.Path(self.instead[container["name"]])
            words += ["--volume", f"{program.parent}:/instead:ro", "--entrypoint", f"/instead/{program.name}"]
            words += [word for pair in self.asked.env for word in ("--env", pair)]
            arguments = []
        podman(*words, image, *arguments)

    def started(self, container):
        """The startup probe: until it succeeds nothing after this container begins."""
        probe = container["startupProbe"]
        for attempt in range(probe["failureThreshold"]):
            if podman("exec", f"kubelet-{container['name']}", *probe["exec"]["command"], check=False).returncode == 0:
                said(f"sidecar {container['name']}: its startup probe succeeded at attempt {attempt + 1}")
                return
            if self.running(container) != "true":
                break
            time.sleep(probe["periodSeconds"])
        podman("logs", f"kubelet-{container['name']}", quiet=False)
        raise SystemExit(f"kubelet: {container['name']} ended, or its startup probe never succeeded")

    def selfcheck(self, container):
        name = container["name"]
        if name not in self.look:
            return
        words = ["exec", f"kubelet-{name}", f"/usr/local/bin/{name}", "selfcheck", "--pid", "1"]
        for _ in range(100):
            done = podman(*words, check=False)
            if done.returncode == 0:
                break
            time.sleep(0.1)
        pathlib.Path(self.look[name]).write_text(done.stdout + done.stderr)

    def volume(self, volume):
        name, folder = volume["name"], self.root / volume["name"]
        if name in self.claim:
            kept = pathlib.Path(self.claim[name])
            kept.mkdir(mode=0o755, exist_ok=True)
            folder.mkdir()
            subprocess.run(["mount", "--bind", kept, folder], check=True)
            return self.give(folder)
        folder.mkdir()
        if "emptyDir" in volume:
            empty = volume["emptyDir"]
            if empty.get("medium") == "Memory":
                limit = size(empty["sizeLimit"])
                subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={limit}", "tmpfs", folder], check=True)
            folder.chmod(0o777)
            return self.give(folder)
        if "configMap" in volume or "secret" in volume:
            source = volume.get("configMap") or volume["secret"]
            which = source.get("name") or source["secretName"]
            files = self.keys() if which == "keyferry-cluster-keys" else self.of(which)
            wanted = {item["key"]: item["path"] for item in source.get("items", [])} or {key: key for key in files}
            return self.write(folder, {path: files[key] for key, path in wanted.items()}, source["defaultMode"])
        if "downwardAPI" in volume:
            assert all(item["fieldRef"]["fieldPath"] == "metadata.uid" for item in volume["downwardAPI"]["items"])
            files = {item["path"]: self.uid.encode() for item in volume["downwardAPI"]["items"]}
            return self.write(folder, files, volume["downwardAPI"]["defaultMode"])
        if "projected" in volume:
            tokens = [source["serviceAccountToken"] for source in volume["projected"]["sources"]]
            files = {token["path"]: self.token(token["audience"], token["expirationSeconds"]) for token in tokens}
            return self.write(folder, files, volume["projected"]["defaultMode"])
        raise SystemExit(f"kubelet: no volume like {volume}")

    def of(self, name):
        return {path.name: path.read_bytes() for path in pathlib.Path(self.files[name]).iterdir()}

    def write(self, folder, files, mode):
        """As the kubelet's atomic writer: the files lie in a folder of their own, behind two links."""
        inner = folder / "..2026_11_21"
        inner.mkdir()
        for name, content in files.items():
            (inner / name).write_bytes(content)
            (inner / name).chmod(mode)
            os.chown(inner / name, 0, self.group)
            (folder / name).symlink_to(f"..data/{name}")
        (folder / "..data").symlink_to(inner.name)

    def give(self, folder):
        """fsGroup, with its change policy: group and rights of every file, or of none when the root already fits."""
        wanted = 0o660 | stat.S_ISGID | 0o110
        root = folder.stat()
        fits = root.st_gid == self.group and root.st_mode & wanted == wanted
        if fits and self.spec["securityContext"].get("fsGroupChangePolicy") == "OnRootMismatch":
            return
        for path in [folder, *folder.rglob("*")]:
            mode = path.lstat().st_mode
            os.chown(path, -1, self.group, follow_symlinks=False)
            path.chmod(stat.S_IMODE(mode) | (wanted if path.is_dir() else 0o660))

    def keys(self):
        """The cluster's public key, as `kubectl get --raw /openid/v1/jwks` prints it."""
        out = subprocess.run(["openssl", "rsa", "-in", self.asked.key, "-noout", "-modulus"], check=True, capture_output=True, text=True)
        modulus = bytes.fromhex(re.search("Modulus=([0-9A-F]+)", out.stdout)[1])
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "cluster", "n": encoded(modulus), "e": "AQAB"}
        return {"jwks.json": json.dumps({"keys": [key]}).encode()}

    def token(self, audience, seconds):
        now = int(time.time())
        account = self.spec["serviceAccountName"]
        claims = {
            "iss": ISSUER, "aud": [audience], "iat": now, "nbf": now, "exp": now + seconds, "jti": str(uuid.uuid4()),
            "sub": f"system:serviceaccount:{NAMESPACE}:{account}",
            "kubernetes.io": {
                "namespace": NAMESPACE,
                "pod": {"name": "keyferry-loader-0", "uid": self.uid},
                "serviceaccount": {"name": account, "uid": str(uuid.uuid4())},
            },
        }
        text = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "cluster"}, claims))
        sign = ["openssl", "dgst", "-sha256", "-sign", self.asked.key]
        signature = subprocess.run(sign, check=True, capture_output=True, input=text.encode()).stdout
        return f"{text}.{encoded(signature)}".encode()


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def size(text):
    number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi)", text).groups()
    return int(number) * UNITS[unit]


main()
