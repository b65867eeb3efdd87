#!/usr/bin/env python3
"""Orders by status, read with a token that the broker gave this user.

    brokerctl exec reporting -- python report.py
    SNOWFLAKE_TOKEN_FILE=/run/reports/token python report.py      beside `brokerctl watch reporting --file /run/reports/token`

All settings come from the environment, as `brokerctl exec` makes it. REQUESTS_CA_BUNDLE names another authority than the
usual ones.
"""

import os

import snowflake.connector


def connect():
    """A connection as the user that the token is for."""
    token_file = os.environ.get("SNOWFLAKE_TOKEN_FILE")
    if token_file:
        # The connector reads the file at each login, so it always logs in with the newest token.
        token = {"token_file_path": token_file}
    else:
        token = {"token": os.environ["SNOWFLAKE_TOKEN"]}
    return snowflake.connector.connect(
        authenticator="oauth",
        account=os.environ["SNOWFLAKE_ACCOUNT"],
        user=os.environ["SNOWFLAKE_USER"],
        host=os.environ["SNOWFLAKE_HOST"],
        port=int(os.environ.get("SNOWFLAKE_PORT", "443")),
        role=os.environ.get("SNOWFLAKE_ROLE"),
        warehouse=os.environ.get("SNOWFLAKE_WAREHOUSE"),
        database="RAW_ZONE",
        schema="SALES",
        login_timeout=30,
        network_timeout=60,
        **token,
    )


def main():
    with connect() as connection, connection.cursor() as cursor:
        user, role = cursor.execute("SELECT CURRENT_USER(), CURRENT_ROLE()").fetchone()
        print(f"connected as {user} with role {role}")
        cursor.execute(
            "SELECT O_ORDERSTATUS, COUNT(*), SUM(O_TOTALPRICE) FROM ORDERS WHERE O_TOTALPRICE > %s GROUP BY O_ORDERSTATUS "
            "ORDER BY O_ORDERSTATUS",
            (0,),
        )
        for status, orders, total in cursor:
            print(f"{status} {orders} {total}")


if __name__ == "__main__":
    main()
