#!/bin/sh
# The bill of materials of one image, as CycloneDX 1.5: the crates that the lock file links into its program, and the Debian
# packages of which it holds libraries. Arguments: the crate, the program, the list of packages that rootfs.sh made.
set -eu
crate=$1 program=$2 packages=$3
debian=$(. /etc/os-release && echo "$ID-$VERSION_ID")
{
    # NAME VERSION ARCHITECTURE, marked with what no crate is called.
    sed 's/^/deb: /' "$packages"
    cargo tree --locked --package "$crate" --edges normal --prefix none --no-dedupe --format '{p}|{l}' |
        sed -E 's/ \(proc-macro\)//; s/ \([^)]*\)//' | sort -u
} |
    awk -F '|' -v crate="$crate" -v program="$program" -v debian="$debian" '
        BEGIN { OFS = "" }
        function add(entry) { list = list (list == "" ? "" : ",\n    ") entry }
        /^deb: / {
            split($0, part, " "); name = part[2]; version = part[3]
            # A version in a package URL is percent-encoded.
            encoded = version; gsub(/\+/, "%2B", encoded); gsub(/:/, "%3A", encoded); gsub(/~/, "%7E", encoded)
            purl = "pkg:deb/debian/" name "@" encoded "?arch=" part[4] "&distro=" debian
            add("{\"type\":\"library\",\"bom-ref\":\"" purl "\",\"name\":\"" name "\",\"version\":\"" version "\",\"purl\":\"" purl "\"}")
            next
        }
        {
            split($1, part, " "); name = part[1]; version = substr(part[2], 2)
            license = $2 == "" ? "" : ",\"licenses\":[{\"expression\":\"" gensub_slash($2) "\"}]"
            entry = "{\"type\":\"" (name == crate ? "application" : "library") "\",\"bom-ref\":\"" name "@" version \
                "\",\"name\":\"" name "\",\"version\":\"" version "\",\"purl\":\"pkg:cargo/" name "@" version "\"" license "}"
            if (name == crate) own = entry; else add(entry)
        }
        # Old manifests write MIT/Apache-2.0 for a choice.
        function gensub_slash(text) { gsub(/ *\/ */, " OR ", text); return text }
        END {
            print "{\n  \"bomFormat\": \"CycloneDX\",\n  \"specVersion\": \"1.5\",\n  \"version\": 1,\n  \"metadata\": { \"component\": ", own,
                ",\n    \"properties\": [{ \"name\": \"keyferry:program\", \"value\": \"", program, "\" }] },\n  \"components\": [\n    ", list, "\n  ]\n}"
        }'
