# Sourced by inside.sh: the folder that deploy/README.md's lines are run in, with the samples of deploy/systemd; what differs
# from them is where the stand-ins listen, and their certificate authority.
# shellcheck shell=bash disable=SC2154

# A loopback port that nobody listens on.
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# Both configuration files for these stand-ins; targets get a prefix, so that no table of theirs is there before.
configurations() { # folder for broker.yaml and pipeline.yaml, samples' folder, prefix of the targets
    local to=$1 from=$2 prefix=$3 ca=/etc/keyferry/ca.pem
    sed -e "s#address: https://.*#address: $VAULT_ADDR\n  ca_file: $ca#" -e "s#MSSQLSvc/[^\"]*#$SQLSERVER_SPN#" \
        -e "s#account: myorg-myaccount#account: $SNOWFLAKE_ACCOUNT\n      url: $SNOWFLAKE_URL\n      ca_file: $ca#" \
        -e "s#scope: \"[^\"]*\"#scope: \"$ENTRA_SCOPE\", authority: \"$ENTRA_AUTHORITY\", ca_file: $ca#" \
        -e "s#127.0.0.1:8080#127.0.0.1:$(free_port)#" "$from/broker.yaml" >"$to/broker.yaml"
    sed -e '/^tables:/,$d' -e "s#encrypt: required#&, port: $SQLSERVER_PORT, ca_file: $ca#" \
        -e "s#schema: SALES#&, ca_file: $ca, stage_endpoint_allow: [\"$SNOWFLAKE_OBJECTS\"]#" "$from/pipeline.yaml" >"$to/pipeline.yaml"
    { echo "sandbox: { connect_ports: [${SNOWFLAKE_URL##*:}] }"; sed -n '/^tables:/,$p' "$WORLD/loader/pipeline.yaml" |
        sed "s#target: #target: $prefix#"; } >>"$to/pipeline.yaml"
    if grep -n 'example\.com\|1433\|myorg' "$to"/*.yaml || ! grep -q "$ENTRA_AUTHORITY" "$to/broker.yaml"; then
        echo "a place of the samples is left in a configuration" >&2
        return 1
    fi
}

# The audit log's key as docs/operate.md makes it: its private half in Vault, the public one in the folder.
signing_key() { # folder
    openssl genpkey -algorithm ed25519 -out "$1/audit.key" 2>/dev/null
    openssl pkey -in "$1/audit.key" -pubout -out "$1/audit.pub"
    python3 tests/setup/host/look.py put audit_signing_key "$1/audit.key"
    rm "$1/audit.key"
}

# The lines of the section `systemd` of deploy/README.md, and what they expect beside them.
seed() { # folder
    rm -rf "$1"
    mkdir -p "$1"
    cp -r deploy target/debug/broker target/debug/loader "$1/"
    cp "$WORLD/broker/role-id" "$1/"
    cp "$WORLD/krb5.conf" "$1/deploy/krb5/krb5.conf"
    configurations "$1" deploy/systemd NIGHTLY_
    signing_key "$1"
    sed -n '/^## systemd/,/^## ECS/p' deploy/README.md | sed -n '/^```$/,/^```$/{/^```/!p}' >"$1/install.sh"
    grep -q 'systemctl enable --now' "$1/install.sh" || { echo "deploy/README.md does not say how to install the units" >&2; return 1; }
}
