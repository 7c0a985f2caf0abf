#!/usr/bin/env bash
# What `make check-compose` runs: the Compose stack from an empty engine to a cited answer, and down again.
#
# With a registry it builds on the official images; without one, export what deploy/docker/local-images.sh prints.
# DOCKER_HOST is respected: nothing is mounted from this machine, so the engine may be on another.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

QUESTION=${1:-How many days do I have to return an item?}
# Its own project, ports, image tag, key and settings: a stack that runs here already is neither touched nor in the way.
PROJECT=citewell-check-$$
CITEWELL_API_KEY=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
export CITEWELL_API_KEY
export DEPLOY_IMAGE=citewell:check DEPLOY_ENV_FILE=/dev/null
export DEPLOY_PORT=0 DEPLOY_ELASTICSEARCH_PORT=0 DEPLOY_REDIS_PORT=0
LOG=$(mktemp)
STARTED=no

compose() {
    docker compose --project-name "$PROJECT" "$@"
}

in_api() {
    compose exec -T api "$@"
}

end() {
    local status=$?
    if [ "$STARTED" = yes ]; then
        if [ "$status" != 0 ]; then
            printf '\ncheck-compose: the services said last:\n'
            compose ps --all || true
            compose logs --no-color --tail 25 | cut -c 1-400 || true
        fi
        printf 'check-compose: down, with its volumes\n'
        compose down --volumes --remove-orphans --timeout 20 > /dev/null 2>&1 \
            || printf 'check-compose: docker compose -p %s down -v failed: run it by hand\n' "$PROJECT" >&2
    fi
    rm -f "$LOG"
    if [ "$status" = 0 ]; then
        printf 'check-compose: passed in %d s\n' "$SECONDS"
    fi
}
trap end EXIT
# A signal ends the script by way of the trap above.
trap 'exit 130' INT TERM

# step NAME COMMAND...: runs it quietly, prints its seconds; its output only when it fails.
# `set -e` does not reach into COMMAND, so the functions below chain with &&.
step() {
    local name=$1 begin=$SECONDS
    shift
    if "$@" > "$LOG" 2>&1; then
        printf 'check-compose: %4d s  %s\n' "$((SECONDS - begin))" "$name"
    else
        cat "$LOG" >&2
        printf 'check-compose: FAILED after %d s: %s\n' "$((SECONDS - begin))" "$name" >&2
        exit 1
    fi
}

engine() {
    if ! docker version > /dev/null 2>&1; then
        printf 'check-compose: no Docker engine answers at %s.\n' "${DOCKER_HOST:-the default socket}" >&2
        printf 'Start one, or point DOCKER_HOST at one; deploy/docker/README.md shows how, also without a registry.\n' >&2
        exit 1
    fi
    if ! docker compose version > /dev/null 2>&1; then
        printf 'check-compose: the engine is there, but not the Compose plugin (2.24 or later): install it.\n' >&2
        exit 1
    fi
}

files() {
    compose --profile gpu config --quiet && key_is_required
}

key_is_required() {
    ! CITEWELL_API_KEY='' compose config --quiet 2> /dev/null
}

up() {
    compose up --detach --no-build --wait --wait-timeout 600
}

# Over standard input, because `docker cp` refuses a read-only root file system and a bind mount a remote engine.
ingest() {
    tar -C examples -c shop \
        | in_api sh -c 'tar -C /tmp -x && citewell ingest --url http://127.0.0.1:8080 /tmp/shop'
}

ask() {
    in_api python3 - ask "$QUESTION" < deploy/docker/check_answer.py
}

is_kept() {
    compose kill redis \
        && up \
        && in_api python3 - get "$1" < deploy/docker/check_answer.py
}

unprivileged() {
    local service
    for service in elasticsearch redis api worker; do
        [ "$(compose exec -T "$service" id -u)" != 0 ] || { echo "$service runs as root"; return 1; }
    done
    for service in redis api worker; do
        compose exec -T "$service" sh -c '! touch /usr/written 2> /dev/null' \
            || { echo "$service can write to its root file system"; return 1; }
    done
}

engine
step 'compose file is valid, and refuses to start without a key' files
step 'images are built' compose build
STARTED=yes
step 'all services are healthy' up
step 'no service runs as root or writes to its image' unprivileged
step 'examples/shop is ingested' ingest
step 'a question is answered with a citation, and refused without the key' ask
ID=$(sed -n 's/^id: //p' "$LOG")
printf 'check-compose:         %s\n' "$(sed -n 's/^answer: //p' "$LOG")"
step 'the answer outlives a crash of Redis' is_kept "$ID"
