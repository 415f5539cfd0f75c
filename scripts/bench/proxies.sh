# The proxies that `scripts/bench-proxy` compares, all in front of one container; sourced by it, never run.
# Configured alike: as many workers, keep-alive to the backend, X-Forwarded-For, no access log but a sampled one where there
# is one to be sampled, HTTP/1.1 and prior-knowledge HTTP/2 on a port each.

# --- the engine, over its API ---

# engine METHOD PATH [JSON]
engine() {
    local where=(--unix-socket "$(docker_socket)" "http://docker$2")
    case "${DOCKER_HOST:-}" in
        tcp://* | http://*) where=("http://${DOCKER_HOST#*://}$2") ;;
    esac
    local body=()
    if [ $# -gt 2 ]; then body=(-H 'Content-Type: application/json' -d "$3"); fi
    curl -sS -m 60 -X "$1" "${body[@]}" "${where[@]}"
}

# field NAME: the first non-empty string of that name in the JSON on standard input.
field() { sed -n 's/"'"$1"'":"\([^"]\{1,\}\)"/\n\1\n/;s/^[^\n]*\n\([^\n]*\)\n.*/\1/p'; }

start_container() {
    container=$(engine POST /containers/create \
        "{\"Image\":\"$IMAGE\",\"Labels\":{\"dev.tidegate.bench\":\"$SERVICE\"}}" | field Id)
    [ -n "$container" ] || fail "the engine did not create the container"
    engine POST "/containers/$container/start" >/dev/null
}

find_container() {
    engine GET "/containers/json?filters=%7B%22label%22%3A%5B%22dev.tidegate.service%3D$SERVICE%22%5D%7D" | field Id
}

pin_container() { engine POST "/containers/$container/update" "{\"CpusetCpus\":\"$LOAD_CORE\"}" >/dev/null; }

container_address() {
    local found
    found=$(engine GET "/containers/$container/json" | field IPAddress)
    [ -n "$found" ] || fail "the container has no address"
    echo "$found:8080"
}

# --- the proxies ---

# The certificate of all four, and both halves in one file for HAProxy.
make_certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost -keyout "$work/bench.key" -out "$work/bench.pem" 2>/dev/null
    cat "$work/bench.pem" "$work/bench.key" >"$work/bench.both"
    chmod 600 "$work/bench.key" "$work/bench.both"
}

# launch NAME CORES COMMAND...: remembered for clean_up.
launch() {
    local name=$1 cores=$2
    shift 2
    taskset -c "$cores" "$@" >"$work/$name.log" 2>&1 &
    pid[$name]=$!
}

# stop NAME: ends it in order.
stop() {
    kill -TERM "${pid[$1]}" 2>/dev/null || true
    wait "${pid[$1]}" 2>/dev/null || true
    unset "pid[$1]"
}

# configure ROUTES...: Tidegate's file with these and the route of all that is left.
configure() {
    cat >"$work/tidegate.new" <<END
[gateway]
listen = ["127.0.0.1:${port[tidegate]}", { address = "127.0.0.1:${port[tidegate_tls]}", tls = true }]
metrics = "off"
stop_replicas_on_exit = true

[gateway.access_log]
to = "$work/access.log"
sample = 0.01

[gateway.tls]
certificates = [{ cert = "$work/bench.pem", key = "$work/bench.key" }]

[services.$SERVICE]
image = "$IMAGE"
port = 8080
routes = [
$(printf '    %s,\n' "$@" '{ host = "*", path = "/" }')
]

[services.$SERVICE.scaling]
min = 1
max = 1
END
    mv "$work/tidegate.new" "$work/tidegate.toml"
}

# start_tidegate CORES: a worker for each.
start_tidegate() {
    port[tidegate]=$(free_port)
    port[tidegate_h2]=${port[tidegate]}
    port[tidegate_tls]=$(free_port)
    configure
    launch tidegate "$1" "$TIDEGATE" up -c "$work/tidegate.toml" --state "$work/state"
    await tidegate
    container=$(find_container)
    [ -n "$container" ] || fail "Tidegate runs, but no container of $SERVICE does"
    network=$(engine GET "/containers/$container/json" | field NetworkMode)
}

start_nginx() {
    port[nginx]=$(free_port)
    port[nginx_h2]=$(free_port)
    port[nginx_tls]=$(free_port)
    cat >"$work/nginx.conf" <<EOF
daemon off;
worker_processes 1;
pid $work/nginx.pid;
error_log stderr crit;
events { worker_connections 4096; }
http {
    split_clients "\$connection \$connection_requests" \$sampled { 1% 1; * 0; }
    access_log $work/nginx.access combined if=\$sampled;
    keepalive_requests 100000000;
    client_body_temp_path $work/body;
    proxy_temp_path $work/proxy;
    fastcgi_temp_path $work/fastcgi;
    uwsgi_temp_path $work/uwsgi;
    scgi_temp_path $work/scgi;
    upstream backend { server $address; keepalive 2048; keepalive_requests 100000000; }
    server {
        listen 127.0.0.1:${port[nginx]};
        listen 127.0.0.1:${port[nginx_h2]} http2;
        listen 127.0.0.1:${port[nginx_tls]} ssl;
        ssl_certificate $work/bench.pem;
        ssl_certificate_key $work/bench.key;
        location / {
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host \$http_host;
            proxy_set_header X-Forwarded-For \$remote_addr;
        }
        location /ws {
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection upgrade;
            proxy_set_header Upgrade \$http_upgrade;
        }
    }
}
EOF
    launch nginx "$PROXY_CORE" nginx -p "$work" -e stderr -c "$work/nginx.conf"
}

start_haproxy() {
    port[haproxy]=$(free_port)
    port[haproxy_h2]=$(free_port)
    port[haproxy_tls]=$(free_port)
    cat >"$work/haproxy.cfg" <<EOF
global
    nbthread 1
    maxconn 4096
    log stdout format raw sample 1:100 local0
defaults
    mode http
    log global
    option httplog
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option http-keep-alive
    option forwardfor
    http-reuse always
frontend front
    bind 127.0.0.1:${port[haproxy]}
    bind 127.0.0.1:${port[haproxy_h2]} proto h2
    bind 127.0.0.1:${port[haproxy_tls]} ssl crt $work/bench.both
    default_backend back
backend back
    server echo $address
EOF
    launch haproxy "$PROXY_CORE" haproxy -db -f "$work/haproxy.cfg"
}

start_caddy() {
    port[caddy]=$(free_port)
    port[caddy_h2]=${port[caddy]}
    port[caddy_tls]=$(free_port)
    cat >"$work/Caddyfile" <<EOF
{
    admin off
    auto_https off
    log {
        level ERROR
    }
    servers {
        protocols h1 h2c
    }
}
(backend) {
    bind 127.0.0.1
    reverse_proxy $address {
        transport http {
            keepalive_idle_conns 2048
            keepalive_idle_conns_per_host 2048
        }
    }
}
http://:${port[caddy]} {
    import backend
}
https://localhost:${port[caddy_tls]} {
    import backend
    tls $work/bench.pem $work/bench.key
}
EOF
    launch caddy "$PROXY_CORE" env GOMAXPROCS=1 HOME="$work" XDG_DATA_HOME="$work" XDG_CONFIG_HOME="$work" \
        caddy run --adapter caddyfile --config "$work/Caddyfile"
}

await() {
    local left
    for ((left = 1200; left > 0; left--)); do
        if curl -fsS -m 60 -o /dev/null "http://127.0.0.1:${port[$1]}/" 2>/dev/null; then return; fi
        kill -0 "${pid[$1]}" 2>/dev/null || break
        sleep 0.05
    done
    cat "$work/$1.log" >&2
    fail "$1 does not proxy; its log is above"
}

# Configured alike is checked, not believed.
forwards_for() {
    curl -fsS "http://127.0.0.1:${port[$1]}/headers" | grep -qi '"x-forwarded-for","127.0.0.1"' ||
        fail "$1 does not send X-Forwarded-For"
}
