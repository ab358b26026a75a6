# Everything a person types, once. `make help` prints this list.

DESTDIR ?=
PREFIX  ?= /usr
# A tag names the version, and commits after it count: v0.2.0 is 0.2.0, three later is 0.2.0+3.gCOMMIT. Without a tag
# it is that of the newest entry in the changelog.
VERSION ?= $(or $(shell git describe --tags --match 'v[0-9]*' 2>/dev/null | sed 's/^v//;s/-\([0-9]*\)-\(g[0-9a-f]*\)$$/+\1.\2/'),$(shell \
	sed -n '/^- semver: /{s///;s/-[0-9]*$$//;p;q}' packaging/changelog.yaml))
GO      ?= go

LIBEXEC  = $(DESTDIR)$(PREFIX)/libexec/zerolet
UNITLIB  = $(DESTDIR)$(PREFIX)/lib/systemd
MAN      = $(DESTDIR)$(PREFIX)/share/man
BINS     = bin/zerolet bin/zerolet-generator bin/zerolet-proxy bin/zerolet-standin
PAGES    = bin/man/zerolet.1 bin/man/zerolet.container.5 bin/man/zerolet-generator.8 bin/man/zerolet-proxy.8
# Tools of the build have a module of their own. A distribution sets MD2MAN=go-md2man.
TOOL     = $(GO) tool -modfile=$(CURDIR)/packaging/tools/go.mod
MD2MAN  ?= $(TOOL) go-md2man
# The time in the packages is the last commit's: the same source makes the same package.
EPOCH    = $(shell git log -1 --format=%ct 2>/dev/null || date +%s)
ARCHIVE  = tar --create --gzip --sort=name --format=gnu --mtime=@$(EPOCH) --owner=0 --group=0 --numeric-owner
STAMP    = github.com/zerolet/zerolet/cmd/internal/release.version
SOURCES  = $(shell find cmd generator proxy quadlet -name '*.go' -not -name '*_test.go') cmd/zerolet/zerolet.1.md go.mod go.sum

.DEFAULT_GOAL := help
.PHONY: always help build install install-cockpit package sources check test unit attack lint lab demo pictures golden fuzz bench soak clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: $(BINS) $(PAGES) ## build the three programs and their manual pages into bin/

# Static programs run in any image; -trimpath keeps the builder's paths out.
bin/%: $(SOURCES) bin/version
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X $(STAMP)=$(VERSION)' -o $@ ./cmd/$*

# Another version is a reason to build, the same one is not.
bin/version: always
	@mkdir -p bin
	@echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' >$@

bin/man/zerolet.1 bin/man/zerolet.container.5: bin/man/%: cmd/zerolet/%.md
bin/man/zerolet-generator.8: bin/man/%: cmd/zerolet-generator/%.md
bin/man/zerolet-proxy.8: bin/man/%: cmd/zerolet-proxy/%.md
$(PAGES):
	@mkdir -p bin/man
	$(MD2MAN) -in $< -out $@

install: build ## install below DESTDIR and PREFIX (default /usr)
	install -D -m 0755 -t $(LIBEXEC) bin/zerolet-generator bin/zerolet-proxy
	install -D -m 0755 -t $(LIBEXEC)/standin bin/zerolet-standin
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin bin/zerolet
	install -d $(UNITLIB)/system-generators $(UNITLIB)/user-generators
	ln -sfr $(LIBEXEC)/zerolet-generator $(UNITLIB)/system-generators/zerolet-system-generator
	ln -sfr $(LIBEXEC)/zerolet-generator $(UNITLIB)/user-generators/zerolet-user-generator
	for manager in system user; do \
		install -D -m 0644 -t $(UNITLIB)/$$manager packaging/systemd/zerolet-update.service packaging/systemd/zerolet-update.timer; \
	done
	for page in $(PAGES); do install -D -m 0644 -t $(MAN)/man$${page##*.} $$page; done
	install -D -m 0644 packaging/completion/zerolet.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/zerolet
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/zsh/site-functions packaging/completion/_zerolet
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d packaging/completion/zerolet.fish

install-cockpit: ## install the page in Cockpit, which is a package of its own
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/cockpit/zerolet packaging/cockpit/*

package: ## make dist/*.deb and dist/*.rpm
	rm -rf dist/root dist/root-cockpit && mkdir -p dist
	$(MAKE) install DESTDIR=$(CURDIR)/dist/root PREFIX=/usr
	$(MAKE) install-cockpit DESTDIR=$(CURDIR)/dist/root-cockpit PREFIX=/usr
	find dist/root/usr/share/man -type f -exec gzip -9n {} +
	for kind in deb rpm; do for package in nfpm nfpm-cockpit; do \
		SOURCE_DATE_EPOCH=$(EPOCH) VERSION=$(VERSION) ARCH=$$($(GO) env GOARCH) \
			$(TOOL) nfpm package --config packaging/$$package.yaml --packager $$kind --target dist || exit 1; \
	done; done

sources: ## make dist/*.tar.gz, what packaging/rpm/zerolet.spec builds from
	mkdir -p dist
	git ls-files -z | $(ARCHIVE) --transform 'flags=r;s,^,zerolet-$(VERSION)/,' --null --files-from=- --file dist/zerolet-$(VERSION).tar.gz
	$(GO) mod vendor -o dist/vendor
	$(ARCHIVE) --directory dist --file dist/zerolet-$(VERSION)-vendor.tar.gz vendor
	cp packaging/rpm/go-vendor-tools.toml dist && rm -r dist/vendor

check: lint unit ## lint, and run every test that needs no root
	$(GO) -C test test -short -count=1 ./...

test: unit ## run every test, the lab's included, about half an hour (as root; installs what it needs)
	@# Go tells of one package after another, in their order. As JSON it tells of each test at once.
	@echo 'A package is told of when all of its tests have ended: nothing for minutes is as it should be.'
	@echo 'TESTFLAGS=-json tells of each test as it ends.'
	$(GO) -C test test -count=1 -timeout 45m $(TESTFLAGS) ./...

unit:
	$(GO) test ./...
	@# Go's cache does not see that these tests install and read the rest of the repository.
	$(GO) -C test/knative test -count=1 ./...
	$(GO) -C test/butane test -count=1 ./...

attack: ## attack what runs, one case for each way to be trusted wrongly (as root)
	$(GO) -C test test -count=1 -v ./attack

lint: ## vet, format and lint all modules
	$(GO) tool -modfile=$(CURDIR)/.ci/tools/go.mod golangci-lint run ./...
	cd test && $(GO) tool -modfile=$(CURDIR)/.ci/tools/go.mod golangci-lint run ./...
	cd test/knative && $(GO) tool -modfile=$(CURDIR)/.ci/tools/go.mod golangci-lint run ./...
	cd test/butane && $(GO) tool -modfile=$(CURDIR)/.ci/tools/go.mod golangci-lint run ./...

lab: ## boot a lab with zerolet and leave it running
	$(MAKE) install DESTDIR=$(CURDIR)/bin/root PREFIX=/usr
	$(GO) -C test run ./lab/cmd/lab -install $(CURDIR)/bin/root -images app,nginx

demo: ## show the main job on a real container, in a lab (SVG=docs/demo.svg draws it, too)
	$(GO) -C test run ./demo $(if $(SVG),-svg $(abspath $(SVG)))

pictures: ## draw the pictures of the page in Cockpit, and of the one that waits, anew (as root)
	$(GO) -C test test -count=1 ./cockpit -run TestPictures -pictures
	mkdir -p bin/pictures
	$(GO) -C test test -count=1 ./system -run 'TestInFront$$' -pictures $(CURDIR)/bin/pictures
	cp bin/pictures/waiting-light.png docs/

golden: ## write the golden files of the tests anew
	$(GO) test ./cmd/zerolet -update
	$(GO) -C test/knative test . -update
	$(GO) -C test test ./oracle -update

fuzz: ## fuzz the readers, a minute each, and the corpus with random keys
	$(GO) test ./quadlet -run '^$$' -fuzz FuzzParse -fuzztime 1m
	$(GO) test ./quadlet/scale -run '^$$' -fuzz FuzzSpan -fuzztime 1m
	$(GO) test ./quadlet/scale -run '^$$' -fuzz FuzzPublish -fuzztime 1m
	$(GO) test ./proxy/internal/head -run '^$$' -fuzz FuzzRead -fuzztime 1m
	$(GO) test ./generator -run '^$$' -fuzz FuzzUnits -fuzztime 1m -fuzzminimizetime 20x
	$(GO) test ./cmd/zerolet/internal/knative -run '^$$' -fuzz FuzzExport -fuzztime 1m
	$(GO) -C test test -count=1 -timeout 60m ./oracle -run 'Test(Random|Circles)$$' -seed 0 -rounds 5

bench: ## measure, and write docs/internals/benchmarks.md (as root; BENCH=generator, many, freeze, health, traffic or cold for one case)
	$(if $(filter-out generator,$(BENCH)),,cd test && $(GO) run ./bench generator)
	$(if $(filter-out many,$(BENCH)),,cd test && $(GO) run ./bench many $(MANY))
	$(if $(filter-out freeze,$(BENCH)),,cd test && $(GO) run ./bench freeze $(FREEZE))
	$(if $(filter-out health,$(BENCH)),,cd test && $(GO) run ./bench health $(HEALTH))
	$(if $(filter generator many freeze health,$(BENCH)),,cd test && $(GO) run ./bench/traffic -out ../docs/internals/benchmarks.md \
		$(if $(filter cold,$(BENCH)),-load=false -memory=false -rounds=11) $(TRAFFIC))

# The newest systemd and Podman take their turn with everything; "make test" does a little of it there.
soak: ## provoke what is random or slow, and all of forky, three quarters of an hour (as root; SEED=1 COUNT=10000 LIMIT=17m: longer)
	for suite in trixie forky; do \
		$(GO) -C test test -count=1 -timeout 40m -v ./reliability -suite=$$suite -soak \
			$(if $(SEED),-seed=$(SEED)) $(if $(COUNT),-wakes=$(COUNT)) $(if $(LIMIT),-limit=$(LIMIT)) || exit 1; \
	done
	$(GO) -C test test -count=1 -timeout 40m ./system ./protocols -suite=forky
	$(GO) -C test test -count=1 -timeout 20m -v ./cockpit -run TestMany -soak
	$(GO) -C test/traefik test -count=1 ./...

clean: ## remove what was built
	rm -rf bin dist
