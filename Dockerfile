# A static binary in an empty image, as an ordinary user.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# The Makefile has the same line.
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o userspace .

FROM scratch
# Certificate authorities, for mail servers and managed databases.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/userspace /userspace
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["/userspace", "healthcheck"]
ENTRYPOINT ["/userspace"]
