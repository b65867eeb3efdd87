# Sourced by run.sh: how a judge is installed, run and counted.
# shellcheck shell=bash

judges=target/judges
worlds=target/debug/local-dev

# Debian packages that only judges need.
packages() { # package...
    local missing=() package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)" = "install ok installed" ] || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    echo "judges: installing ${missing[*]}"
    "${sudo[@]}" apt-get update -qq &&
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# A Python environment with pinned requirements, made anew when they change. Its interpreter: $judges/venvs/NAME/bin/python
venv() { # name, requirements file
    local folder=$judges/venvs/$1
    if ! cmp -s "$2" "$folder/requirements.txt"; then
        echo "judges: installing $2"
        rm -rf "$folder"
        mkdir -p "$judges/venvs"
        python3 -m venv "$folder" &&
            "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$2" &&
            cp "$2" "$folder/requirements.txt"
    fi
}

# The packages of a folder with package.json and package-lock.json, in $judges/npm/NAME/node_modules
npm_install() { # name, folder
    local folder=$judges/npm/$1
    if ! cmp -s "$2/package-lock.json" "$folder/installed.json"; then
        echo "judges: installing the packages of $2"
        rm -rf "$folder"
        mkdir -p "$folder"
        cp "$2/package.json" "$2/package-lock.json" "$folder" &&
            npm ci --silent --no-audit --no-fund --prefix "$folder" &&
            cp "$2/package-lock.json" "$folder/installed.json"
    fi
}

# The jars of a pom.xml, in $judges/jars/NAME
maven_jars() { # name, folder with pom.xml
    local folder=$judges/jars/$1
    if ! cmp -s "$2/pom.xml" "$folder/pom.xml"; then
        echo "judges: fetching the jars of $2"
        rm -rf "$folder"
        mkdir -p "$folder"
        mvn --quiet --batch-mode -f "$2/pom.xml" dependency:copy-dependencies -DoutputDirectory="$PWD/$folder" &&
            cp "$2/pom.xml" "$folder/pom.xml"
    fi
}

# Runs one judge; its lines go to a log, which table.py reads.
judge() { # client, what it judges, command...
    local client=$1 judged=$2 log=$judges/logs/$1.log status=0
    shift 2
    echo "judge: $client ($judged)"
    printf 'client  %s\njudged  %s\n' "$client" "$judged" >"$log"
    timeout 900 "$@" >>"$log" 2>&1 || status=$?
    printf 'exit  %s\n' "$status" >>"$log"
    [ "$status" -eq 0 ] || tail -n 25 "$log"
}

# A client that could not be installed: counted as a failure.
skipped() { # client, why
    echo "judge: $1 SKIPPED: $2"
    printf 'client  %s\njudged  -\nskipped  %s\n' "$1" "$2" >"$judges/logs/$1.log"
}
