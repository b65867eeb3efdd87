"""Logins, their refusals, and what a session is told and may change."""

import subprocess

import account
from account import by_key, by_token, one, variable
from proof import attempt, refusal
from snowflake.connector.errors import DatabaseError, Error


def refused(connect, **options):
    def action():
        connect(**options).close()

    return refusal(action, DatabaseError, Error)[0]


def judge(bench):
    token = variable("TOKEN")
    broken = token[:-8] + ("AAAAAAAA" if token[-8:] != "AAAAAAAA" else "BBBBBBBB")
    attempt("login", "a token with a broken signature is refused with 390303", lambda: (
        refused(by_token, token=broken), 390303))
    attempt("login", "a token of another user is refused with 390309", lambda: (
        refused(by_token, user="AUDITOR"), 390309))
    attempt("login", "a role that the user lacks is refused with 390189", lambda: (
        refused(by_token, role="NO_SUCH_ROLE"), 390189))

    def key_pair():
        connection = by_key()
        try:
            return one(connection.cursor(), "SELECT CURRENT_USER()"), variable("KEY_USER").upper()
        finally:
            connection.close()

    attempt("login", "a key pair", key_pair)

    def foreign_key():
        path = bench.folder / "foreign.p8"
        subprocess.run(
            ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(path)],
            check=True, capture_output=True,
        )
        return refused(by_key, private_key_file=str(path)), 390144

    attempt("login", "a key that is not the user's is refused with 390144", foreign_key)
    session(bench)
    if not account.NATIVE:
        expiry()


def session(bench):
    cursor = bench.cursor
    attempt("session", "user, role, warehouse, database and schema are those of the login", lambda: (
        one(cursor, "SELECT CURRENT_USER(), CURRENT_ROLE(), CURRENT_WAREHOUSE(), CURRENT_DATABASE(), CURRENT_SCHEMA()"),
        tuple(variable(name) for name in ("USER", "ROLE", "WAREHOUSE", "DATABASE", "SCHEMA"))))

    def parameters():
        connection = by_token(session_parameters={"QUERY_TAG": "judged", "LOCK_TIMEOUT": 7})
        try:
            found = connection.cursor().execute("SHOW PARAMETERS LIKE 'QUERY_TAG'").fetchone()
            before = found[:2]
            connection.cursor().execute("ALTER SESSION SET QUERY_TAG = 'changed'")
            after = connection.cursor().execute("SHOW PARAMETERS LIKE 'QUERY_TAG'").fetchone()[1]
            connection.cursor().execute("ALTER SESSION UNSET QUERY_TAG")
            unset = connection.cursor().execute("SHOW PARAMETERS LIKE 'QUERY_TAG'").fetchone()[1]
            timeout = connection.cursor().execute("SHOW PARAMETERS LIKE 'LOCK_TIMEOUT'").fetchone()[1]
            return (before, after, unset, timeout), (("QUERY_TAG", "judged"), "changed", "", "7")
        finally:
            connection.close()

    attempt("session", "parameters of the login and of ALTER SESSION are shown by SHOW PARAMETERS", parameters)

    def use():
        connection = by_token(schema=None)
        try:
            connection.cursor().execute(f"USE SCHEMA {variable('DATABASE')}.INFORMATION_SCHEMA")
            away = connection.schema
            connection.cursor().execute(f"USE SCHEMA {variable('DATABASE')}.{variable('SCHEMA')}")
            return (away, connection.schema), ("INFORMATION_SCHEMA", variable("SCHEMA"))
        finally:
            connection.close()

    attempt("session", "USE SCHEMA changes what the connection says of itself", use)


def expiry():
    """The connector renews a session whose token is too old, and repeats the statement."""

    def renewed():
        connection = by_token()
        try:
            rest = connection.rest
            old = rest.token
            rest._renew_session()
            fresh = rest.token
            rest.update_tokens(old, rest.master_token)
            answer = one(connection.cursor(), "SELECT 40 + 2")
            return (old != fresh, rest.token not in (old, fresh), answer), (True, True, 42)
        finally:
            connection.close()

    attempt("expiry", "390112 makes the connector renew its session and go on", renewed)

    def closed():
        connection = by_token()
        rest = connection.rest
        token, master = rest.token, rest.master_token
        other = by_token()
        connection.close()
        try:
            other.rest.update_tokens(token, master)
            return refusal(lambda: other.cursor().execute("SELECT 1"), Error)[0], 390111
        finally:
            other.rest.update_tokens(None, None)

    attempt("expiry", "a session that was closed is refused with 390111", closed)
