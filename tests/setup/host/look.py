"""Looks at what broker and loader left: rows at the Snowflake stand-in, secrets in files where none may be."""

import base64
import json
import os
import ssl
import sys
import urllib.parse
import urllib.request
import uuid

E = os.environ


def post(url, body, headers=None):
    context = ssl.create_default_context(cafile=E["SNOWFLAKE_CA"])
    headers = {"Content-Type": "application/json", "Accept": "application/json", **(headers or {})}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), context=context, timeout=60) as answer:
        return json.load(answer)


class Snowflake:
    """The protocol of Snowflake's drivers, as far as one SELECT needs it."""

    def __init__(self):
        place = urllib.parse.urlencode({"requestId": uuid.uuid4(), "warehouse": E["SNOWFLAKE_WAREHOUSE"], "roleName": E["SNOWFLAKE_ROLE"],
                                        "databaseName": E["SNOWFLAKE_DATABASE"], "schemaName": E["SNOWFLAKE_SCHEMA"]})
        login = {"ACCOUNT_NAME": E["SNOWFLAKE_ACCOUNT"], "LOGIN_NAME": E["SNOWFLAKE_USER"], "AUTHENTICATOR": "OAUTH", "TOKEN": E["SNOWFLAKE_TOKEN"],
                 "CLIENT_APP_ID": "host-test", "CLIENT_APP_VERSION": "1"}
        self.token = self.ask(f"/session/v1/login-request?{place}", {"data": login})["token"]

    def ask(self, path, body):
        headers = {"Authorization": f'Snowflake Token="{self.token}"'} if hasattr(self, "token") else {}
        answer = post(E["SNOWFLAKE_URL"] + path, body, headers)
        if not answer["success"]:
            sys.exit(f"Snowflake: {answer['code']}: {answer['message']}")
        return answer["data"]

    def number(self, sql):
        return int(self.ask(f"/queries/v1/query-request?requestId={uuid.uuid4()}", {"sqlText": sql})["rowset"][0][0])


def rows(prefix, pipeline):
    """Each target holds the rows that the same table's other copy holds, which the stand-ins' own loader made before."""
    server, total = Snowflake(), 0
    names = [line.split("target: ")[1].split(",")[0] for line in open(pipeline) if line.startswith("  - ")]
    for name in names:
        other = name.removeprefix(prefix)
        found, wanted = (server.number(f"SELECT COUNT(*) FROM {table}") for table in (name, other))
        strange = server.number(f"SELECT COUNT(*) FROM (SELECT * FROM {name} EXCEPT SELECT * FROM {other})")
        if not names or found != wanted or found == 0 or strange or name == other:
            sys.exit(f"{name}: {found} rows, {wanted} wanted, {strange} unlike {other}'s")
        total += found
    print(f"{total} rows in {len(names)} tables, each row as in the copy that was there before")


def forms(secret):
    yield from (secret, secret.hex().encode(), secret.hex().upper().encode(), secret.decode("latin-1").encode("utf-16-le"),
                urllib.parse.quote(secret, safe="").encode())
    for before in range(3):
        whole = base64.b64encode(bytes(before) + secret)
        # Only the characters that no neighbour has a part in.
        yield whole[-(-before * 8 // 6):len(whole) // 4 * 4 - 4]


def secret(body=None):
    """The one secret of the pipelines in Vault; a new version of it with `body`."""
    return post(f"{E['VAULT_ADDR']}/v1/secret/data/pipelines/mssql_to_snowflake", body, {"X-Vault-Token": E["VAULT_TOKEN"]})["data"]


def put(field, file):
    secret({"data": {**secret()["data"], field: open(file).read()}})


def secrets(files):
    vault = secret()["data"]
    keytab = base64.b64decode(vault["keytab_base64"])
    secret_id = open(f"{E['WORLD']}/broker/secret-id", "rb").read().strip()
    # The last 32 bytes of the keytab are within a key's entry; the whole has its name in it.
    wanted = {"secret_id": secret_id, "client secret": vault["client_secret"].encode(), "keytab": keytab[-64:-8], "Vault's root token": E["VAULT_TOKEN"].encode()}
    wanted["signing key"] = base64.b64decode(vault["audit_signing_key"].splitlines()[1])[-32:]
    text = b"".join(open(file, "rb").read() for file in files)
    hits = [f"{name} as {number}" for name, secret in wanted.items() for number, form in enumerate(forms(secret)) if form in text]
    decoy = E["DECOY"].encode()
    seen = sum(form in text for form in forms(decoy))
    if hits or seen == 0:
        sys.exit(f"found: {hits}; the decoy: {seen}")
    print(f"0 found of {len(wanted)} secrets in {len(text) / 1024:.0f} KiB; of a decoy in the journal, {seen} form(s)")


if __name__ == "__main__":
    {"put": lambda: put(*sys.argv[2:]), "rows": lambda: rows(*sys.argv[2:]), "secrets": lambda: secrets(sys.argv[2:])}[sys.argv[1]]()
