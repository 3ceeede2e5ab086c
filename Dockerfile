# One image for web, worker, beat and gateway; docker-compose.yml says who runs what.
FROM python:3.13-slim AS build
COPY requirements.txt /
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements.txt

# The gateway's hot path as machine code, made by tools that stay behind.
FROM python:3.13-slim AS compiled
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY requirements-build.txt /
RUN pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements-build.txt
WORKDIR /app
COPY apimgr apimgr
COPY proxy proxy
RUN python -m proxy.build

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /app apimgr && install -d -o apimgr -g apimgr -m 0700 /var/lib/apimgr
COPY --from=build /venv /venv
WORKDIR /app
COPY manage.py ./
COPY apimgr apimgr
COPY portal portal
COPY analytics analytics
COPY proxy proxy
COPY docs/reference/outcomes docs/reference/outcomes
COPY --from=compiled /app/build build
COPY templates templates
COPY static static
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    APIMGR_VAR=/var/lib/apimgr \
    APIMGR_GATEWAY_COMPILED=require \
    APIMGR_STATIC_ROOT=/app/collected
# The secrets this makes for itself are thrown away with its folder.
RUN APIMGR_VAR=/tmp/build python manage.py collectstatic --no-input --verbosity 0 && rm -rf /tmp/build
USER apimgr
VOLUME /var/lib/apimgr
EXPOSE 8000 8080
CMD ["gunicorn", "--bind", "0.0.0.0:8000", "--workers", "2", "--threads", "4", "apimgr.wsgi"]
