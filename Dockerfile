# The daemon:    docker build --tag gatekeeper .
# The tests:     docker build --target test .
#
# The configuration is not in the image; docs/cluster has a whole example.

# --- What has to pass: the steps are those of .ci/run ---------------------------------------------

FROM python:3.11-bookworm AS test
WORKDIR /src
COPY . .
RUN .ci/run

# --- What is needed to install it, and not to run it ----------------------------------------------

FROM python:3.11-slim-bookworm AS build
RUN python -m venv /opt/gatekeeper
WORKDIR /src
COPY pyproject.toml setup.cfg README.rst LICENSE ./
COPY gatekeeper gatekeeper
COPY twisted twisted
RUN /opt/gatekeeper/bin/pip install --no-cache-dir '.[credits,golem,grpc,postgres,redis]'
# Twisted keeps a list of plug-ins beside them, which the daemon's user could not write. -P: what is
# installed, and not what is in this directory.
RUN /opt/gatekeeper/bin/python -P -c \
    'from twisted import plugin, plugins; from gatekeeper import plugins as ours; \
    [list(plugin.getPlugins(plugin.IPlugin, each)) for each in (plugins, ours)]'

# --- What runs ------------------------------------------------------------------------------------

FROM python:3.11-slim-bookworm AS runtime
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin gatekeeper \
    && install --directory --owner gatekeeper --group gatekeeper --mode 0700 /var/lib/gatekeeper
COPY --from=build /opt/gatekeeper /opt/gatekeeper
ENV PATH=/opt/gatekeeper/bin:$PATH PYTHONUNBUFFERED=1
USER gatekeeper
# state_dir: a new volume here belongs to the user.
WORKDIR /var/lib/gatekeeper
VOLUME /var/lib/gatekeeper
# Where the configuration of docs/cluster listens; the second one is the management, not for clients.
EXPOSE 8080 6668
# No shell between: SIGTERM, with which a container is stopped, drains; SIGHUP reloads.
ENTRYPOINT ["/opt/gatekeeper/bin/twistd", "--nodaemon", "--pidfile=", "gatekeeper"]
CMD ["--config", "/etc/gatekeeper/gatekeeper.toml"]
