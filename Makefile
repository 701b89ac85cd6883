# make run    everything a newcomer needs, served at http://localhost:8080
# make test   what must hold before a commit lands

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 10s

.PHONY: run test check build fuzz postgres

run: postgres userspace
	@exec ./userspace dev

test: postgres check
	@scripts/need cc
	go test -race -shuffle=on ./...

check:
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt would change: $$unformatted"; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...

build: userspace

# Static and reproducible; the Dockerfile has the same line.
.PHONY: userspace
userspace:
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o userspace .

# Each fuzz target for FUZZTIME.
fuzz:
	@for target in $$(go test -list '^Fuzz' . | grep '^Fuzz'); do \
		echo "== $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) . || exit 1; done

postgres:
	@scripts/need postgres
