# HashiCorp's and Microsoft's Python clients against the Vault and Entra stand-ins, in one world. Sourced by run.sh.
# shellcheck shell=bash
if venv identity tests/judges/identity/requirements.txt; then
    "$worlds" --judge bash tests/judges/identity/all.sh || echo "judge: the world of the identity judges ended with $?"
    for client in hvac msal vault-setup; do
        [ -f "$judges/logs/$client.log" ] || skipped "$client" "its world did not start"
    done
else
    skipped identity "hvac and msal could not be installed"
fi
