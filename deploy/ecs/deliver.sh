#!/usr/bin/env bash
# A new secret_id of the broker's AppRole into Secrets Manager, in place of the one before it, which ends by itself. VAULT_ADDR,
# VAULT_CACERT and a VAULT_TOKEN of the policy keyferry-deliver are in the environment, and AWS credentials that may put this
# one value (secretsmanager:PutSecretValue). DELIVER_CIDRS: the subnets of the tasks, as Vault sees
# them; nobody else can use it.
set -euo pipefail

# The policy gives it wrapped only: it is unwrapped here, and whoever might have taken it first would make this fail.
token=$(vault write -wrap-ttl=60s -field=wrapping_token auth/approle/role/keyferry-broker/secret-id \
    ttl=26h cidr_list="${DELIVER_CIDRS:?the subnets of the tasks}" token_bound_cidrs="$DELIVER_CIDRS")
secret_id=$(VAULT_TOKEN=$token vault unwrap -field=secret_id)
# By standard input: an argument can be read by others on this machine.
printf %s "$secret_id" |
    aws secretsmanager put-secret-value --secret-id "${DELIVER_TO:-keyferry/secret-id}" --secret-string file:///dev/stdin >/dev/null
echo "delivered to ${DELIVER_TO:-keyferry/secret-id}, for 26 hours and from $DELIVER_CIDRS only"
