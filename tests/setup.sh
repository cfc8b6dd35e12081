#!/bin/sh
# Gets what the tests of redirection need beside Python, from Debian. What is not to be had is no
# failure here: the tests that need it say so and are skipped.
set -u

missing_packages() {
    for pair in nft:nftables ip:iproute2 unshare:util-linux; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%:*}" >/dev/null || printf '%s ' "${pair#*:}"
    done
}

packages=$(missing_packages)
if [ -n "$packages" ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    # Unquoted on purpose: one word a package.
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages; } >/dev/null ||
        echo "setup: could not be installed: $packages"
fi
exit 0
