# docker build -t flow-operator .
# docker run -p 127.0.0.1:8710:8710 -v flowd:/data -v "$PWD/manifests/quickstart:/manifests:ro" \
#     --stop-timeout 60 flow-operator
#
# The stop timeout must be longer than what the flows need to drain; after it everything is killed.

FROM python:3.12-slim AS build
WORKDIR /src
COPY setup.py pyproject.toml README.md LICENSE ./
COPY operator operator
RUN pip wheel --no-cache-dir --wheel-dir /wheels . \
    && python -m venv --without-pip /opt/flow-operator \
    && pip --python /opt/flow-operator/bin/python install --no-cache-dir --no-index \
        --find-links /wheels flow-operator

FROM python:3.12-slim
COPY --from=build /opt/flow-operator /opt/flow-operator
# First on the PATH, so that steps find this python3 too.
ENV PATH=/opt/flow-operator/bin:$PATH
# Manifests are refused unless they belong to root or to the operator's own user. 1000 is who they
# belong to on most machines with one user; elsewhere give --user, and a /data of that user's.
# A named volume takes over the owner of the directory that it is mounted on.
RUN useradd --uid 1000 --no-create-home --home-dir /data --shell /usr/sbin/nologin flowd \
    && install --directory --owner flowd --group flowd --mode 0750 /data \
    && install --directory --mode 0755 /manifests
USER flowd
WORKDIR /data
VOLUME /data
EXPOSE 8710

# One request to the port that the operator listens on.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD \
    ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8710/livez', timeout=2)"]

# --insecure: within the container the port must be open to all addresses, or it could not be
# published. Who reaches it is decided where it is published: give -p a loopback address, as above.
# Whoever reaches it can run commands in this container, unless a secret is mounted that names who
# may: -e FLOWD_TOKENS=/run/secrets/tokens.yaml (see docs/security.md).
ENTRYPOINT ["flowd", "--data", "/data", "--manifests", "/manifests", \
    "--listen", "0.0.0.0:8710", "--insecure"]
