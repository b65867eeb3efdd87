#!/usr/bin/env bash
# Runs Judge.java with the jars of JUDGE_JARS; Kerberos is Java's own, with the world's krb5.conf and ticket.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
JUDGE_STATEMENTS=$here/../statements.txt JUDGE_ANOTHER_CA=$here/../another-authority.pem exec java \
    -Djava.security.krb5.conf="$KRB5_CONFIG" -Djava.net.preferIPv4Stack=true -Dfile.encoding=UTF-8 -Dstdout.encoding=UTF-8 \
    -Xshare:auto -XX:TieredStopAtLevel=1 -cp "$JUDGE_JARS/*" "$here/Judge.java"
