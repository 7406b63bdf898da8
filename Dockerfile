# dbkit and Locust, for seed, master and workers alike; docker-compose.yml says what each of them runs.
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN useradd --create-home dbkit
WORKDIR /dbkit

# what is pinned changes seldom; in a layer of its own it is installed again only then
COPY requirements.txt .
RUN grep -v '^--editable' requirements.txt | pip install -r /dev/stdin

COPY . .
RUN pip install --no-deps --editable .

USER dbkit
