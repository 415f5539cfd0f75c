# Shared by the scripts beside this file; sourced, never run. Leaves the caller in the repository's root.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# rustup writes cargo's folder into login profiles only; make runs without one.
if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi

script=$(basename "$0")

say() { printf '%s: %s\n' "$script" "$*"; }

fail() {
    printf '%s: %s\n' "$script" "$*" >&2
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# Our own engine needs root; only what runs gets it, never cargo.
can_be_root() { [ "$(id -u)" = 0 ] || { has sudo && sudo -n true 2>/dev/null; }; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif can_be_root; then
        sudo -n -E env "PATH=$PATH:/usr/sbin:/sbin" "$@"
    else
        fail "the embedded engine needs root, and there is no sudo here that works without a password. Run the same command as root, or with ENGINE=docker where that is offered"
    fi
}

# Builds a bench of the package e2e without running it, and prints its path; what follows the name is cargo's.
bench_binary() {
    cargo bench --quiet --locked --package e2e --bench "$@" --no-run --message-format=json-render-diagnostics |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

# A port of loopback where nobody listens; below those that the kernel gives to connections.
free_port() {
    local candidate
    while candidate=$((20000 + RANDOM % 12000)); do
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$candidate") 2>/dev/null; then echo "$candidate" && return; fi
    done
}

# Sets TIDEGATE to the gateway's binary: the one that was named, or a release build.
find_binary() {
    if [ -z "${TIDEGATE:-}" ]; then
        cargo build --quiet --locked --release --package tidegate || fail "Tidegate does not build"
        TIDEGATE=${CARGO_TARGET_DIR:-target}/release/tidegate
    fi
    [ -x "$TIDEGATE" ] || fail "no binary at $TIDEGATE"
}

# What scripts/setup builds for itself.
tools=$root/target/tools

# Where the images of tests and benches are: beside what cargo builds.
images=${CARGO_TARGET_DIR:-$root/target}/images

# The engine's socket: DOCKER_HOST if that names one, else Docker's own place.
docker_socket() {
    case "${DOCKER_HOST:-}" in
        unix://*) echo "${DOCKER_HOST#unix://}" ;;
        *) echo /var/run/docker.sock ;;
    esac
}

# Whether a Docker Engine answers within five seconds. Asks over HTTP, so that no Docker command is needed.
docker_answers() {
    case "${DOCKER_HOST:-}" in
        tcp://* | http://*) curl -fsS -m 5 "http://${DOCKER_HOST#*://}/_ping" ;;
        ssh://*) timeout 20 docker version ;;
        *) curl -fsS -m 5 --unix-socket "$(docker_socket)" http://docker/_ping ;;
    esac >/dev/null 2>&1
}

# cargo-deny as scripts/setup put it, or the one that is installed; empty if there is none that fits deny.toml.
cargo_deny() {
    local candidate
    for candidate in "$tools/bin/cargo-deny" cargo-deny; do
        case "$("$candidate" --version 2>/dev/null)" in
            "cargo-deny 0.20."*) echo "$candidate" && return ;;
        esac
    done
}
