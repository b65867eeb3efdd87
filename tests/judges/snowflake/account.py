"""The account that the environment names, and logins to it by the Python connector."""

import os
import urllib.parse

import snowflake.connector

URL = urllib.parse.urlparse(os.environ["SNOWFLAKE_URL"])
NATIVE = not snowflake.connector.__version__.startswith("4.")
# 4.x reads the first, 5.x the second.
os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = os.path.realpath(os.environ["SNOWFLAKE_CA"])


def variable(name):
    return os.environ[f"SNOWFLAKE_{name}"]


def place():
    """Where every login goes."""
    common = {
        "protocol": URL.scheme, "host": URL.hostname, "port": URL.port, "account": variable("ACCOUNT"),
        "role": variable("ROLE"), "warehouse": variable("WAREHOUSE"), "database": variable("DATABASE"),
        "schema": variable("SCHEMA"), "login_timeout": 20, "network_timeout": 60,
    }
    if not NATIVE:
        common.update(disable_ocsp_checks=True, socket_timeout=60, platform_detection_timeout_seconds=0)
    return common


def by_token(**more):
    """OAUTH, with the token that the broker gave."""
    options = {"user": variable("USER"), "authenticator": "oauth", "token": variable("TOKEN")}
    return snowflake.connector.connect(**{**place(), **options, **more})


def by_key(**more):
    """SNOWFLAKE_JWT, with the key pair's private half."""
    options = {
        "user": variable("KEY_USER"), "authenticator": "SNOWFLAKE_JWT",
        "private_key_file": variable("PRIVATE_KEY_FILE"),
    }
    return snowflake.connector.connect(**{**place(), **options, **more})


def rows(cursor, sql, *more, **options):
    return cursor.execute(sql, *more, **options).fetchall()


def one(cursor, sql, *more, **options):
    found = cursor.execute(sql, *more, **options).fetchone()
    return found[0] if len(found) == 1 else found
