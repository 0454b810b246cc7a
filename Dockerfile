# The broker with Kafka's tools: docker build -t strandline .
#
# BINARY=package takes the binary that config/linux/package has put into target/package instead of building one.
ARG BINARY=build

FROM rust:1.95.0-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake g++ lld make perl pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# What `strandline --version` names: --build-arg STRANDLINE_COMMIT=$(git rev-parse --short=12 HEAD).
ARG STRANDLINE_COMMIT=
RUN cargo build --profile dist --locked -p strandline-cli && strip -o /strandline target/dist/strandline

FROM scratch AS package
COPY target/package/strandline-* /strandline

FROM ${BINARY} AS binary

# For S3: root certificates, without the tools that keep them.
FROM debian:bookworm-slim AS certificates
RUN [ -e /etc/ssl/certs/ca-certificates.crt ] || { apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates; }

FROM debian:bookworm-slim
COPY --from=certificates /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=binary /strandline /usr/local/bin/strandline
RUN strandline tools install /usr/local/bin >/dev/null \
    && groupadd --system --gid 1000 strandline \
    && useradd --system --uid 1000 --gid strandline --home-dir /var/lib/strandline strandline \
    && install -d -o strandline -g strandline -m 750 /var/lib/strandline /var/lib/strandline/data
COPY config/container.properties /etc/strandline/server.properties
USER strandline
WORKDIR /var/lib/strandline
VOLUME /var/lib/strandline
EXPOSE 9092 9093 9644
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["strandline", "health"]
# A broker hands over what it leads before it ends.
STOPSIGNAL SIGTERM
ENTRYPOINT ["strandline"]
CMD ["server", "/etc/strandline/server.properties"]
