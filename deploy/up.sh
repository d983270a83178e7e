#!/usr/bin/env bash
# The stack on this machine without Docker, in the foreground; Ctrl-C ends it.
# Usage: deploy/up.sh [STORE], STORE a store URL, or "redis" to start a Redis server beside the
# service: data in ./gkc-redis, port REDIS_PORT or 6379, and one that runs there already is used.
# Without STORE: GKC_STORE_URL, else the embedded store.
# All settings apply as for `gkc serve`: another GKC_HOST than loopback needs GKC_API_KEYS_FILE,
# GKC_TLS_CLIENT_CA_FILE or GKC_ALLOW_ANONYMOUS=1.
set -euo pipefail
cd "$(dirname "$0")/.."
gkc="$PWD/.venv/bin/gkc"
store=${1:-}
redis_folder="$PWD/gkc-redis"

start_redis() {
  local port=${REDIS_PORT:-6379}
  command -v redis-server >/dev/null || {
    echo "error: redis-server is not on PATH: install it, or name a running one: make up STORE=redis://HOST:PORT" >&2
    exit 1
  }
  store="redis://127.0.0.1:$port/0"
  if redis-cli -p "$port" ping >/dev/null 2>&1; then return; fi  # one runs there already
  mkdir -p "$redis_folder"
  # A daemon, so that Ctrl-C reaches the service alone, which then ends its requests first.
  redis-server --port "$port" --bind 127.0.0.1 --dir "$redis_folder" --appendonly yes \
    --maxmemory-policy noeviction --daemonize yes --logfile "$redis_folder/redis.log" \
    --pidfile "$redis_folder/redis.pid"
  trap 'kill "$(cat "$redis_folder/redis.pid")"' EXIT
  for _ in $(seq 100); do
    redis-cli -p "$port" ping >/dev/null 2>&1 && break
    sleep 0.1
  done
  redis-cli -p "$port" ping >/dev/null || {
    echo "error: redis-server does not answer on port $port: see $redis_folder/redis.log" >&2
    exit 1
  }
}

if [ "$store" = redis ]; then start_redis; fi
trap : INT
"$gkc" serve ${store:+--store "$store"}
