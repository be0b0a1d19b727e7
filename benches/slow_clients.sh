#!/bin/sh
# A normal user beside a slow attack: `benches/slow_clients.sh [GATE [COUNT [SECONDS]]]`.
#
# slowhttptest holds COUNT connections of one kind, and h2load asks at a fixed rate meanwhile. Printed are the p99
# of the answers before and during the attack, how they relate, and what memory the attack takes. Everything is on loopback.
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
    gate_pid=$!
done
sleep 1

# p99 in microseconds of the answers within some seconds, how many came, and how many were not 200
ask() {
    : > "$dir/load"
    h2load --h1 -c 8 --rps 50 -D "$seconds" --log-file="$dir/load" "$url/" > "$dir/h2load.log" 2>&1 || true
    awk '$2 == 200 { print $3 }' "$dir/load" | sort -n > "$dir/times"
    failed=$(awk '$2 != 200' "$dir/load" | wc -l)
    awk -v failed="$failed" '{ t[NR] = $1 } END { printf "%d %d %d\n", t[int(NR * 0.99)], NR, failed }' "$dir/times"
    rm "$dir/load"
}

# connections of the attack that are open
open() {
    hex=$(printf '0100007F:%04X' "$port")
    awk -v local="$hex" '$2 == local && $4 == "01"' /proc/net/tcp | wc -l
}

# resident memory of the gate, and what the kernel holds for all TCP connections, in MB
memory() {
    ours=$(awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$gate_pid/status")
    kernels=$(awk '/^TCP:/ { for (i = 1; i < NF; i++) if ($i == "mem") print int($(i + 1) / 256) }' /proc/net/sockstat)
    echo "$ours $kernels"
}

# processor time of the gate, in hundredths of a second
spent() {
    awk '{ print $14 + $15 }' "/proc/$gate_pid/stat"
}

# Until the attack stands: no more connections come, and what comes with them has been done. Opening them is load like any
# other; what is asked here is what it costs to hold them.
stand() {
    sleep 3
    for _ in $(seq 30); do
        had=$(open)
        from=$(spent)
        sleep 1
        [ "$(open)" = "$had" ] && [ $(($(spent) - from)) -lt 10 ] && return
    done
    echo "slow_clients: the attack has not settled in 30 seconds" >&2
}

attack() {
    case $1 in
        headers) set -- -H -i 10 -x 24 -t GET -u "$url/" ;;
        body) set -- -B -i 10 -s 8192 -x 10 -t POST -u "$url/" ;;
        read) set -- -X -w 10 -y 20 -n 5 -z 32 -k 3 -u "$url/large" ;;
        range) set -- -R -a 10 -b 3000 -t HEAD -u "$url/" ;;
    esac
    slowhttptest "$@" -c "$count" -r 500 -p 5 -l $((seconds + 45)) > "$dir/slow.log" 2>&1 &
    attacker=$!
    pids="$pids $attacker"
}

printf '%s\n' "$count slow connections of each kind; \`/\` asked for 400 times a second on 8 connections, for $seconds seconds"
printf '| attack | held, then | p99 before, µs | p99 during, µs | ratio | answers, not 200 | gate, MB | TCP in the kernel, MB |\n'
printf '|---|--:|--:|--:|--:|--:|--:|--:|\n'
for kind in headers body read range; do
    before=$(ask)
    attack "$kind"
    stand
    held=$(open)
    during=$(ask)
    then=$(open)
    memory=$(memory)
    kill "$attacker" 2> /dev/null || true
    wait "$attacker" 2> /dev/null || true
    # $1 kind, $2 held, $3 then; before: $4 p99, $5 answers, $6 failed; during: $7 p99, $8 answers, $9 failed
    echo "$kind $held $then $before $during $memory" | awk '{
        ratio = $4 > 0 && $8 > 0 ? sprintf("%.2f", $7 / $4) : "-"
        printf "| %s | %d, %d | %d | %d | %s | %d, %d | %d | %d |\n", $1, $2, $3, $4, $7, ratio, $8, $9, $10, $11 }'
    # until those of this attack are gone
    for _ in $(seq 20); do [ "$(open)" -lt 20 ] && break; sleep 1; done
done
