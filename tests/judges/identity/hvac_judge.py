#!/usr/bin/env python3
"""hvac, the Python client of HashiCorp Vault, judges the Vault stand-in.

VAULT_ADDR, VAULT_CACERT, VAULT_TOKEN (root) and VAULT_UNSEAL_KEY come from the environment. What it makes has names of its
own; the secret and the role of the broker are left alone.
"""

import os
import time
import warnings

import hvac
from hvac.exceptions import Forbidden, InvalidPath, InvalidRequest, UnexpectedError, VaultDown, VaultError

from proofs import attempt, end, equal, proof

warnings.filterwarnings("ignore", category=DeprecationWarning)
ADDRESS, CA = os.environ["VAULT_ADDR"], os.environ["VAULT_CACERT"]
READER = 'path "secret/data/judge/*" { capabilities = ["read"] }\npath "secret/metadata/judge/*" { capabilities = ["list"] }\n'


def client(token=None, namespace=None):
    # hvac would take a missing token from VAULT_TOKEN.
    return hvac.Client(url=ADDRESS, token=token or "", verify=CA, namespace=namespace, timeout=20)


root = client(os.environ["VAULT_TOKEN"])
kv = root.secrets.kv.v2


def refused(kind, action):
    """The words of the refusal, which must be of this very kind."""
    try:
        result = action()
    except kind as error:
        return [type(error).__name__, *(error.errors or [])]
    except VaultError as error:
        return [f"{type(error).__name__} instead of {kind.__name__}", str(error)]
    return ["nothing was refused", str(result)]


def approle():
    roles = root.auth.approle
    root.sys.create_or_update_policy("judge-reader", READER)
    roles.create_or_update_approle(
        "judge", token_policies=["judge-reader"], token_ttl="60s", token_max_ttl="120s", secret_id_num_uses=2, secret_id_ttl="1h")
    role = roles.read_role("judge")["data"]
    equal("approle", "a role is read back as it was written",
          {k: role[k] for k in ("token_policies", "token_ttl", "token_max_ttl", "secret_id_num_uses", "secret_id_ttl", "bind_secret_id")},
          {"token_policies": ["judge-reader"], "token_ttl": 60, "token_max_ttl": 120, "secret_id_num_uses": 2, "secret_id_ttl": 3600, "bind_secret_id": True})
    proof("approle", "roles are listed", {"judge", "loader"} <= set(roles.list_roles()["data"]["keys"]), roles.list_roles()["data"])
    attempt("approle", "a role that is not there is 404", lambda: (refused(InvalidPath, lambda: roles.read_role("nobody"))[0], "InvalidPath"))
    role_id = roles.read_role_id("judge")["data"]["role_id"]
    issued = roles.generate_secret_id("judge", metadata={"team": "reports"})["data"]
    equal("approle", "a secret_id has the role's limits", (issued["secret_id_num_uses"], issued["secret_id_ttl"]), (2, 3600))
    looked = roles.read_secret_id("judge", issued["secret_id"])["data"]
    equal("approle", "a secret_id is looked up with its metadata", (looked["metadata"], looked["secret_id_num_uses"]), ({"team": "reports"}, 2))
    accessors = roles.list_secret_id_accessors("judge")["data"]["keys"]
    equal("approle", "its accessor is listed", accessors, [issued["secret_id_accessor"]])

    caller = client()
    auth = caller.auth.approle.login(role_id, issued["secret_id"])["auth"]
    equal("login", "policies, life and metadata are the role's",
          (auth["policies"], auth["token_policies"], auth["lease_duration"], auth["renewable"], auth["token_type"], auth["orphan"]),
          (["default", "judge-reader"], ["default", "judge-reader"], 60, True, "service", True))
    equal("login", "metadata names role and what the secret_id carried", auth["metadata"], {"role_name": "judge", "team": "reports"})
    attempt("login", "a wrong secret_id is refused", lambda: (
        refused(InvalidRequest, lambda: client().auth.approle.login(role_id, "00000000-0000-0000-0000-000000000000")), ["InvalidRequest", "invalid role or secret ID"]))
    attempt("login", "a wrong role_id is refused alike", lambda: (
        refused(InvalidRequest, lambda: client().auth.approle.login("no-such-role", issued["secret_id"])), ["InvalidRequest", "invalid role or secret ID"]))
    attempt("login", "a missing secret_id is named", lambda: (refused(InvalidRequest, lambda: client().auth.approle.login(role_id)), ["InvalidRequest", "missing secret_id"]))
    client().auth.approle.login(role_id, issued["secret_id"])
    attempt("login", "num_uses: the third login with a secret_id for two is refused", lambda: (
        refused(InvalidRequest, lambda: client().auth.approle.login(role_id, issued["secret_id"]))[1:], ["invalid role or secret ID"]))
    doomed = roles.generate_secret_id("judge")["data"]
    roles.destroy_secret_id("judge", doomed["secret_id"])
    attempt("login", "a destroyed secret_id is refused", lambda: (refused(InvalidRequest, lambda: client().auth.approle.login(role_id, doomed["secret_id"]))[0], "InvalidRequest"))
    roles.create_custom_secret_id("judge", "chosen-by-somebody")
    attempt("login", "a secret_id of one's own choice logs in", lambda: (client().auth.approle.login(role_id, "chosen-by-somebody")["auth"]["policies"], ["default", "judge-reader"]))
    attempt("login", "a mount that is not there is refused", lambda: (
        refused(Forbidden, lambda: client().auth.approle.login(role_id, "x", mount_point="nowhere"))[0], "Forbidden"))
    return role_id


def wrapping(role_id):
    roles = root.auth.approle
    wrapped = roles.generate_secret_id("judge", wrap_ttl="90s")
    info = wrapped["wrap_info"]
    equal("wrapping", "a wrapped answer holds nothing else", (wrapped["data"], info["ttl"], info["creation_path"]), (None, 90, "auth/approle/role/judge/secret-id"))
    looked = root.adapter.post("/v1/sys/wrapping/lookup", json={"token": info["token"]})["data"]
    equal("wrapping", "lookup tells creation_path and life, and does not use it up", (looked["creation_path"], looked["creation_ttl"]), ("auth/approle/role/judge/secret-id", 90))
    attempt("wrapping", "a wrapping token is no token for anything else", lambda: (refused(Forbidden, lambda: client(info["token"]).secrets.kv.v2.list_secrets("judge"))[0], "Forbidden"))
    opened = client().sys.unwrap(info["token"])["data"]
    attempt("wrapping", "what was unwrapped logs in", lambda: (client().auth.approle.login(role_id, opened["secret_id"])["auth"]["lease_duration"], 60))
    attempt("wrapping", "the second unwrap is refused", lambda: (refused(InvalidRequest, lambda: client().sys.unwrap(info["token"])), ["InvalidRequest", "wrapping token is not valid or does not exist"]))
    attempt("wrapping", "so is a lookup after it", lambda: (refused(InvalidRequest, lambda: root.adapter.post("/v1/sys/wrapping/lookup", json={"token": info["token"]}))[0], "InvalidRequest"))
    info = root.sys.wrap(payload={"a": {"b": 1}}, ttl=60)["wrap_info"]
    equal("wrapping", "anything can be wrapped", (info["creation_path"], client(info["token"]).sys.unwrap()["data"]), ("sys/wrapping/wrap", {"a": {"b": 1}}))
    first = root.sys.wrap(payload={"x": "y"}, ttl=60)["wrap_info"]["token"]
    second = root.adapter.post("/v1/sys/wrapping/rewrap", json={"token": first})["wrap_info"]["token"]
    proof("wrapping", "rewrap makes the first token void", refused(InvalidRequest, lambda: client().sys.unwrap(first))[0] == "InvalidRequest" and client().sys.unwrap(second)["data"] == {"x": "y"})
    secret_id = roles.generate_secret_id("judge")["data"]["secret_id"]
    short = root.sys.wrap(payload={"x": secret_id}, ttl=1)["wrap_info"]["token"]
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and refused(InvalidRequest, lambda: root.adapter.post("/v1/sys/wrapping/lookup", json={"token": short}))[0] != "InvalidRequest":
        time.sleep(0.1)
    attempt("wrapping", "after its ttl it is gone", lambda: (refused(InvalidRequest, lambda: client().sys.unwrap(short))[0], "InvalidRequest"))


def versions():
    written = kv.create_or_update_secret("judge/one", {"user": "a", "n": 1})["data"]
    equal("kv", "a write answers the version's metadata", (written["version"], written["destroyed"], written["deletion_time"], written["custom_metadata"]), (1, False, "", None))
    kv.create_or_update_secret("judge/one", {"user": "b", "n": 2})
    latest, first = kv.read_secret_version("judge/one")["data"], kv.read_secret_version("judge/one", version=1)["data"]
    equal("kv", "the latest and an earlier version are read", (latest["data"], latest["metadata"]["version"], first["data"]), ({"user": "b", "n": 2}, 2, {"user": "a", "n": 1}))
    metadata = kv.read_secret_metadata("judge/one")["data"]
    equal("kv", "metadata tells every version", (metadata["current_version"], sorted(metadata["versions"]), metadata["cas_required"], metadata["max_versions"], metadata["delete_version_after"]), (2, ["1", "2"], False, 0, "0s"))
    attempt("kv", "check-and-set with another version is refused", lambda: (
        refused(InvalidRequest, lambda: kv.create_or_update_secret("judge/one", {"x": 1}, cas=1)), ["InvalidRequest", "check-and-set parameter did not match the current version"]))
    attempt("kv", "check-and-set 0 means: only if it is not there", lambda: (refused(InvalidRequest, lambda: kv.create_or_update_secret("judge/one", {"x": 1}, cas=0))[0], "InvalidRequest"))
    attempt("kv", "check-and-set with the current version writes", lambda: (kv.create_or_update_secret("judge/one", {"user": "c"}, cas=2)["data"]["version"], 3))
    kv.patch("judge/one", {"more": True})
    equal("kv", "a patch keeps what it does not name", kv.read_secret_version("judge/one")["data"]["data"], {"user": "c", "more": True})

    kv.delete_latest_version_of_secret("judge/one")
    attempt("kv", "a deleted version answers 404", lambda: (refused(InvalidPath, lambda: kv.read_secret_version("judge/one", raise_on_deleted_version=True))[0], "InvalidPath"))
    gone = kv.read_secret_version("judge/one", raise_on_deleted_version=False)["data"]
    proof("kv", "... with its metadata and no data", gone["data"] is None and gone["metadata"]["version"] == 4 and gone["metadata"]["deletion_time"] != "" and not gone["metadata"]["destroyed"], gone)
    kv.undelete_secret_versions("judge/one", [4])
    equal("kv", "an undeleted version is back", kv.read_secret_version("judge/one")["data"]["data"]["user"], "c")
    kv.destroy_secret_versions("judge/one", [1])
    gone = kv.read_secret_metadata("judge/one")["data"]["versions"]["1"]
    equal("kv", "a destroyed version is marked so, and cannot be undeleted", (gone["destroyed"], kv.undelete_secret_versions("judge/one", [1]).status_code, refused(InvalidPath, lambda: kv.read_secret_version("judge/one", version=1))[0]), (True, 204, "InvalidPath"))
    attempt("kv", "a version that never was is 404", lambda: (refused(InvalidPath, lambda: kv.read_secret_version("judge/one", version=99))[0], "InvalidPath"))
    attempt("kv", "a path that never was is 404 without words", lambda: (refused(InvalidPath, lambda: kv.read_secret_version("judge/none")), ["InvalidPath"]))

    kv.create_or_update_secret("judge/folder/two", {"x": 1})
    equal("kv", "a list shows secrets and folders", kv.list_secrets("judge")["data"]["keys"], ["folder/", "one"])
    attempt("kv", "an empty list is 404", lambda: (refused(InvalidPath, lambda: kv.list_secrets("judge/nothing"))[0], "InvalidPath"))
    kv.update_metadata("judge/two", max_versions=2, cas_required=True, custom_metadata={"owner": "reports"})
    attempt("kv", "cas_required refuses a write without it", lambda: (
        refused(InvalidRequest, lambda: kv.create_or_update_secret("judge/two", {"x": 0})), ["InvalidRequest", "check-and-set parameter required for this call"]))
    for number in range(4):
        kv.create_or_update_secret("judge/two", {"x": number}, cas=number)
    metadata = kv.read_secret_metadata("judge/two")["data"]
    equal("kv", "max_versions keeps the newest only", (sorted(metadata["versions"]), metadata["oldest_version"], metadata["current_version"], metadata["custom_metadata"]), (["3", "4"], 3, 4, {"owner": "reports"}))
    kv.delete_metadata_and_all_versions("judge/two")
    attempt("kv", "without its metadata a secret is gone", lambda: (refused(InvalidPath, lambda: kv.read_secret_metadata("judge/two"))[0], "InvalidPath"))
    subkeys = root.adapter.get("/v1/secret/subkeys/judge/folder/two")["data"]["subkeys"]
    equal("kv", "subkeys show names without values", subkeys, {"x": None})
    kv.configure(max_versions=20, cas_required=False, mount_point="secret")
    equal("kv", "the mount's configuration is read back", kv.read_configuration()["data"]["max_versions"], 20)
    attempt("kv", "a path of version 1 is named as such", lambda: (refused(InvalidPath, lambda: root.adapter.get("/v1/secret/judge/one"))[0], "InvalidPath"))
    root.sys.enable_secrets_engine("kv", path="judge-team", options={"version": "2"})
    kv.create_or_update_secret("a", {"x": 1}, mount_point="judge-team")
    equal("mounts", "a second engine is mounted and holds its own", (kv.read_secret_version("a", mount_point="judge-team")["data"]["data"], "judge-team/" in root.sys.list_mounted_secrets_engines()["data"]), ({"x": 1}, True))
    attempt("mounts", "a path that is in use is refused", lambda: (refused(InvalidRequest, lambda: root.sys.enable_secrets_engine("kv", path="judge-team", options={"version": "2"})), ["InvalidRequest", "path is already in use at judge-team/"]))
    root.sys.disable_secrets_engine("judge-team")
    attempt("mounts", "an engine that is not mounted has no route", lambda: (refused(InvalidPath, lambda: kv.read_secret_version("a", mount_point="judge-team"))[0], "InvalidPath"))


def policies(role_id):
    login = lambda: client(client().auth.approle.login(role_id, root.auth.approle.generate_secret_id("judge")["data"]["secret_id"])["auth"]["client_token"])  # noqa: E731
    reader = login()
    denied = ["Forbidden", "1 error occurred:\n\t* permission denied\n\n"]
    equal("policies", "what the policy allows is read", reader.secrets.kv.v2.read_secret_version("judge/folder/two")["data"]["data"], {"x": 1})
    attempt("policies", "writing is refused", lambda: (refused(Forbidden, lambda: reader.secrets.kv.v2.create_or_update_secret("judge/one", {"x": 1})), denied))
    attempt("policies", "another path is refused, whether it is there or not", lambda: (
        [refused(Forbidden, lambda path=path: reader.secrets.kv.v2.read_secret_version(path)) for path in ("pipelines/mssql_to_snowflake", "nowhere")], [denied, denied]))
    equal("policies", "listing is a capability of its own", reader.secrets.kv.v2.list_secrets("judge/folder")["data"]["keys"], ["two"])
    attempt("policies", "administration is refused", lambda: (
        [refused(Forbidden, act)[0] for act in (reader.sys.list_policies, reader.sys.seal, lambda: reader.auth.approle.read_role_id("judge"))], ["Forbidden"] * 3))
    capabilities = reader.sys.get_capabilities(["secret/data/judge/x", "secret/data/other"])["data"] if hasattr(reader.sys, "get_capabilities") else {}
    equal("policies", "a token can ask what it may do", {k: capabilities.get(k) for k in ("secret/data/judge/x", "secret/data/other")}, {"secret/data/judge/x": ["read"], "secret/data/other": ["deny"]})
    root.sys.create_or_update_policy("judge-reader", READER + 'path "secret/data/judge/folder/*" { capabilities = ["deny"] }\n')
    attempt("policies", "a changed policy binds living tokens: deny on the more specific path wins", lambda: (refused(Forbidden, lambda: reader.secrets.kv.v2.read_secret_version("judge/folder/two"))[0], "Forbidden"))
    root.sys.create_or_update_policy("judge-reader", READER + 'path "secret/data/judge/new" { capabilities = ["create"] }\n')
    equal("policies", "create without update: the first write passes", reader.secrets.kv.v2.create_or_update_secret("judge/new", {"x": 1})["data"]["version"], 1)
    attempt("policies", "... the second does not", lambda: (refused(Forbidden, lambda: reader.secrets.kv.v2.create_or_update_secret("judge/new", {"x": 2}))[0], "Forbidden"))
    root.sys.create_or_update_policy("judge-reader", READER)
    equal("policies", "a policy is read back as it was written", root.sys.read_policy("judge-reader")["data"]["rules"], READER)
    proof("policies", "policies are listed", {"root", "default", "judge-reader"} <= set(root.sys.list_policies()["data"]["policies"]), root.sys.list_policies()["data"])
    attempt("policies", "a policy that cannot be parsed is refused", lambda: (refused(InvalidRequest, lambda: root.sys.create_or_update_policy("judge-bad", "path secret {"))[0], "InvalidRequest"))
    attempt("policies", "root cannot be changed", lambda: (refused(InvalidRequest, lambda: root.sys.create_or_update_policy("root", READER))[0], "InvalidRequest"))


def tokens(role_id):
    value = client().auth.approle.login(role_id, root.auth.approle.generate_secret_id("judge")["data"]["secret_id"])["auth"]["client_token"]
    own = client(value)
    looked = own.auth.token.lookup_self()["data"]
    proof("tokens", "lookup-self tells life and origin", 0 < looked["ttl"] <= 60 and looked["creation_ttl"] == 60 and looked["path"] == "auth/approle/login" and looked["id"] == value and looked["expire_time"], looked)
    equal("tokens", "renew-self renews", own.auth.token.renew_self()["auth"]["lease_duration"], 60)
    long = own.auth.token.renew_self(increment="1h")
    proof("tokens", "a renewal does not pass the maximum life, and says so", 60 < long["auth"]["lease_duration"] <= 120 and long["warnings"], long)
    equal("tokens", "an accessor is enough to look, and does not show the token", [root.auth.token.lookup_accessor(looked["accessor"])["data"][k] for k in ("id", "path")], ["", "auth/approle/login"])
    own.auth.token.revoke_self()
    invalid = ["Forbidden", "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]
    attempt("tokens", "a revoked token is invalid", lambda: (refused(Forbidden, own.auth.token.lookup_self), invalid))
    attempt("tokens", "a guessed one is too", lambda: (refused(Forbidden, lambda: client("hvs.guess").secrets.kv.v2.list_secrets("judge")), invalid))
    attempt("tokens", "none at all is refused", lambda: (refused(Forbidden, lambda: client().secrets.kv.v2.list_secrets("judge"))[0], "Forbidden"))
    equal("tokens", "is_authenticated says it", (root.is_authenticated(), own.is_authenticated()), (True, False))
    parent = root.auth.token.create(policies=["judge-reader"], ttl="1h", num_uses=0, display_name="parent")["auth"]["client_token"]
    made = root.auth.token.create(policies=["judge-reader"], ttl="30m", num_uses=2, renewable=False)["auth"]
    equal("tokens", "a token with its own limits", (made["lease_duration"], made["num_uses"], made["renewable"], made["orphan"]), (1800, 2, False, False))
    counted = client(made["client_token"])
    uses = [counted.secrets.kv.v2.read_secret_version("judge/folder/two")["data"]["data"]["x"] for _ in range(2)]
    attempt("tokens", "num_uses: two calls, then it is gone", lambda: (uses + refused(Forbidden, lambda: counted.secrets.kv.v2.read_secret_version("judge/folder/two"))[:1], [1, 1, "Forbidden"]))
    fixed = root.auth.token.create(policies=["default"], ttl="10m", renewable=False)["auth"]["client_token"]
    attempt("tokens", "one that is not renewable is not renewed", lambda: (refused(InvalidRequest, lambda: root.auth.token.renew(fixed))[0], "InvalidRequest"))
    root.sys.create_or_update_policy("judge-maker", 'path "auth/token/create" { capabilities = ["update"] }\n')
    maker = client(root.auth.token.create(policies=["judge-maker", "judge-reader"], ttl="1h")["auth"]["client_token"])
    child = client(maker.auth.token.create(policies=["judge-reader"], ttl="10m")["auth"]["client_token"])
    attempt("tokens", "a child has no policy that its parent has not", lambda: (refused(InvalidRequest, lambda: maker.auth.token.create(policies=["root"]))[1:], ["child policies must be subset of parent"]))
    proof("tokens", "a child serves", child.is_authenticated())
    maker.auth.token.revoke_self()
    equal("tokens", "... and ends with its parent", child.is_authenticated(), False)
    root.auth.token.revoke(parent)
    attempt("tokens", "a lookup of a token that ended is refused", lambda: (refused(Forbidden, lambda: root.auth.token.lookup(parent)), ["Forbidden", "bad token"]))
    brief = client(root.auth.token.create(policies=["default"], ttl="1s")["auth"]["client_token"])
    deadline = time.monotonic() + 20
    while brief.is_authenticated() and time.monotonic() < deadline:
        time.sleep(0.1)
    proof("tokens", "a token ends with its life", not brief.is_authenticated())


def namespaces():
    root.sys.create_namespace("judge-team")
    team = client(os.environ["VAULT_TOKEN"], namespace="judge-team")
    team.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
    team.secrets.kv.v2.create_or_update_secret("judge/one", {"user": "of the team"})
    equal("namespaces", "the same path holds another secret in another namespace",
          (team.secrets.kv.v2.read_secret_version("judge/one")["data"]["data"]["user"], kv.read_secret_version("judge/one")["data"]["data"]["user"]), ("of the team", "c"))
    team.sys.enable_auth_method("approle")
    team.sys.create_or_update_policy("reader", 'path "secret/data/*" { capabilities = ["read"] }')
    team.auth.approle.create_or_update_approle("app", token_policies=["reader"], token_ttl="60s")
    role_id, secret_id = team.auth.approle.read_role_id("app")["data"]["role_id"], team.auth.approle.generate_secret_id("app")["data"]["secret_id"]
    attempt("namespaces", "a role of one namespace does not log in to another", lambda: (refused(InvalidRequest, lambda: client().auth.approle.login(role_id, secret_id))[0], "InvalidRequest"))
    inside = client(namespace="judge-team")
    token = inside.auth.approle.login(role_id, secret_id)["auth"]["client_token"]
    equal("namespaces", "its token reads there", client(token, namespace="judge-team").secrets.kv.v2.read_secret_version("judge/one")["data"]["data"]["user"], "of the team")
    attempt("namespaces", "... and nowhere else", lambda: (refused(Forbidden, lambda: client(token).secrets.kv.v2.read_secret_version("judge/one"))[0], "Forbidden"))
    equal("namespaces", "a namespace may stand in the path instead of the header", root.adapter.get("/v1/judge-team/secret/data/judge/one")["data"]["data"], {"user": "of the team"})
    equal("namespaces", "they are listed", root.sys.list_namespaces()["data"]["keys"], ["judge-team/"])
    attempt("namespaces", "an unknown one is 404", lambda: (refused(InvalidPath, lambda: client(os.environ["VAULT_TOKEN"], namespace="nowhere").sys.list_policies())[0], "InvalidPath"))
    root.sys.delete_namespace("judge-team")


def errors():
    attempt("errors", "an unknown path has no handler", lambda: (refused(InvalidPath, lambda: root.adapter.get("/v1/nowhere/x"))[1:], ['no handler for route "nowhere/x". route entry not found.']))
    attempt("errors", "a method that a path does not have is 405", lambda: (" ".join(refused(UnexpectedError, lambda: root.adapter.delete("/v1/auth/approle/role/judge/role-id"))), "UnexpectedError unsupported operation"))
    attempt("errors", "a write without data is named", lambda: (refused(InvalidRequest, lambda: root.adapter.post("/v1/secret/data/judge/x", json={})), ["InvalidRequest", "no data provided"]))


def seal():
    status = lambda **more: root.sys.read_health_status(**more).status_code  # noqa: E731
    health = root.sys.read_health_status(method="GET")
    health = health if isinstance(health, dict) else health.json()
    equal("health", "an unsealed Vault is healthy, by HEAD and by GET", (status(), health["sealed"], health["initialized"], health["standby"]), (200, False, True, False))
    equal("health", "seal-status", [root.sys.read_seal_status()[k] for k in ("sealed", "initialized", "t", "n", "type")], [False, True, 1, 1, "shamir"])
    equal("health", "is_initialized and is_sealed", (root.sys.is_initialized(), root.sys.is_sealed()), (True, False))
    root.sys.seal()
    try:
        equal("seal", "a sealed Vault says so: 503, or the code that was asked for", (root.sys.is_sealed(), status(), status(method="GET", sealed_code=299)), (True, 503, 299))
        attempt("seal", "it serves nothing", lambda: (refused(VaultDown, lambda: kv.list_secrets("judge")), ["VaultDown", "Vault is sealed"]))
        attempt("seal", "not even logins", lambda: (refused(VaultDown, lambda: client().auth.approle.login("x", "y"))[0], "VaultDown"))
        attempt("seal", "a wrong key does not unseal", lambda: (refused(InvalidRequest, lambda: root.sys.submit_unseal_key("00" * 32))[0], "InvalidRequest"))
    finally:
        equal("seal", "its key does", root.sys.submit_unseal_key(os.environ["VAULT_UNSEAL_KEY"])["sealed"], False)
    equal("seal", "and everything is as it was", kv.read_secret_version("judge/folder/two")["data"]["data"], {"x": 1})


def main():
    role_id = approle()
    wrapping(role_id)
    versions()
    policies(role_id)
    tokens(role_id)
    namespaces()
    errors()
    seal()
    root.auth.approle.delete_role("judge")
    attempt("approle", "a deleted role logs nobody in", lambda: (refused(InvalidRequest, lambda: client().auth.approle.login(role_id, "chosen-by-somebody"))[0], "InvalidRequest"))
    end()


if __name__ == "__main__":
    main()
