#!/usr/bin/env bash
# local-images.sh [python] [redis] [elasticsearch]: base images for a machine that has a Docker engine but no image
# registry. Without arguments, all three. Prints the exports that make docker-compose.yml build on them.
#
# For development and tests only: Elasticsearch is its distribution for integration tests with a stand-in for the
# kuromoji and nori plugins, prepared by tests/servers. Needs root (debootstrap), and a JDK and Maven for Elasticsearch.
set -euo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
SUITE=${CITEWELL_BUILD_SUITE:-bookworm}
# Debian's mirror: debootstrap's own default unless given.
MIRROR=${CITEWELL_BUILD_MIRROR:-}
NETWORK=${CITEWELL_BUILD_NETWORK:-default}
CA=${CITEWELL_BUILD_CA:-}
# Python 3.11 or later: it runs the part of tests/servers that prepares a node, which needs the standard library alone.
PYTHON=${PYTHON:-python3}
PREPARE='
from tests.servers import environment
from tests.servers.accounts import Account
from tests.servers.jdk import find_jdk
from tests.servers.node_home import prepared_home
jdk = find_jdk(Account(None))
print(prepared_home(environment.cache_directory(), jdk), jdk, sep="\n")
'

PYTHON_IMAGE=local/debian-python:$SUITE
REDIS_IMAGE=local/redis:$SUITE
ELASTICSEARCH_IMAGE=local/elasticsearch:9.5.3

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

die() {
    printf 'local-images: %s\n' "$*" >&2
    exit 1
}

step() {
    printf 'local-images: %s (%d s since the start)\n' "$*" "$SECONDS" >&2
}

# Debian from its packages, with the python3 that the product's image asks of its base.
python_image() {
    [ "$(id -u)" = 0 ] || die "debootstrap needs root: run this with sudo, or give a base image by CITEWELL_BUILD_BASE"
    command -v debootstrap > /dev/null || die "debootstrap is missing: apt-get install debootstrap"
    step "$PYTHON_IMAGE: debootstrap"
    local options=(--variant=minbase "--include=ca-certificates,curl,python3,python3-venv" "$SUITE" "$WORK/root")
    [ -z "$MIRROR" ] || options+=("$MIRROR")
    debootstrap "${options[@]}" > "$WORK/debootstrap.log" || die "debootstrap failed: $(tail -n 20 "$WORK/debootstrap.log")"
    # A network that signs with its own authority needs it inside, too.
    [ -z "$CA" ] || cp "$CA" "$WORK/root/etc/ssl/certs/ca-certificates.crt"
    rm -rf "$WORK"/root/var/cache/apt/archives/*.deb "$WORK"/root/var/lib/apt/lists/*
    # import reads the archive alone: no base image, hence no registry.
    tar -C "$WORK/root" --numeric-owner -c . | docker import --change 'CMD ["bash"]' - "$PYTHON_IMAGE" > /dev/null
    rm -rf "$WORK/root"
}

# The ids and the data folder are those of the official image, so that docker-compose.yml fits both.
redis_image() {
    step "$REDIS_IMAGE"
    mkdir "$WORK/redis"
    cat > "$WORK/redis/Dockerfile" << EOF
FROM $PYTHON_IMAGE
RUN groupadd --system --gid 999 redis && useradd --system --uid 999 --gid redis --home-dir /data redis \\
 && apt-get update && apt-get install -y --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/* \\
 && install -d -o redis -g redis /data
WORKDIR /data
EXPOSE 6379
CMD ["redis-server"]
EOF
    docker build --quiet --network "$NETWORK" --tag "$REDIS_IMAGE" "$WORK/redis" > /dev/null
}

elasticsearch_image() {
    step "$ELASTICSEARCH_IMAGE: preparing the distribution"
    local prepared home jdk
    prepared=$(cd "$REPO" && "$PYTHON" -c "$PREPARE") || die "tests/servers could not prepare a node: the last line above says why"
    home=$(sed -n 1p <<< "$prepared")
    jdk=$(sed -n 2p <<< "$prepared")

    step "$ELASTICSEARCH_IMAGE: image"
    mkdir -p "$WORK/es/home"
    # -L: Debian's JDKs link into /etc, which stays behind.
    cp -RL "$jdk" "$WORK/es/jdk"
    rm -rf "$WORK"/es/jdk/{jmods,lib/src.zip,legal,man}
    tar -C "$home" --exclude=./logs --exclude=./data --exclude=./jdk -c . | tar -C "$WORK/es/home" -x
    # The official image's entry point takes settings from the environment by names with a dot; so does this one.
    cat > "$WORK/es/entrypoint.sh" << 'EOF'
#!/bin/bash
set -euo pipefail
settings=(-E network.host=0.0.0.0)
while IFS='=' read -r -d '' name value; do
    if [[ $name =~ ^[a-z0-9_]+(\.[a-z0-9_]+)+$ ]]; then
        settings+=(-E "$name=$value")
    fi
done < <(env -0)
exec bin/elasticsearch "${settings[@]}"
EOF
    # Here rather than by COPY --chmod, which the classic builder (an engine without buildx) refuses.
    chmod 755 "$WORK/es/entrypoint.sh"
    # User 1000 of group 0 and the paths are the official image's. The JDK lies where a bundled one would.
    cat > "$WORK/es/Dockerfile" << EOF
FROM $PYTHON_IMAGE
RUN useradd --uid 1000 --gid 0 --home-dir /usr/share/elasticsearch --no-create-home elasticsearch
COPY jdk /usr/share/elasticsearch/jdk
COPY --chown=1000:0 home /usr/share/elasticsearch
COPY entrypoint.sh /usr/local/bin/docker-entrypoint.sh
RUN install -d -o 1000 -g 0 /usr/share/elasticsearch/data /usr/share/elasticsearch/logs \\
 && chown 1000:0 /usr/share/elasticsearch
USER 1000:0
WORKDIR /usr/share/elasticsearch
EXPOSE 9200 9300
ENTRYPOINT ["/usr/local/bin/docker-entrypoint.sh"]
EOF
    docker build --quiet --network "$NETWORK" --tag "$ELASTICSEARCH_IMAGE" "$WORK/es" > /dev/null
}

docker version > /dev/null 2>&1 || die "no Docker engine answers at ${DOCKER_HOST:-the default socket}: start it, or set DOCKER_HOST"
[ $# -gt 0 ] || set -- python redis elasticsearch
for name in "$@"; do
    case $name in
        python | redis | elasticsearch) ;;
        *) die "unknown image '$name': python, redis, elasticsearch" ;;
    esac
done
for name in "$@"; do
    "${name}_image"
done
step 'all made'
cat << EOF
export CITEWELL_BUILD_BASE=$PYTHON_IMAGE
export CITEWELL_BUILD_ELASTICSEARCH_BASE=$ELASTICSEARCH_IMAGE
export CITEWELL_BUILD_ELASTICSEARCH_PLUGINS=
export DEPLOY_REDIS_IMAGE=$REDIS_IMAGE
EOF
