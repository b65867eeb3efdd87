#!/bin/sh
# The bill of materials of one crate: what the lock file links into its program, as CycloneDX 1.5.
# Arguments: the crate, the program.
set -eu
crate=$1 program=$2
cargo tree --locked --package "$crate" --edges normal --prefix none --no-dedupe --format '{p}|{l}' |
    sed -E 's/ \(proc-macro\)//; s/ \([^)]*\)//' | sort -u |
    awk -F '|' -v crate="$crate" -v program="$program" '
        BEGIN { OFS = "" }
        {
            split($1, part, " "); name = part[1]; version = substr(part[2], 2)
            license = $2 == "" ? "" : ",\"licenses\":[{\"expression\":\"" gensub_slash($2) "\"}]"
            entry = "{\"type\":\"" (name == crate ? "application" : "library") "\",\"bom-ref\":\"" name "@" version \
                "\",\"name\":\"" name "\",\"version\":\"" version "\",\"purl\":\"pkg:cargo/" name "@" version "\"" license "}"
            if (name == crate) own = entry; else list = list (list == "" ? "" : ",\n    ") entry
        }
        # Old manifests write MIT/Apache-2.0 for a choice.
        function gensub_slash(text) { gsub(/ *\/ */, " OR ", text); return text }
        END {
            print "{\n  \"bomFormat\": \"CycloneDX\",\n  \"specVersion\": \"1.5\",\n  \"version\": 1,\n  \"metadata\": { \"component\": ", own,
                ",\n    \"properties\": [{ \"name\": \"keyferry:program\", \"value\": \"", program, "\" }] },\n  \"components\": [\n    ", list, "\n  ]\n}"
        }'
