# How `scripts/bench-proxy` measures; sourced by it, never run. A table is a name, a way to load a proxy, and what is counted.

# Clock ticks that a process and its children have used: user and system.
ticks() {
    local child used
    # The name, in brackets, may hold blanks: count from after it.
    used=$(sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }')
    for child in $(cat "/proc/$1"/task/*/children); do used=$((used + $(ticks "$child"))); done
    echo "$used"
}

# with_wrk PROXY SECONDS [PATH [CONNECTIONS [ARGUMENTS...]]]: how many requests were answered.
with_wrk() {
    local out path=${3:-/} connections=${4:-$CONNECTIONS} origin=http://127.0.0.1
    case $1 in *_tls) origin=https://localhost ;; esac
    out=$(taskset -c "$LOAD_CORE" wrk -t1 -c"$connections" -d"$2s" --timeout 10s "${@:5}" "$origin:${port[$1]}$path")
    if grep -qE 'Socket errors|Non-2xx' <<<"$out"; then fail "$1 answered with errors:"$'\n'"$out"; fi
    awk '/ requests in / { print $1 }' <<<"$out"
}

# with_tls PROXY SECONDS: as with_wrk, over TLS.
with_tls() { with_wrk "$1_tls" "$2" / "$CONNECTIONS"; }

# with_h2load PROXY SECONDS: ten streams on each of sixteen connections.
with_h2load() {
    local out
    out=$(taskset -c "$LOAD_CORE" h2load -t1 -c16 -m10 -D"$2" "http://127.0.0.1:${port[$1_h2]}/" 2>&1)
    # Streams that the end of the run cuts off count as neither.
    grep -q ' 0 4xx, 0 5xx' <<<"$out" || fail "$1 answered with errors:"$'\n'"$out"
    sed -n 's/^status codes: \([0-9]*\) 2xx.*/\1/p' <<<"$out"
}

# with_messages PROXY SECONDS: WebSocket messages that came back.
with_messages() {
    taskset -c "$LOAD_CORE" python3 scripts/bench/tunnel.py messages 127.0.0.1 "${port[$1]}" "$2" 16
}

# measure TABLE PROXY SECONDS WITH [ARGUMENTS...]: CPU time for each of what is counted; a line of $work/figures.
measure() {
    local before after count begun
    "$4" "$2" 1 "${@:5}" >/dev/null
    before=$(ticks "${pid[$2]}")
    begun=$(date +%s%N)
    count=$("$4" "$2" "$3" "${@:5}")
    after=$(ticks "${pid[$2]}")
    [ "${count:-0}" -gt 0 ] || fail "nothing came through $2"
    awk -v table="$1" -v name="$2" -v round="$round" -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" \
        -v count="$count" -v ns=$(($(date +%s%N) - begun)) '
        BEGIN { printf "%s %d %s %.3f %.0f\n", table, round, name, ticks / hz * 1e6 / count, count / ns * 1e9 }' |
        tee -a "$work/figures" |
        awk '{ printf "  %-8s round %d  %-9s %9.2f us  %8d/s\n", $1, $2, $3, $4, $5 }'
}

# rounds TABLE HOW_MANY SECONDS WITH [ARGUMENTS...]: measures every proxy once in each round.
rounds() {
    local table=$1 order i proxy
    for ((round = 1; round <= $2; round++)); do
        order=("${proxies[@]}")
        # Every other round runs backwards, so that a drift of the machine favours nobody.
        if ((round % 2 == 0)); then
            order=()
            for ((i = ${#proxies[@]} - 1; i >= 0; i--)); do order+=("${proxies[i]}"); done
        fi
        for proxy in "${order[@]}"; do measure "$table" "$proxy" "$3" "$4" "${@:5}"; done
    done
}

# median: of the numbers on standard input.
median() {
    sort -n | awk '{ v[NR] = $1 } END { m = int((NR + 1) / 2); print NR % 2 ? v[m] : (v[m] + v[m + 1]) / 2 }'
}

cpu_us() { printf '%.2f' "$(awk -v table="$1" -v name="$2" '$1 == table && $3 == name { print $4 }' "$work/figures" | median)"; }

rate() { printf '%.0f' "$(awk -v table="$1" -v name="$2" '$1 == table && $3 == name { print $5 }' "$work/figures" | median)"; }

# The median of the rounds' ratios: both sides of each were measured within the same minute.
ratio() {
    printf '%.3f' "$(awk -v table="$1" -v us="${proxies[0]}" -v peer="$2" '
        $1 != table { next } $3 == us { ours[$2] = $4 } $3 == peer { theirs[$2] = $4 }
        END { for (round in ours) print ours[round] / theirs[round] }' "$work/figures" | median)"
}

# table NAME TITLE: what was measured, as a table.
table() {
    local proxy
    printf '\n  %s\n  %-9s %12s %12s %8s\n' "$2" proxy 'CPU us' 'per second' ratio
    for proxy in "${proxies[@]}"; do
        printf '  %-9s %12s %12s %8s\n' "$proxy" "$(cpu_us "$1" "$proxy")" "$(rate "$1" "$proxy")" "$(ratio "$1" "$proxy")"
    done
    echo
}
