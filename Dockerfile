# One image for workers, the exporter and the command line: pinned packages, git, no root.
# Built for a release:  docker build --build-arg VERSION=0.1.0 -t confkeep:0.1.0 .
# The interpreter's version is that of the tests; raise both together.
ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# `run`: what confkeep needs. `full`: also Flower, OpenTelemetry and Sentry.
ARG REQUIREMENTS=run
WORKDIR /src
COPY requirements/${REQUIREMENTS}.txt requirements.txt
RUN python -m venv /opt/confkeep \
    && /opt/confkeep/bin/pip install --no-cache-dir --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY confkeep confkeep
COPY worker worker
COPY tasks tasks
COPY packaging packaging
# What only builds and installs stays out of the image that runs.
RUN /opt/confkeep/bin/pip install --no-cache-dir --no-deps --no-build-isolation \
        . ./packaging/confkeep-worker \
    && /opt/confkeep/bin/pip uninstall --yes hatchling editables trove-classifiers setuptools pip

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="confkeep" \
      org.opencontainers.image.description="Keeps every configuration backup of network devices in git" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# git: maintenance and drills. tini: a first process that forwards SIGTERM from the first moment on
# and reaps what its children leave. Debian keeps no old versions, so none is named.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends git tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 confkeep \
    && useradd --uid 10001 --gid 10001 --no-log-init --create-home confkeep \
    && install -d -o confkeep -g confkeep -m 0700 /data /data/store /data/staging
COPY --from=build /opt/confkeep /opt/confkeep
# Nothing is written outside /data and /tmp: the root file system may be read-only.
ENV PATH=/opt/confkeep/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CONFKEEP_GIT_STORE_PATH=/data/store \
    CONFKEEP_STAGING_PATH=/data/staging \
    CONFKEEP_LOG_FORMAT=json \
    CONFKEEP_METRICS_ADDRESS=0.0.0.0 \
    REMAP_SIGTERM=SIGQUIT
# A number: Kubernetes' runAsNonRoot does not believe names.
USER 10001:10001
# No VOLUME: each container would get one without a name for what its deployment does not mount.
WORKDIR /data
STOPSIGNAL SIGTERM
# A worker's. The exporter answers over HTTP instead; see docker-compose.yml.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["confkeep", "health"]
ENTRYPOINT ["tini", "--", "confkeep"]
CMD ["worker"]
