#!/usr/bin/env bash
# The keytab from Linux, without a domain controller's console: REALM and ACCOUNT in the environment, and the account's
# password on standard input (it is asked for). AES keys only. The salt is Active Directory's own: realm and name as the
# account has them, in their very case.
#   ACCOUNT=svc_loader REALM=CORP.EXAMPLE.COM KVNO=2 ./keytab.sh
# With a ticket of an administrator msktutil does the same and sets a new password:
#   msktutil update --keytab svc_loader.keytab --use-service-account --account-name svc_loader --enctypes 24
set -euo pipefail
umask 077
principal="${ACCOUNT:?the account}@${REALM:?the realm}"
keytab=$(mktemp "${TMPDIR:-/dev/shm}/keytab.XXXXXX")
trap 'rm -f "$keytab"' EXIT
rm "$keytab"
read -rsp "password of $principal: " password
echo
# printf is the shell's own: the password is in no argument.
{
    for type in aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96; do
        printf 'addent -password -p %s -k %s -e %s\n%s\n' "$principal" "${KVNO:?msDS-KeyVersionNumber of the account}" "$type" "$password"
    done
    printf 'wkt %s\n' "$keytab"
} | ktutil >/dev/null
base64 -w0 "$keytab" >keytab.b64
klist -ket "$keytab"
echo "keytab.b64: vault kv patch secret/pipelines/mssql_to_snowflake keytab_base64=@keytab.b64, then delete the file"
