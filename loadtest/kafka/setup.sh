#!/bin/sh
# Gets the peer of `make bench-kafka`: Kroxylicious from Maven Central into .cache/kroxylicious, and
# compiles the filter for it. Without Maven, a JDK of 17 or Maven Central the peer is left out of the
# table, with its reason. The broker is the tests' (tests/services/setup.sh).
set -u
cd "$(dirname "$0")/../.." || exit 1

here=loadtest/kafka/kroxylicious
folder=.cache/kroxylicious
hashes=$here/jars.sha256

say() { echo "setup: $*"; }

# The list names every jar that may be there.
known() {
    (cd "$folder/lib" && LC_ALL=C && sha256sum -- *.jar) | diff "$hashes" -
}

install() {
    for tool in mvn javac; do
        command -v "$tool" >/dev/null || { say "$tool is not installed"; return 1; }
    done
    stamp=$(cat loadtest/kafka/setup.sh $here/pom.xml "$hashes" $here/src/*.java | sha256sum)
    [ "$stamp" = "$(cat "$folder/stamp" 2>/dev/null)" ] && return 0
    rm -rf "$folder" && mkdir -p "$folder/classes/META-INF/services"
    mvn --batch-mode --quiet --strict-checksums --file $here/pom.xml \
        "-Dmaven.repo.local=$PWD/$folder/maven" "-DoutputDirectory=$PWD/$folder/lib" \
        dependency:copy-dependencies -DincludeScope=runtime || return 1
    rm -rf "$folder/maven"
    known || return 1
    javac -d "$folder/classes" -cp "$folder/lib/*" $here/src/*.java || return 1
    echo meshproxy.loadtest.TraceHeaders \
        >"$folder/classes/META-INF/services/io.kroxylicious.proxy.filter.FilterFactory"
    echo "$stamp" >"$folder/stamp"
}

install || say "Kroxylicious could not be installed"
exit 0
