#!/bin/sh
# A normal user beside a slow attack: `benches/slow_clients.sh [GATE [COUNT [SECONDS]]]`.
#
# slowhttptest holds COUNT connections of one kind, and h2load asks at a fixed rate meanwhile. Printed are the p99
# of the answers before and during the attack, and how they relate. Everything is on loopback.
set -eu

gate=${1:-target/release/weirgate}
count=${2:-1000}
seconds=${3:-15}
port=${PORT:-18480}
for program in slowhttptest h2load awk; do
    command -v "$program" > /dev/null || { echo "slow_clients: $program is missing (apt-get install slowhttptest nghttp2-client)" >&2; exit 1; }
done
ulimit -n "$(ulimit -Hn)"

dir=$(mktemp -d)
pids=
trap 'kill $pids 2> /dev/null || true; rm -rf "$dir"' EXIT
url=http://127.0.0.1:$port

large=$(awk 'BEGIN { while (n++ < 20000) printf "a line of the large answer, which is read slowly; " }')
cat > "$dir/origin.yaml" <<EOF
server: { threads: 1 }
log: { access: { to: "off" } }
listeners: [{ address: 127.0.0.1:$((port + 1)), limits: { connections: 30000 } }]
routes:
  - { path: /, respond: { body: "Hello, World!" } }
  - { path: /large, respond: { body: "$large" } }
EOF
cat > "$dir/gate.yaml" <<EOF
server: { threads: 1 }
log: { access: { to: "off" } }
listeners: [{ address: 127.0.0.1:$port, limits: { connections: 30000 } }]
routes: [{ path: /, upstream: origin }]
upstreams: { origin: { servers: [127.0.0.1:$((port + 1))] } }
EOF
for name in origin gate; do
    "$gate" run -c "$dir/$name.yaml" > "$dir/$name.log" 2>&1 &
    pids="$pids $!"
done
sleep 1

# p99 in microseconds of the answers within some seconds, and how many were not 200
ask() {
    h2load --h1 -c 8 --rps 50 -D "$seconds" --log-file="$dir/load" "$url/" > "$dir/h2load.log" 2>&1
    awk '$2 == 200 { print $3 }' "$dir/load" | sort -n > "$dir/times"
    failed=$(awk '$2 != 200' "$dir/load" | wc -l)
    awk -v failed="$failed" '{ t[NR] = $1 } END { printf "%d %d %d\n", t[int(NR * 0.99)], NR, failed }' "$dir/times"
    rm "$dir/load"
}

# connections of the attack that are open, those of h2load and of the gate's own left out
open() {
    hex=$(printf '0100007F:%04X' "$port")
    awk -v local="$hex" '$2 == local && $4 == "01"' /proc/net/tcp | wc -l
}

attack() {
    case $1 in
        headers) set -- -H -i 10 -x 24 -t GET -u "$url/" ;;
        body) set -- -B -i 10 -s 8192 -x 10 -t POST -u "$url/" ;;
        read) set -- -X -w 10 -y 20 -n 5 -z 32 -k 3 -u "$url/large" ;;
        range) set -- -R -a 10 -b 3000 -t HEAD -u "$url/" ;;
    esac
    slowhttptest "$@" -c "$count" -r 500 -p 5 -l $((seconds + 15)) > "$dir/slow.log" 2>&1 &
    attacker=$!
    pids="$pids $attacker"
}

printf '| attack | held | p99 before, µs | p99 during, µs | ratio | answers, not 200 |\n|---|--:|--:|--:|--:|--:|\n'
for kind in headers body read range; do
    before=$(ask)
    attack "$kind"
    sleep 6
    held=$(open)
    during=$(ask)
    kill "$attacker" 2> /dev/null || true
    wait "$attacker" 2> /dev/null || true
    echo "$kind $held $before $during" | awk '{
        printf "| %s | %d | %d | %d | %.2f | %d, %d |\n", $1, $2, $3, $6, $6 / $3, $7, $8 }'
    sleep 2
done
