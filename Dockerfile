# syntax=docker/dockerfile:1
# One image for the API, the workers, the migrations and the nodes of a Ray cluster: `quantrank` is the entry point.
#   docker build --tag quantrank:cpu --build-arg REVISION=$(git describe --always --dirty --abbrev=12) .
#   docker build --tag quantrank:cuda --build-arg TORCH_INDEX=https://pypi.org/simple ...
# Layers are in the order in which they change: system, torch, what else is depended on, the code.
FROM python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3 AS base
# Training's kernels are compiled for the processor they run on, at first use. Debian's mirrors keep one version of g++
# for each release, so that a pinned one would once not be found.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 quantrank \
    && install --directory --owner quantrank --group quantrank /data /data/home /data/artifacts /data/datasets
ENV PATH=/opt/quantrank/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1

FROM base AS dependencies
# Where torch comes from decides what it runs on: this index has it for CPUs, PyPI for NVIDIA's GPUs.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Those of constraints.txt, which itself changes more often.
ARG TORCH=2.15.0 TORCHVISION=0.29.2
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/quantrank \
    && pip install "torch==${TORCH}" "torchvision==${TORCHVISION}" --index-url "${TORCH_INDEX}"
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -c "import tomllib; from pathlib import Path; \
project = tomllib.loads(Path('pyproject.toml').read_text())['project']; extras = project['optional-dependencies']; \
print(*project['dependencies'], *extras['s3'], *extras['cluster'], sep='\\n')" > requirements.txt \
    && pip install --requirement requirements.txt --constraint constraints.txt

FROM dependencies AS wheel
COPY README.md ./
COPY migrations migrations
COPY qcore qcore
COPY searcher searcher
COPY service service
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM base
COPY --from=dependencies /opt/quantrank /opt/quantrank
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install --no-cache-dir --no-deps --no-index /wheel/*.whl
# Which every result says that this image trains: `git describe --always --dirty --abbrev=12`.
ARG REVISION=
ENV QUANTRANK_REVISION=${REVISION} \
    PYTHONSAFEPATH=1 \
    QUANTRANK_HOME=/data/home \
    QUANTRANK_ARTIFACTS=/data/artifacts \
    QUANTRANK_DATASETS=/data/datasets
USER 1000:1000
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["quantrank"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
