"""Looks at the two images: user, files, labels, bill of materials, and that they run with nothing but themselves."""

import json
import subprocess
import sys
import tarfile
import tempfile

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

SHELLS = {"sh", "bash", "dash", "busybox", "env", "perl", "python3", "apt-get", "dpkg", "ld", "cat", "ls", "su", "mount"}
SECRET_LIBRARIES = ("libkrb5", "libgssapi", "libk5crypto")
SECRET_CRATES = {"keyferry-broker", "vaultrs", "oauth2", "libgssapi", "libgssapi-sys", "aws-sdk-kms"}
WANTED = {"broker": "10001:10001", "loader": "10002:10002"}
# The folder that the program writes: a new volume of Docker's takes over whose it is.
FOLDERS = {"broker": "var/log/keyferry", "loader": "var/spool/keyferry"}
# Debian's packages with code that runs in the process.
PACKAGES = {"broker": {"libc6", "libkrb5-3", "libgssapi-krb5-2", "libk5crypto3"}, "loader": {"libc6"}}
failures = []


def podman(*arguments, **options):
    return subprocess.run(["podman", *arguments], check=True, capture_output=True, **options).stdout


def claim(image, what, holds, found=""):
    print(f"{'ok' if holds else 'FAILED':<7} {image:<7} {what}{'' if holds else f': {found}'}")
    if not holds:
        failures.append(what)


def files_of(image):
    """Names, the content of the bill of materials, what is setuid, and owner and mode of each folder."""
    container = podman("create", f"localhost/keyferry/{image}:0.1.0").decode().strip()
    try:
        with tempfile.NamedTemporaryFile() as archive:
            podman("export", "--output", archive.name, container)
            with tarfile.open(archive.name) as tar:
                folders = {member.name: (member.uid, member.gid, member.mode & 0o7777) for member in tar.getmembers() if member.isdir()}
                members = [member for member in tar.getmembers() if not member.isdir()]
                bill = tar.extractfile("usr/share/doc/keyferry/sbom.cdx.json").read().decode()
                setuid = [member.name for member in members if member.mode & 0o6000]
                return [member.name for member in members], bill, setuid, folders
    finally:
        podman("rm", container)


def look(image):
    config = json.loads(podman("image", "inspect", f"localhost/keyferry/{image}:0.1.0"))[0]
    claim(image, f"runs as {WANTED[image]}", config["User"] == WANTED[image], config["User"])
    labels = config["Labels"] or {}
    for label in ["title", "description", "version", "revision", "licenses"]:
        claim(image, f"label {label}", labels.get(f"org.opencontainers.image.{label}"), labels)
    files, bill, setuid, folders = files_of(image)
    names = {file.rsplit("/", 1)[-1] for file in files}
    claim(image, "no shell, no package manager, no tools", not names & SHELLS, names & SHELLS)
    claim(image, "no file is setuid or setgid", not setuid, setuid)
    uid = int(WANTED[image].split(":")[0])
    claim(image, f"/{FOLDERS[image]} is the program's own, 0700", folders.get(FOLDERS[image]) == (uid, uid, 0o700), folders.get(FOLDERS[image]))
    programs = sorted(file for file in files if "/bin/" in file)
    claim(image, "one program", programs == [f"usr/local/bin/{image}"], programs)
    if image == "loader":
        found = [name for name in names if name.startswith(SECRET_LIBRARIES)]
        claim(image, "no library of Kerberos", not found, found)
    errors = JsonStrictValidator(SchemaVersion.V1_5).validate_str(bill)
    claim(image, "the bill of materials is CycloneDX 1.5", errors is None, errors)
    components = json.loads(bill)["components"]
    crates = {component["name"] for component in components if component["purl"].startswith("pkg:cargo/")}
    debian = {component["name"] for component in components if component["purl"].startswith("pkg:deb/debian/")}
    claim(image, f"the bill of materials names {len(crates)} crates", len(crates) > 50, len(crates))
    claim(image, f"and {len(debian)} packages of Debian", PACKAGES[image] <= debian, PACKAGES[image] - debian)
    if image == "loader":
        found = {name for name in debian if name.startswith(SECRET_LIBRARIES)}
        claim(image, "none of them is Kerberos", not found, found)
        claim(image, "none of them knows a secret", not crates & SECRET_CRATES, crates & SECRET_CRATES)
    run = ["run", "--rm", "--read-only", "--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    version = podman(*run, f"localhost/keyferry/{image}:0.1.0", "--version").decode().strip()
    claim(image, f"runs with nothing but itself: {version}", version.startswith(image), version)
    print(f"        {image:<7} {config['Size'] / 1e6:.1f} MB in {len(files)} files")


for name in WANTED:
    look(name)
sys.exit(1 if failures else 0)
