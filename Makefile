# Needs nothing but Go and make; units needs systemd-analyze. PKGS limits test, check and fuzz to some packages.
# SOAKFLAGS may be -soak.seed N.
export PKGS ?= ./...
export FUZZTIME ?= 10s
export SOAK ?= 30m
export BENCH ?= .

.PHONY: help test check conformance build bench fuzz soak screenshots packages units image clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile

test: ## run every check and every test; as root, first install what they use
	@scripts/test

check: ## run the checks without the tests
	@scripts/test check

conformance: ## try Microsoft's own clients of Key Vault on the embedded vault
	@scripts/test conformance

build: ## build the programs into bin/
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...

bench: ## print the figures of docs/operations.md; BENCH limits it, such as BENCH=Release
	@scripts/bench

fuzz: ## run every fuzz target for FUZZTIME
	@scripts/fuzz

soak: ## kill servers, agents and PostgreSQL at random for SOAK, and check what is promised
	@scripts/test soak $(SOAK) $(SOAKFLAGS)

screenshots: ## take a picture of every page, in both themes, into dist/screenshots
	mkdir -p dist/screenshots && LATCHKEY_TEST_SCREENSHOTS=$(CURDIR)/dist/screenshots LATCHKEY_TEST_CHROMIUM=required go test -count=1 ./internal/browsertest

packages: ## make deb and rpm packages in dist/ (VERSION, SOURCE_DATE_EPOCH)
	go -C tools run ./packages .. ../dist

units: ## print how exposed systemd finds the units, setting by setting
	systemd-analyze security --offline=true --no-pager packaging/systemd/*.service

image: ## make the container image in dist/latchkey.oci.tar (VERSION, SOURCE_DATE_EPOCH)
	go -C tools run ./image .. ../dist

clean: ## remove what the others made
	rm -rf bin dist
