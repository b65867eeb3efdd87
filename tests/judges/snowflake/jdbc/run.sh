#!/usr/bin/env bash
# Starts the JDBC judge with the world's certificate authority. Argument: the folder of the driver's jars.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
store=$(mktemp -u)
trap 'rm -f "$store"' EXIT
keytool -importcert -noprompt -alias world -file "$SNOWFLAKE_CA" -keystore "$store" -storetype PKCS12 -storepass changeit 2>/dev/null
java --add-opens=java.base/java.nio=ALL-UNNAMED -Duser.timezone=UTC \
    -Djavax.net.ssl.trustStore="$store" -Djavax.net.ssl.trustStorePassword=changeit \
    -Djava.util.logging.config.file=/dev/null \
    -cp "$1/*" "$here/Judge.java"
