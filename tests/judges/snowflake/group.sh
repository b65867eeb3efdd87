# Snowflake's clients against the Snowflake stand-in, all in one world that the loader has loaded. Sourced by run.sh.
# shellcheck shell=bash
snowflake=tests/judges/snowflake
ready=()
install() { # client, command...
    local client=$1
    shift
    if "$@"; then ready+=("$client"); else skipped "$client" "could not be installed"; fi
}
snowflake_api() {
    CARGO_TARGET_DIR=$judges/snowflake-api cargo build --quiet --locked --manifest-path "$snowflake/snowflake-api/Cargo.toml"
}
install snowflake-connector-python-4 venv connector4 "$snowflake/requirements-connector4.txt"
install snowflake-connector-python-5 venv connector5 "$snowflake/requirements-connector5.txt"
install adbc-driver-snowflake venv adbc-snowflake "$snowflake/requirements-adbc.txt"
install snowflake-sdk npm_install snowflake-sdk "$snowflake/node"
install snowflake-jdbc maven_jars snowflake-jdbc "$snowflake/jdbc"
install snowflake-api snowflake_api
[[ " ${ready[*]} " != *" snowflake-connector-python-4 "* ]] || ready=(loaded-files-and-duckdb "${ready[@]}")

"$worlds" --loaded --judge bash "$snowflake/clients.sh" "${ready[@]}"
for client in "${ready[@]}"; do
    [ -f "$judges/logs/$client.log" ] || skipped "$client" "its world did not start"
done
