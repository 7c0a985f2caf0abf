# One image for the API and the workers: they share every dependency (torch is most of the size), and one image cannot
# disagree with itself about the message format. Compose gives the command and the health check.
# No "# syntax=" line: it would pull a frontend from a registry, and local bases exist to do without one.

# Any image with python3 (3.11 or later) and its venv module; deploy/docker/local-images.sh makes one without a registry.
ARG BASE=python:3.12-slim-bookworm

# A stage of its own, so that only its output counts for the cache: a new version number or a new linter rule in
# pyproject.toml leaves requirements.txt, and with it the layer of several GB below, as it was.
FROM ${BASE} AS requirements
ARG EXTRAS=""
COPY pyproject.toml deploy/docker/requirements.py /src/
RUN python3 /src/requirements.py /src/pyproject.toml ${EXTRAS} > /src/requirements.txt

FROM ${BASE}
# A numeric id, so that volumes and Kubernetes' runAsNonRoot can name it.
RUN groupadd --gid 10001 citewell \
 && useradd --uid 10001 --gid citewell --create-home --shell /usr/sbin/nologin citewell \
 && install -d -o citewell -g citewell /models \
 && python3 -m venv /opt/citewell
ENV PATH=/opt/citewell/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    # No download at run time; models come from packages or from the /models volume.
    HF_HUB_OFFLINE=1 \
    HF_HOME=/models \
    # The root file system is read-only in Compose: whatever caches does so in the tmpfs.
    XDG_CACHE_HOME=/tmp/.cache \
    TRITON_CACHE_DIR=/tmp/.triton \
    TORCHINDUCTOR_CACHE_DIR=/tmp/.inductor

# Where packages come from is the builder's matter: a pip.conf (index, credentials) and a CA bundle arrive as secrets,
# which leave no trace in the image; both are empty by default.
COPY --from=requirements /src/requirements.txt /opt/requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip_conf \
    --mount=type=secret,id=ca \
    if [ -s /run/secrets/pip_conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip_conf; fi; \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    pip install --disable-pip-version-check --root-user-action=ignore -r /opt/requirements.txt

# The only layer that a change of code rebuilds; the sources are mounted, so the image holds the installed copy alone.
RUN --mount=type=bind,target=/src,rw \
    pip install --disable-pip-version-check --root-user-action=ignore --no-index --no-deps --no-build-isolation /src

USER 10001:10001
WORKDIR /home/citewell
CMD ["citewell", "serve"]
