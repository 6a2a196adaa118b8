# One image for all parts of the service: `api`, `worker`, `dispatcher`, `db upgrade`.
#
#   docker build --target cpu  -t clipcite:cpu .
#   docker build --target cuda -t clipcite:cuda .
#
# The torch wheels on PyPI include CUDA, so both targets use the same slim Python image. For smaller images
# without a GPU, set PIP_EXTRA_INDEX_URL to an index of PyTorch's CPU wheels.

# Version used by the tests; 3.11 to 3.14 are supported.
ARG PYTHON=python:3.11-slim-trixie

# Extract the requirements, so that other changes to pyproject.toml do not invalidate the install layer.
FROM ${PYTHON} AS requirements
COPY pyproject.toml /
RUN ["python", "-c", "import tomllib; \
project = tomllib.load(open('/pyproject.toml', 'rb'))['project']; \
extras = project['optional-dependencies']; \
wanted = project['dependencies'] + extras['server'] + extras['starter'] + extras['heic'] + extras['tracing']; \
open('/requirements.txt', 'w').write(''.join(line + chr(10) for line in wanted))"]

FROM ${PYTHON} AS build
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# Without pip, since nothing is installed later.
RUN python -m venv --without-pip /opt/clipcite
COPY --from=requirements /requirements.txt /
COPY constraints.txt /
RUN pip --python /opt/clipcite/bin/python install --constraint /constraints.txt --requirement /requirements.txt
COPY . /source
RUN pip --python /opt/clipcite/bin/python install --no-deps /source

FROM ${PYTHON} AS runtime
RUN pip uninstall --yes --root-user-action=ignore pip \
    && groupadd --gid 10001 clipcite \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin clipcite \
    && install -d -o 10001 -g 10001 -m 0700 /data /data/tmp /cache
COPY --from=build /opt/clipcite /opt/clipcite
# A container cannot serve on loopback, so an API key is required: see docs/operate/compose.md. Uploads are spooled
# to the volume, since /tmp is in memory if the root file system is read-only.
ENV PATH=/opt/clipcite/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TMPDIR=/data/tmp \
    HF_HOME=/cache/huggingface \
    CLIPCITE_HOST=0.0.0.0 \
    CLIPCITE_DATA=/data \
    CLIPCITE_CACHE=/cache
USER 10001:10001
VOLUME ["/data", "/cache"]
EXPOSE 8000
# Health check of the API; those of the other parts are in docker-compose.yml. http.client ignores proxies.
HEALTHCHECK --interval=10s --timeout=10s --retries=3 --start-period=5m \
    CMD ["python", "-c", "import http.client, sys; api = http.client.HTTPConnection('127.0.0.1', 8000, timeout=8); api.request('GET', '/readyz'); sys.exit(api.getresponse().status != 200)"]
ENTRYPOINT ["clipcite"]
CMD ["api"]

FROM runtime AS cpu

FROM runtime AS cuda
# Parts that the NVIDIA container toolkit mounts: the CUDA driver libraries and nvidia-smi.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
