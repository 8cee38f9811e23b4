# make run    install what is missing, build node and example guests, start the node with the demo tenant
# make test   everything: format, lints, licences, docs, unit tests, end-to-end tests against real peers
# make check  the quick checks alone      make build   target/release/hookswitch
# make guests the example components (languages: those in C, JavaScript and Python)      make bench   the published numbers, into target/bench.json and bench.svg
# make soak   load in waves for MINUTES=10, HOSTILE=2 minutes more beside a hostile tenant (0 if not said), then FAULTS=5 minutes of faults; whether anything is left behind or lost, into target/soak.json

TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),$(CURDIR)/target)
HOOKSWITCH := $(TARGET)/debug/hookswitch
GUESTS := $(TARGET)/guests
LANGUAGES := $(TARGET)/languages
EXAMPLES := $(notdir $(patsubst %/Cargo.toml,%,$(wildcard guest-examples/*/Cargo.toml)))

# The menu in other languages; their compilers are installed below the target folder.
OTHERS := menu-c menu-js menu-python

.PHONY: run test check build guests languages bench soak deny unit e2e node setup setup-test setup-bench clean help
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# //p' Makefile | head -5

setup:
	@scripts/setup.sh build
setup-test:
	@scripts/setup.sh test
setup-bench:
	@scripts/setup.sh bench

node: setup
	cargo build --locked -p hookswitch

guests: node
	@mkdir -p $(GUESTS)
	@for g in $(EXAMPLES); do $(HOOKSWITCH) guest build guest-examples/$$g --output $(GUESTS)/$$g.component.wasm || exit 1; done

languages: node
	@scripts/setup.sh languages
	@mkdir -p $(GUESTS)
	@for g in $(OTHERS); do PATH=$(LANGUAGES)/node_modules/.bin:$(LANGUAGES)/venv/bin:$$PATH ZIG_GLOBAL_CACHE_DIR=$(LANGUAGES)/zig \
		$(HOOKSWITCH) guest build guest-examples/$$g --output $(GUESTS)/$$g.component.wasm || exit 1; done

run: node guests
	$(HOOKSWITCH) run --demo

build: setup
	cargo build --locked --release -p hookswitch

check: setup deny
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo check --locked -p hookswitch --all-targets --no-default-features
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet

# Built with little optimisation: it runs for a second.
deny: setup
	@command -v cargo-deny >/dev/null || CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo install --locked --quiet cargo-deny
	cargo deny --all-features --locked check --hide-inclusion-graph licenses bans sources

unit: setup
	cargo test --locked --workspace --exclude hookswitch-tests

e2e: setup-test guests languages
	HOOKSWITCH_BIN=$(HOOKSWITCH) HOOKSWITCH_GUESTS=$(GUESTS) cargo test --locked -p hookswitch-tests

# All tests in one build: a part of the workspace alone asks for other features of the crates below, and everything on them is compiled again.
test: setup-test check guests languages
	HOOKSWITCH_BIN=$(HOOKSWITCH) HOOKSWITCH_GUESTS=$(GUESTS) cargo test --locked --workspace

# More by BENCH, e.g. BENCH="--only bridged --runs 1"; docs/bench.md has the options.
bench: setup-bench build guests languages
	@for g in relay recorder hostile phrases; do $(HOOKSWITCH) guest build tests/guests/$$g --output $(GUESTS)/$$g.component.wasm || exit 1; done
	cargo run --locked --release -p hookswitch-bench -- --node $(TARGET)/release/hookswitch --guests $(GUESTS) --output $(TARGET)/bench.json $(BENCH)

MINUTES ?= 10
HOSTILE ?= 0
FAULTS ?= 5
soak: setup-bench build guests
	$(HOOKSWITCH) guest build tests/guests/hostile --output $(GUESTS)/hostile.component.wasm
	HOOKSWITCH_BIN=$(TARGET)/release/hookswitch HOOKSWITCH_GUESTS=$(GUESTS) cargo run --locked --release -p hookswitch-bench -- \
		soak --minutes $(MINUTES) --hostile $(HOSTILE) --faults $(FAULTS) --report $(TARGET)/soak.json $(SOAK)

clean:
	cargo clean
