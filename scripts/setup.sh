#!/usr/bin/env bash
# Installs what a Debian machine with rustup lacks: as root by apt and rustup, otherwise it prints the exact commands and fails.
# usage: setup.sh build|test|bench|languages
set -eu
cd "$(dirname "$0")/.."
need=()
has() { command -v "$1" >/dev/null 2>&1; }
want() { has "$1" || need+=("$2"); } # command, Debian package

want cc gcc
# Debian only recommends the C library's headers beside gcc; without them nothing links.
[ -e /usr/include/stdio.h ] || need+=(libc6-dev)
want make make
# Encoders of recordings, opened when the node runs: it is built without them.
found() { ldconfig -p 2>/dev/null | grep -q "$1" || PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | grep -q "$1"; }
found libmp3lame.so.0 || need+=(libmp3lame0)
found libopus.so.0 || need+=(libopus0)
if [ "${1:-build}" = test ]; then
  want openssl openssl       # opens recordings that are encrypted with a tenant's key
  want sipp sip-tester       # the SIP peer that every call story runs against
  want baresip baresip-core  # a softphone as caller
  want kamailio kamailio     # a proxy between the node and its peers
  want tshark tshark         # counts RTP on the wire
  want ffprobe ffmpeg        # judges recordings
  want sox sox
  want espeak-ng espeak-ng   # speaks; a node without it says so
  want unshare util-linux    # a disk of a test's own: full, or read-only
  want nsenter util-linux
  want mount mount
  PATH=$PATH:/sbin:/usr/sbin want ip iproute2 # network namespaces
  want python3 python3       # Schemathesis judges the API by its document
  # Debian's python3 can make a virtual environment only with this.
  python3 -c 'import ensurepip' 2>/dev/null || need+=(python3-venv)
fi
if [ "${1:-build}" = test ] || [ "${1:-build}" = languages ]; then
  want node nodejs           # compilers of handlers in other languages come by npm and pip
  want npm npm
  want python3 python3
  python3 -c 'import ensurepip' 2>/dev/null || need+=(python3-venv)
fi
if [ "${1:-build}" = bench ]; then
  want sipp sip-tester              # a second generator, and one who answers
  want taskset util-linux           # a core each
  want ffmpeg ffmpeg                # decodes MP3 and Opus
  # Peers. Debian 12 has no Asterisk; the bench says so.
  PATH=$PATH:/usr/sbin want kamailio kamailio
  want rtpengine rtpengine-daemon
fi
# Debian starts a service when it installs it, and then at each boot. The tests want kamailio as a program: started by them, on addresses
# of theirs.
quietly_installed() {
  local policy=/usr/sbin/policy-rc.d ours=
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && ours=$policy
  fi
  local status=0
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null || status=$?
  [ -z "$ours" ] || rm -f "$ours"
  case " $* " in *" kamailio "*) update-rc.d kamailio disable >/dev/null 2>&1 || systemctl disable kamailio >/dev/null 2>&1 || true ;; esac
  return $status
}
if [ ${#need[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ]; then
    echo "installing: ${need[*]}"
    apt-get update -qq
    quietly_installed "${need[@]}"
  else
    echo "missing: ${need[*]}. Run: sudo apt-get install -y ${need[*]}" >&2
    exit 1
  fi
fi

has cargo || { echo "missing: cargo. Install Rust by rustup (https://rustup.rs), then run this again." >&2; exit 1; }
channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
if has rustup; then
  rustup run "$channel" rustc --version >/dev/null 2>&1 || rustup toolchain install "$channel" --profile minimal --component rustfmt,clippy
  rustup target list --installed --toolchain "$channel" | grep -q '^wasm32-unknown-unknown$' || rustup target add --toolchain "$channel" wasm32-unknown-unknown
  for c in rustfmt clippy; do
    rustup component list --installed --toolchain "$channel" | grep -q "^$c" || rustup component add --toolchain "$channel" "$c"
  done
fi

# Versions are pinned; what is there already needs no network.
if [ "${1:-build}" = test ]; then
  venv=${CARGO_TARGET_DIR:-target}/schemathesis
  if ! cmp -s tests/schemathesis-requirements.txt "$venv/installed.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r tests/schemathesis-requirements.txt
    cp tests/schemathesis-requirements.txt "$venv/installed.txt"
  fi
fi

# Compilers of handlers in other languages, in the versions that the templates pin.
if [ "${1:-build}" = test ] || [ "${1:-build}" = languages ]; then
  tools=${CARGO_TARGET_DIR:-target}/languages
  templates=node/src/build/template
  pins=$(cat "$templates"/js/package-lock.json "$templates"/*/requirements.txt | sha256sum)
  if [ "$pins" != "$(cat "$tools/installed" 2>/dev/null)" ]; then
    mkdir -p "$tools"
    for f in package.json package-lock.json; do sed 's/@NAME@/languages/' "$templates/js/$f" >"$tools/$f"; done
    (cd "$tools" && npm ci --no-audit --no-fund --loglevel=error >/dev/null)
    python3 -m venv --clear "$tools/venv"
    for f in "$templates"/*/requirements.txt; do
      "$tools/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$f"
    done
    echo "$pins" >"$tools/installed"
  fi
fi
