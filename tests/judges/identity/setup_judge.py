#!/usr/bin/env python3
"""deploy/vault/setup.sh is run against the Vault stand-in, and hvac sees what it left: what the broker may do, what the
deliverer may do, and nothing else."""

import os
import pathlib
import subprocess
import tempfile

import hvac
from hvac.exceptions import Forbidden

from proofs import attempt, end, proof

ROOT = pathlib.Path(__file__).resolve().parents[3]
ADDRESS, CA = os.environ["VAULT_ADDR"], os.environ["VAULT_CACERT"]
PATH = "pipelines/mssql_to_snowflake"


def client(token, wrap=None):
    made = hvac.Client(url=ADDRESS, token=token, verify=CA, timeout=20)
    if wrap:
        made.session.headers["X-Vault-Wrap-TTL"] = wrap
    return made


def refused(action):
    try:
        return "allowed: " + str(action())
    except Forbidden:
        return "refused"


def run():
    """setup.sh with the files that it reads, as an administrator runs it: twice."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name in ("setup.sh", "loader-policy.hcl", "deliver-policy.hcl"):
            (folder / name).write_text((ROOT / "deploy/vault" / name).read_text())
        for name in ("keytab.b64", "client-secret", "audit.key"):
            # As an editor or `command >file` leaves it: with a newline, which Vault would store.
            (folder / name).write_text(f"content of {name}\n")
        tools = pathlib.Path(__file__).parent / "bin"
        given = {"REALM": "CORP.EXAMPLE.COM", "SQL_HOST": "sql01.corp.example.com", "SNOWFLAKE_USER": "SVC_LOADER",
                 "TENANT_ID": "t", "CLIENT_ID": "c", "PATH": f"{tools}:{pathlib.Path(os.sys.executable).parent}:{os.environ['PATH']}"}
        outputs = [subprocess.run(["bash", folder / "setup.sh", "--secret"], env={**os.environ, **given}, capture_output=True, text=True)
                   for _ in range(2)]
        for output in outputs:
            proof("setup.sh", "it runs, and runs again", output.returncode == 0, output.stderr)
        return outputs[-1].stdout


root = client(os.environ["VAULT_TOKEN"])
# The world's broker has a secret of its own at this path; the world is thrown away afterwards.
said = run()
role_id = said.split("role_id: ")[1].split()[0]
attempt("role", "lives and policies are those of the file", lambda: (
    {k: root.auth.approle.read_role("keyferry-broker")["data"][k] for k in ("token_policies", "token_ttl", "token_max_ttl", "secret_id_ttl")},
    {"token_policies": ["keyferry-broker"], "token_ttl": 3600, "token_max_ttl": 86400, "secret_id_ttl": 7776000}))
attempt("secret", "files by their content, without a newline at the end; the key's PEM as it is", lambda: (
    {name: value for name, value in root.secrets.kv.v2.read_secret_version(PATH, raise_on_deleted_version=True)["data"]["data"].items()
     if value.startswith("content of")},
    {"keytab_base64": "content of keytab.b64", "client_secret": "content of client-secret", "audit_signing_key": "content of audit.key\n"}))

deliverer = root.auth.token.create(policies=["keyferry-deliver"], ttl="10m")["auth"]["client_token"]
attempt("deliverer", "reads the role_id", lambda: (client(deliverer).auth.approle.read_role_id("keyferry-broker")["data"]["role_id"], role_id))
attempt("deliverer", "gets no secret_id in the clear", lambda: (
    refused(lambda: client(deliverer).auth.approle.generate_secret_id("keyferry-broker")), "refused"))
attempt("deliverer", "gets none that is wrapped for a day", lambda: (
    refused(lambda: client(deliverer, "24h").auth.approle.generate_secret_id("keyferry-broker")), "refused"))
attempt("deliverer", "cannot read the secret", lambda: (
    refused(lambda: client(deliverer).secrets.kv.v2.read_secret_version(PATH, raise_on_deleted_version=True)), "refused"))

wrapped = client(deliverer, "5m").auth.approle.generate_secret_id("keyferry-broker")["wrap_info"]
attempt("deliverer", "gets one that is wrapped, from the path that the broker expects", lambda: (
    wrapped["creation_path"], "auth/approle/role/keyferry-broker/secret-id"))
secret_id = client(None).sys.unwrap(token=wrapped["token"])["data"]["secret_id"]
broker = client(client(None).auth.approle.login(role_id, secret_id)["auth"]["client_token"])
attempt("broker", "reads its secret", lambda: (
    broker.secrets.kv.v2.read_secret_version(PATH, raise_on_deleted_version=True)["data"]["data"]["sf_user"], "SVC_LOADER"))
attempt("broker", "cannot read another", lambda: (
    refused(lambda: broker.secrets.kv.v2.read_secret_version("pipelines/other", raise_on_deleted_version=True)), "refused"))
attempt("broker", "cannot write it", lambda: (
    refused(lambda: broker.secrets.kv.v2.create_or_update_secret(PATH, {"a": "b"})), "refused"))
attempt("broker", "cannot make a secret_id", lambda: (
    refused(lambda: broker.auth.approle.generate_secret_id("keyferry-broker")), "refused"))
attempt("broker", "renews its own token", lambda: (broker.auth.token.renew_self()["auth"]["renewable"], True))
end()
