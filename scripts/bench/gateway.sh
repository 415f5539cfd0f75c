# A gateway with our own engine and the sample service, for benches that send load to it. Sourced. Sets `work` (a folder that
# goes with the script), `url`, `port` and `archive` (the sample service's image).

# prepare: what a file for the gateway can name.
prepare() {
    can_be_root || fail "containers need root: run this as root, or with a sudo that asks no password"
    find_binary
    work=$(mktemp -d "${TMPDIR:-/tmp}/tidegate-bench.XXXXXX")
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkdir -p "$images"
    archive=$(realpath "$images")/echo.tar
    scripts/image --archive "$archive" tidegate-echo:bench >/dev/null
    port=$(free_port)
    url=http://127.0.0.1:$port
}

# start_gateway TEXT: runs it with this file, until the script ends.
start_gateway() {
    printf '%s\n' "$1" >"$work/tidegate.toml"
    local command=("$TIDEGATE" up -c "$work/tidegate.toml" --state "$work/state")
    # Not through as_root where that is not needed: a shell of its own would be ended instead of the gateway.
    if [ "$(id -u)" != 0 ]; then command=(sudo -n -E env "PATH=$PATH:/usr/sbin:/sbin" "${command[@]}"); fi
    "${command[@]}" >"$work/up.log" 2>&1 &
    gateway=$!
    local try
    for try in $(seq 300); do
        if curl -s -o /dev/null "$url/"; then return; fi
        kill -0 "$gateway" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 20 "$work/up.log" >&2
    fail "the gateway did not start (its log is above)"
}

# sent_badly CODE: what `tidegate load` ended with.
sent_badly() {
    [ "$1" = 3 ] || fail "the load could not be sent (see above)"
    say "INVALID: something else kept the load's processor busy; run it again when the machine is quiet"
}

clean_up() {
    if [ -n "${gateway:-}" ]; then
        as_root kill -TERM "$gateway" 2>/dev/null || true
        wait "$gateway" 2>/dev/null || true
    fi
    as_root rm -rf "$work"
}
