#!/usr/bin/env bash
# Runs inside a world: both clients, one log for each.
set -uo pipefail
# shellcheck source=tests/judges/lib.sh
. tests/judges/lib.sh
bad=0
judge msal Entra "$judges/venvs/identity/bin/python" tests/judges/identity/msal_judge.py || bad=1
judge hvac Vault "$judges/venvs/identity/bin/python" tests/judges/identity/hvac_judge.py || bad=1
judge vault-setup "Vault, deploy/vault" "$judges/venvs/identity/bin/python" tests/judges/identity/setup_judge.py || bad=1
for client in msal hvac vault-setup; do
    [ "$(tail -n 1 "$judges/logs/$client.log")" = "exit  0" ] || bad=1
done
exit "$bad"
