# One image for all parts of the service: `api`, `worker`, `dispatcher`, `db upgrade`.
#
#   docker build --target cpu  -t clipcite:cpu .
#   docker build --target cuda -t clipcite:cuda .
#
# On one machine without Compose: docker run -p 127.0.0.1:8000:8000 -v clipcite:/data clipcite:cpu serve

# Version used by the tests; 3.11 to 3.14 are supported.
ARG PYTHON=python:3.11-slim-trixie

# Extract the requirements, so that other changes to pyproject.toml do not invalidate the install layer.
FROM ${PYTHON} AS requirements
COPY pyproject.toml /
RUN ["python", "-c", "import tomllib; \
project = tomllib.load(open('/pyproject.toml', 'rb'))['project']; \
extras = project['optional-dependencies']; \
wanted = project['dependencies'] + extras['server'] + extras['starter'] + extras['heic']; \
open('/requirements.txt', 'w').write(''.join(line + chr(10) for line in wanted))"]

FROM ${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# Without pip, since nothing is installed later.
RUN python -m venv --without-pip /opt/clipcite
COPY --from=requirements /requirements.txt /
COPY constraints.txt /

FROM ${PYTHON} AS runtime
RUN pip uninstall --yes --root-user-action=ignore pip \
    && groupadd --gid 10001 clipcite \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin clipcite \
    && install -d -o 10001 -g 10001 -m 0700 /data /data/tmp
# Uploads are spooled to the volume, since /tmp is in memory if the root file system is read-only.
ENV PATH=/opt/clipcite/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TMPDIR=/data/tmp \
    HF_HOME=/data/cache/huggingface \
    CLIPCITE_HOST=0.0.0.0 \
    CLIPCITE_DATA=/data \
    CLIPCITE_CACHE=/data/cache
USER 10001:10001
VOLUME /data
EXPOSE 8000
ENTRYPOINT ["clipcite"]
CMD ["api"]

# PyTorch without CUDA. The wheels on PyPI include CUDA.
FROM build AS build-cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN test -z "$TORCH_INDEX" || pip --python /opt/clipcite/bin/python install --no-deps --constraint /constraints.txt \
        --index-url "$TORCH_INDEX" torch torchvision \
    || { echo "No PyTorch from $TORCH_INDEX (see above). Name a mirror with --build-arg TORCH_INDEX=URL, or take the wheels of" \
        "PyPI, which are 4 GB larger, with --build-arg TORCH_INDEX=" >&2; exit 1; }
RUN pip --python /opt/clipcite/bin/python install --constraint /constraints.txt --requirement /requirements.txt
COPY . /source
RUN pip --python /opt/clipcite/bin/python install --no-deps /source

FROM runtime AS cpu
COPY --from=build-cpu /opt/clipcite /opt/clipcite

FROM build AS build-cuda
RUN pip --python /opt/clipcite/bin/python install --constraint /constraints.txt --requirement /requirements.txt
COPY . /source
RUN pip --python /opt/clipcite/bin/python install --no-deps /source

FROM runtime AS cuda
COPY --from=build-cuda /opt/clipcite /opt/clipcite
# Parts that the NVIDIA container toolkit mounts: the CUDA driver libraries and nvidia-smi.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
