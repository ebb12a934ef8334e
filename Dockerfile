# A worker's image: pinned packages, git, and a user that is not root.
FROM python:3.11-slim AS build
WORKDIR /src
COPY requirements/run.txt requirements/run.txt
RUN python -m venv /opt/confkeep \
    && /opt/confkeep/bin/pip install --no-cache-dir --require-hashes -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY worker worker
COPY tasks tasks
RUN /opt/confkeep/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home confkeep \
    && install -d -o confkeep -g confkeep -m 0700 /data /data/store /data/staging
COPY --from=build /opt/confkeep /opt/confkeep
ENV PATH=/opt/confkeep/bin:$PATH \
    CONFKEEP_GIT_STORE_PATH=/data/store \
    CONFKEEP_STAGING_PATH=/data/staging \
    CONFKEEP_LOG_FORMAT=json \
    REMAP_SIGTERM=SIGQUIT
USER confkeep
VOLUME /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["confkeep"]
CMD ["worker"]
