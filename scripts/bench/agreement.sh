# Whether the latencies of `tidegate load` are those of other tools; sourced by `scripts/bench-load`, never run. The sample
# service takes SERVICE_MS for each answer, and in a second part stands still for STALL_S in the middle.
#
# Every tool knows what a steady server takes. Of one that stands still, hey, which waits for answers, notices the few
# requests that were under way; wrk does so, too, and corrects its figures afterwards by what it should have sent; oha at a
# fixed rate, with --latency-correction, counts from the planned instant, as wrk2 does and as we do.

SERVICE_MS=10
AGREE_RATE=500
AGREE_SECONDS=4
AGREE_CONNECTIONS=8
STALL_S=1

# Gross disagreement: the medians on a steady server, and the 90th percentiles around a stall, more than this apart.
MOST_APART=0.25

agreement() {
    echo_port=$(free_port)
    PORT=$echo_port SERVICE_MS=$SERVICE_MS taskset -c "$SERVER_CORE" "$echo_binary" 2>"$work/echo.log" &
    echo_server=$!
    answers "http://127.0.0.1:$echo_port/" || fail "the sample service does not answer: $(cat "$work/echo.log")"
    say "latencies: a service of ${SERVICE_MS} ms, $AGREE_RATE requests per second, steady and with a stall of ${STALL_S}s in ${AGREE_SECONDS}s"
    local part sender
    printf '\n  %-7s %-7s %10s %10s %10s\n' '' sender 'p50 ms' 'p90 ms' 'p99 ms'
    for part in steady stall; do
        for sender in "${senders[@]}"; do latencies $part "$sender"; done
    done
    echo
    check_agreement
}

# latencies PART SENDER: notes and prints the 50th, 90th and 99th percentile in ms.
latencies() {
    local stalling= found
    if [ "$1" = stall ]; then
        (sleep 1.5 && kill -STOP "$echo_server" && sleep $STALL_S && kill -CONT "$echo_server") &
        stalling=$!
    fi
    send_paced "$2" "http://127.0.0.1:$echo_port/" >"$work/out" 2>"$work/said" || fail "$2 failed: $(tail -n 5 "$work/out" "$work/said")"
    if [ -n "$stalling" ]; then wait $stalling; fi
    found=$(percentiles "$2" <"$work/out")
    [ "$(wc -w <<<"$found")" = 3 ] || fail "$2 said nothing of latencies: $(head -n 30 "$work/out")"
    echo "$1 $2 $found" >>"$work/latencies"
    # shellcheck disable=SC2086 # three words
    printf '  %-7s %-7s %10s %10s %10s\n' "$1" "$2" $found
}

send_paced() {
    local each=$((AGREE_RATE / AGREE_CONNECTIONS))
    case "$1" in
        # As many connections as it takes when all requests of a stall wait at once.
        load) "$send" "$2" $AGREE_SECONDS $((AGREE_RATE * 2)) "$LOAD_CORE" $AGREE_RATE ;;
        oha) taskset -c "$LOAD_CORE" oha -z ${AGREE_SECONDS}s -q $AGREE_RATE --latency-correction -c $((AGREE_RATE * 2)) -w --no-tui --output-format json "$2" ;;
        wrk) taskset -c "$LOAD_CORE" wrk -t 1 -c $AGREE_CONNECTIONS -d ${AGREE_SECONDS}s --latency "$2" ;;
        hey) taskset -c "$LOAD_CORE" hey -cpus 1 -z ${AGREE_SECONDS}s -c $AGREE_CONNECTIONS -q $each "$2" ;;
    esac
}

percentiles() {
    case "$1" in
        load) sed -n 's/.* failed=0 p50_ms=\(.*\) p90_ms=\(.*\) p99_ms=\(.*\)/\1 \2 \3/p' ;;
        oha)
            python3 -c 'import json, sys
found = json.load(sys.stdin)["latencyPercentiles"]
print(*("%.2f" % (found[p] * 1e3) for p in ("p50", "p90", "p99")))'
            ;;
        wrk) awk '$1 ~ /^(50|90|99)%$/ { v = $2 + 0; if ($2 ~ /us$/) v /= 1e3; else if ($2 !~ /ms$/) v *= 1e3; printf "%.2f ", v }' ;;
        hey) awk '$1 ~ /^(50|90|99)%%?$/ && $2 == "in" { printf "%.2f ", $3 * 1e3 }' ;;
    esac
}

# latency PART SENDER COLUMN (3: p50, 4: p90, 5: p99)
latency() { awk -v part="$1" -v sender="$2" -v column="$3" '$1 == part && $2 == sender { print $column }' "$work/latencies"; }

# apart A B: how far apart, as a share of the greater one.
apart() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; if (d < 0) d = -d; m = a > b ? a : b; printf "%.3f", m ? d / m : 0 }'; }

check_agreement() {
    local sender off
    for sender in oha wrk hey; do
        off=$(apart "$(latency steady load 3)" "$(latency steady "$sender" 3)")
        far "$off" "the medians of load and $sender on a steady server"
    done
    off=$(apart "$(latency stall load 4)" "$(latency stall oha 4)")
    far "$off" "the 90th percentiles of load and oha (corrected) around a stall"
    echo "agreement steady_p50_ms=$(latency steady load 3) oha=$(latency steady oha 3) wrk=$(latency steady wrk 3) hey=$(latency steady hey 3)" \
        "stall_p90_ms=$(latency stall load 4) oha=$(latency stall oha 4) wrk=$(latency stall wrk 4) hey=$(latency stall hey 4)"
}

# far SHARE WHAT: fails if it is more than MOST_APART.
far() {
    if awk -v off="$1" -v most=$MOST_APART 'BEGIN { exit !(off > most) }'; then fail "$2 are $1 apart (at most $MOST_APART): $(cat "$work/latencies")"; fi
}
