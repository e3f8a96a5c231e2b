# Two stages: the compiler stays behind, and what is left is one static binary
# without a shell, owned by nobody who can do anything.
#
#   docker build -t emberline:0.1.0 .
#   docker run --rm -p 7379:7379 emberline:0.1.0 serve --redis-bind 0.0.0.0:7379
#   docker run --rm -v ./emberline.toml:/emberline.toml:ro emberline:0.1.0 serve -c /emberline.toml

ARG RUST_VERSION=1.95
FROM rust:${RUST_VERSION}-alpine AS build
RUN apk add --no-cache build-base
WORKDIR /src
COPY . .
# musl links statically; the allocator is the binary's own.
RUN cargo build --release --locked -p emberline --bin emberline \
    && strip target/release/emberline

FROM scratch
COPY --from=build /src/target/release/emberline /emberline
USER 65532:65532
EXPOSE 7379 12211 9780
ENTRYPOINT ["/emberline"]
# No shell and no curl in here; the binary asks itself.
HEALTHCHECK --interval=10s --timeout=2s CMD ["/emberline", "healthcheck"]
CMD ["serve"]
