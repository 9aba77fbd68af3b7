# Functions that the scripts share; sourced from the project's folder.

have() { command -v "$1" >/dev/null 2>&1; }

# The directory of cargo's builds.
target_directory() { printf '%s' "${CARGO_TARGET_DIR:-$PWD/target}"; }

# The binary under test: as given, else the debug build.
everywire_binary() { printf '%s' "${EVERYWIRE_BIN:-$(target_directory)/debug/everywire}"; }

# Runs a command that needs the network: a failed one is tried again, up to two times.
again() { "$@" || "$@" || "$@"; }

# Runs a command as root, as far as that can be.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}
