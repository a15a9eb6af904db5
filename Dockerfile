# The web application, workers and Celery in one image; compose.yaml starts them.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/batches && \
    /opt/batches/bin/python -m pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock
COPY . .
RUN /opt/batches/bin/python -m pip install --no-cache-dir --no-deps .

FROM python:${PYTHON}-slim
RUN useradd --uid 10001 --home-dir /data --create-home batches
COPY --from=build /opt/batches /opt/batches
ENV PATH=/opt/batches/bin:$PATH DATA_DIR=/data PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["batches", "serve", "--no-workers", "--host", "0.0.0.0"]
