# One image for the API, the workers and the migrations: `quantrank` is the entry point.
# CUDA: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
FROM python:3.12-slim-bookworm

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1

# Training's kernels are compiled for the processor they run on, at first use.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

# Torch changes least and is largest: a layer of its own.
RUN pip install "torch>=2.9" "torchvision>=0.24" --index-url "${TORCH_INDEX}"

WORKDIR /src
COPY pyproject.toml README.md ./
COPY migrations migrations
COPY qcore qcore
COPY searcher searcher
COPY service service
RUN pip install . \
    && useradd --create-home --uid 1000 quantrank \
    && install -d -o quantrank /data/home /data/artifacts /data/datasets

USER quantrank
WORKDIR /data
ENV QUANTRANK_HOME=/data/home \
    QUANTRANK_ARTIFACTS=/data/artifacts \
    QUANTRANK_DATASETS=/data/datasets
EXPOSE 8000
ENTRYPOINT ["quantrank"]
CMD ["serve", "--host", "0.0.0.0"]
