#!/usr/bin/env bash
# Sets Vault up for one broker: VAULT_ADDR, VAULT_CACERT and an administrator's VAULT_TOKEN are in the environment.
# Run it again whenever a file changes; it changes nothing else. The secret's values are given by files, never here.
set -euo pipefail
cd "$(dirname "$0")"

# Once for each Vault: KV version 2 at secret/, AppRole at approle/. (The list is read whole: a reader that leaves early
# would make the command fail.)
if [[ $(vault secrets list -format=json) != *'"secret/"'* ]]; then
    vault secrets enable -path=secret -version=2 kv
fi
if [[ $(vault auth list -format=json) != *'"approle/"'* ]]; then
    vault auth enable approle
fi

vault policy write keyferry-broker loader-policy.hcl
vault policy write keyferry-deliver deliver-policy.hcl

# A token for an hour, renewed by the broker, at most a day: then it logs in again. A secret_id lives 90 days; deliver a
# new one before that. Where the address of the pod or host is known, bind both to it: secret_id_bound_cidrs,
# token_bound_cidrs.
vault write auth/approle/role/keyferry-broker \
    token_policies=keyferry-broker \
    token_ttl=1h \
    token_max_ttl=24h \
    secret_id_ttl=2160h \
    secret_id_num_uses=0

# What the broker needs, in one secret. A new version is taken up by the running broker. client-secret, keytab.b64 and
# audit.key are files of yours; delete them afterwards. Vault stores a file as it is: an editor's newline at its end would
# be part of the value, and so it is left out. (printf is the shell's own: no value is in an argument.)
if [ "${1:-}" = --secret ]; then
    vault kv put -mount=secret pipelines/mssql_to_snowflake \
        mssql_spn="svc_loader@${REALM:?the Kerberos realm}" \
        keytab_base64=@<(printf %s "$(<keytab.b64)") \
        mssql_server_fqdn="${SQL_HOST:?the name of the SQL Server}" \
        sf_user="${SNOWFLAKE_USER:?the login name of the Snowflake user}" \
        tenant_id="${TENANT_ID:?the tenant of Entra}" \
        client_id="${CLIENT_ID:?the id of the application}" \
        client_secret=@<(printf %s "$(<client-secret)") \
        audit_signing_key=@audit.key
fi

# role_id is a name; the secret_id goes to the broker wrapped (wrapped: true in broker.yaml): whoever unwraps it first is
# the only one.
echo "role_id: $(vault read -field=role_id auth/approle/role/keyferry-broker/role-id)"
echo "deliver: vault write -wrap-ttl=5m -field=wrapping_token -f auth/approle/role/keyferry-broker/secret-id"
