#!/bin/sh
# Gets what `python -m loadtest.linking.live` can use beside Python: gunicorn, into a venv of its own.
# Without it, or without node, that service is left out, with its reason.
set -u
cd "$(dirname "$0")/../../.." || exit 1

venv=.cache/linking-live-venv
lock=loadtest/linking/live/requirements.lock

install_gunicorn() {
    [ -d "$venv" ] || python3 -m venv "$venv" || return 1
    cmp -s "$lock" "$venv/installed.lock" && return 0
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$lock" &&
        cp "$lock" "$venv/installed.lock"
}

mkdir -p .cache
install_gunicorn || echo "setup: gunicorn could not be installed"
exit 0
