# syntax=docker/dockerfile:1

# The image of the worker: the wheel of this repository in a virtual environment, on a slim Python, not as root.

# A tag can be moved to another image, a digest cannot. `make pin` renews it; or name one that was examined:
#   docker build --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:… .
ARG PYTHON_IMAGE=python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
# Every package has a version and hashes: what is installed does not depend on the day (`make lock` writes the files).
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/headrace \
 && /opt/headrace/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
 && pip install --no-cache-dir --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY connectors connectors
COPY sources sources
COPY sinks sinks
COPY streams streams
COPY transforms transforms
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
 && /opt/headrace/bin/pip install --no-cache-dir --no-deps /dist/headrace-*.whl

FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 10001 --home-dir /var/lib/headrace --create-home --shell /usr/sbin/nologin headrace
COPY --from=build /opt/headrace /opt/headrace
ENV PATH=/opt/headrace/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HEADRACE_DATA=/var/lib/headrace \
    HEADRACE_LISTENERS=http://0.0.0.0:8083
USER headrace
WORKDIR /var/lib/headrace
# It writes here and in /tmp only: docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges
# Source offsets: without this volume every new container reads the tables again.
VOLUME /var/lib/headrace
# Without authentication it does not start, because other machines can reach it: set rest.users.file in the worker's
# file, or rest.authentication: none where something else protects the port.
EXPOSE 8083
# 503 until the worker has started its connectors, 500 when its control thread has ended.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8083/health', timeout=4)"]
# The shell expands the wildcard; exec replaces it, so that SIGTERM reaches the worker.
CMD ["sh", "-c", "exec headrace run /etc/headrace/worker-standalone.yaml /etc/headrace/connectors/*.yaml /etc/headrace/streams/*.yaml"]
