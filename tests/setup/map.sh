#!/usr/bin/env bash
# Prints the map of the source files for ARCHITECTURE.md: each file with the first sentence of its own documentation.
# `map.sh --check` fails when ARCHITECTURE.md holds another map; `map.sh --write` puts the new one in.
set -euo pipefail
cd "$(dirname "$0")/../.."
map() {
    git ls-files --cached --others --exclude-standard '*.rs' | LC_ALL=C sort | grep -vE '(^|/)(tests|testing|mini|script)\.rs$' | while read -r file; do
        line=$(awk '/^\/\/!/ { sub(/^\/\/! ?/, ""); if ($0 == "") exit; text = text " " $0; if (text ~ /[.:;]$/) exit; next } { exit } END { print substr(text, 2) }' "$file")
        line=$(sed -E 's/([.:;]) [A-Z].*$/\1/; s/[.:;]$//; s/\[`?([^]`]*)`?\]/\1/g' <<<"$line")
        printf -- '- `%s`: %s\n' "$file" "$line"
    done
}
marker='<!-- map -->'
case "${1:-}" in
--write)
    { sed "/$marker/q" ARCHITECTURE.md; echo; map; } >ARCHITECTURE.md.new && mv ARCHITECTURE.md.new ARCHITECTURE.md ;;
--check)
    diff <(sed "1,/$marker/d" ARCHITECTURE.md | sed '/^$/d') <(map) || { echo "ARCHITECTURE.md's map is stale: tests/setup/map.sh --write" >&2; exit 1; } ;;
*) map ;;
esac
