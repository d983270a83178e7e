# The service and the exporter, without torch. One image: `gkc` is the entry point, the exporter
# job of docker-compose.yml calls `gkc-export` instead.
FROM python:3.11-slim AS build
WORKDIR /src
COPY requirements requirements
RUN python -m venv /gkc \
 && /gkc/bin/pip install --no-cache-dir --require-hashes -r requirements/exporter.txt \
 && pip install --no-cache-dir --require-hashes -r requirements/build.txt -r requirements/zig.txt
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY gkc gkc
COPY exporter exporter
COPY keep keep
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /gkc/bin/pip install --no-cache-dir --no-deps /wheels/*.whl

FROM python:3.11-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/gkc gkc
COPY --from=build /gkc /gkc
ENV PATH=/gkc/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    GKC_STORE_URL=file:/var/lib/gkc/store \
    GKC_MIRROR_DIR=/var/lib/gkc/mirror
USER gkc
WORKDIR /var/lib/gkc
VOLUME /var/lib/gkc
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, ssl, urllib.request as u; s = 's' if os.environ.get('GKC_TLS_CERT_FILE') else ''; u.urlopen(f'http{s}://127.0.0.1:8000/livez', timeout=2, context=ssl._create_unverified_context() if s else None)"]
ENTRYPOINT ["gkc"]
# Says who may call, or it does not start: GKC_API_KEYS_FILE, GKC_TLS_CLIENT_CA_FILE or
# GKC_ALLOW_ANONYMOUS=1.
CMD ["serve", "--host", "0.0.0.0"]
# Behind a load balancer: GKC_DRAIN_DELAY_SECONDS=5, and 30 s to stop (docker stop -t 30), as
# docker-compose.yml has them; an image cannot say the latter.
