# syntax=docker/dockerfile:1

# The image of the worker: the wheel of this repository in a virtual environment, on a slim Python, not as root.

FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY connectors connectors
COPY sources sources
COPY sinks sinks
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .
RUN python -m venv /opt/headrace \
 && /opt/headrace/bin/pip install --no-cache-dir "headrace[fast,mysql,postgres] @ file://$(ls /dist/headrace-*.whl)"

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/headrace --create-home --shell /usr/sbin/nologin headrace
COPY --from=build /opt/headrace /opt/headrace
ENV PATH=/opt/headrace/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HEADRACE_DATA=/var/lib/headrace \
    HEADRACE_LISTENERS=http://0.0.0.0:8083
USER headrace
WORKDIR /var/lib/headrace
# Source offsets: without this volume every new container reads the tables again.
VOLUME /var/lib/headrace
EXPOSE 8083
# 503 until the worker has started its connectors, 500 when its control thread has ended.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8083/health', timeout=4)"]
# The shell expands the wildcard; exec replaces it, so that SIGTERM reaches the worker.
CMD ["sh", "-c", "exec headrace run /etc/headrace/worker-standalone.yaml /etc/headrace/connectors/*.yaml"]
