# docker build -t flow-operator .
# docs/deploy.md tells how it is run; manifests/compose.yaml does.

FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
# First what changes seldom. Nothing is installed that is not in a lock, by its hash.
RUN python -m venv --without-pip /opt/flow-operator \
    && python -m pip install --no-cache-dir --require-hashes --target /build \
        --requirement requirements-build.lock \
    && python -m pip --python /opt/flow-operator/bin/python install --no-cache-dir --no-deps \
        --only-binary :all: --require-hashes --requirement requirements.lock
COPY setup.py pyproject.toml README.md LICENSE ./
COPY operator operator
RUN PYTHONPATH=/build python -m pip wheel --no-cache-dir --no-deps --no-build-isolation \
        --wheel-dir /wheels . \
    && python -m pip --python /opt/flow-operator/bin/python install --no-cache-dir --no-deps \
        --no-index /wheels/*.whl \
    && /opt/flow-operator/bin/python -m compileall -q /opt/flow-operator/lib

FROM python:3.13-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="flow-operator" \
    org.opencontainers.image.description="Runs data flows declaratively: drains, supervises, adopts, tells what it sees." \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION" \
    org.opencontainers.image.created="$CREATED"
# Nobody installs anything in here. Steps find this Python too, with its standard library only.
RUN python -m pip uninstall --yes --quiet --root-user-action ignore pip \
    && rm -rf /usr/local/lib/python3*/ensurepip /usr/local/bin/pip*
COPY --from=build /opt/flow-operator /opt/flow-operator
# A named volume takes over the owner and the mode of the directory that it is mounted on. Group 0 is
# that of whoever has no name in here, so that --user with any number works, too.
RUN install --directory --owner 65532 --group 0 --mode 0770 /data \
    && install --directory --mode 0755 /manifests
# Set here, and not as options, for who asks in a container (flowctl, the health check) too. A stop takes
# as long as docker stop waits; with a longer --stop-timeout say so by FLOWD_STOP_GRACE.
ENV PATH=/opt/flow-operator/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    FLOWD_DATA=/data \
    FLOWD_MANIFESTS=/manifests \
    FLOWD_LISTEN=0.0.0.0:8710 \
    FLOWD_STOP_GRACE=10s
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 8710
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["flowd-health"]
ENTRYPOINT ["flowd-init"]
