#!/bin/sh
# Makes a stand-in for the official image of RabbitMQ, under the tag that docker-compose.yml and testcontainers ask for, where a Docker daemon runs and no registry
# is reached. It is made of the Debian that `cargo xtask brokers up rabbitmq --native` has put below target/, and does of the official one what tests need: the
# management plugin, a user from the environment, logs on standard output, and a guest who may come from outside of the container.
#
#   xtask/stand-in-image.sh TAG [FOLDER]        for example: xtask/stand-in-image.sh 4.3.6-management
#
# `docker image rm rabbitmq:TAG` removes it again: nobody should take it for the official one later.
set -eu
tag=${1:?say the tag, such as 4.3.6-management}
release=$(echo "$tag" | cut -d. -f1,2)
cd "$(dirname "$0")/.."
tree=${2:-${CARGO_TARGET_DIR:-target}/brokers/rabbitmq-$release/debian}
[ -f "$tree/made-by-convoy" ] || {
    echo "$tree is not there: cargo xtask brokers up rabbitmq --native --release $release" >&2
    exit 1
}
if docker image inspect "rabbitmq:$tag" >/dev/null 2>&1; then
    echo "there is an image rabbitmq:$tag already" >&2
    exit 1
fi
context=$(mktemp -d)
trap 'rm -r "$context"' EXIT
cat > "$context/start" <<'START'
#!/bin/sh
set -e
[ "$1" = rabbitmq-server ] || exec "$@"
{
    echo "loopback_users.guest = false"
    echo "log.console = true"
    [ -z "$RABBITMQ_DEFAULT_USER" ] || echo "default_user = $RABBITMQ_DEFAULT_USER"
    [ -z "$RABBITMQ_DEFAULT_PASS" ] || echo "default_pass = $RABBITMQ_DEFAULT_PASS"
    [ -z "$RABBITMQ_DEFAULT_VHOST" ] || echo "default_vhost = $RABBITMQ_DEFAULT_VHOST"
} > /etc/rabbitmq/conf.d/10-defaults.conf
chown -R rabbitmq:rabbitmq /var/lib/rabbitmq /var/log/rabbitmq
cd /var/lib/rabbitmq
exec setpriv --reuid=rabbitmq --regid=rabbitmq --init-groups env HOME=/var/lib/rabbitmq /usr/lib/rabbitmq/bin/rabbitmq-server
START
cat > "$context/Dockerfile" <<'DOCKERFILE'
ARG base
FROM $base
RUN mkdir -p /etc/rabbitmq/conf.d && echo '[rabbitmq_management].' > /etc/rabbitmq/enabled_plugins
COPY start /usr/local/bin/start
ENV LANG=C.UTF-8
EXPOSE 5672 15672
ENTRYPOINT ["/usr/local/bin/start"]
CMD ["rabbitmq-server"]
DOCKERFILE
chmod 755 "$context/start"
base=convoy-stand-in-base:$release
tar --one-file-system --exclude=./proc/* --exclude=./dev/* --exclude=./srv/node -C "$tree" -c . | docker import - "$base"
docker build --quiet --build-arg "base=$base" --tag "rabbitmq:$tag" "$context"
docker image rm "$base" >/dev/null
