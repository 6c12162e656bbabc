# Sourced by the scripts beside it: finds the repository and keeps its virtual environment as the lock says.
# shellcheck shell=bash

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd -P)
venv="$root/.venv"

# Ours alone: another project's modules must not get in, nor compiled files into the tree.
unset PYTHONHOME PYTHONDONTWRITEBYTECODE
export PYTHONPATH="$root:$root/gen"

say() { printf 'sampan: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

# help TEXT ARGUMENTS...: prints TEXT and ends if the first argument asks for it.
help() {
    local text=$1
    shift
    case "${1-}" in
        -h | --help) printf '%s\n' "$text"; exit 0 ;;
    esac
}

# ensure runtime|dev: makes or updates the virtual environment. Costs a few milliseconds when there is nothing to do.
ensure() {
    if ! is_current "$1"; then
        mkdir -p "$venv"
        exec 9>"$venv/.lock"
        # Parallel calls wait for the first, then find its work done. Without flock they may repeat it.
        if command -v flock >/dev/null; then flock 9; fi
        if ! is_current "$1"; then install_packages "$1"; fi
        exec 9>&-
    fi
    if [ -w "$venv" ]; then
        export PYTHONPYCACHEPREFIX="$venv/bytecode"
    else
        export PYTHONPYCACHEPREFIX="${SAMPAN_HOME:-$root/.sampan}/cache"
    fi
}

lock_of() { if [ "$1" = dev ]; then echo requirements-dev.lock; else echo requirements.lock; fi; }

# Whether what was last installed is what the lock now says. The dev lock includes the other.
is_current() {
    [ -x "$venv/bin/python" ] || return 1
    local lock
    for lock in requirements-dev.lock "$(lock_of "$1")"; do
        if cmp -s "$root/$lock" "$venv/.installed-$lock"; then return 0; fi
    done
    return 1
}

install_packages() {
    local lock
    lock=$(lock_of "$1")
    say "installing what $lock names into .venv; the first time this takes a minute"
    if command -v uv >/dev/null; then install_with_uv "$lock"; else install_with_pip "$lock"; fi
    cp "$root/$lock" "$venv/.installed-$lock"
}

install_with_uv() {
    if ! works "$venv/bin/python"; then
        local python
        python=$(find_python)
        uv venv --quiet --allow-existing --python "$python" "$venv" 9>&-
    fi
    uv pip install --quiet --no-deps --require-hashes --python "$venv/bin/python" -r "$root/$1" 9>&- ||
        die "uv could not install the packages of $1: see the lines above"
}

install_with_pip() {
    if ! works "$venv/bin/python" || ! has_pip; then
        local python
        python=$(find_python)
        "$python" -m venv "$venv" 9>&- || die "$python -m venv failed: see the lines above"
    fi
    # Compiling is left to the first start: it compiles a fifth of it. The lock is whole, so nothing is looked up:
    # older pips would want the newest release for a name with an extra, and refuse it for having no hash.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes \
        -r "$root/$1" 9>&- || die "pip could not install the packages of $1: see the lines above"
}

works() { [ -x "$1" ] && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
# uv needs no help to make one.
makes_venvs() { command -v uv >/dev/null || "$1" -c 'import ensurepip, venv' 2>/dev/null; }
has_pip() { "$venv/bin/python" -c 'import pip' 2>/dev/null; }

# A system's own Python is built with all that makes it fast; what pyenv compiles takes a quarter more CPU.
find_python() {
    local name
    for name in ${SAMPAN_PYTHON:+"$SAMPAN_PYTHON"} /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if name=$(command -v "$name") && works "$name" && makes_venvs "$name"; then
            echo "$name"
            return
        fi
    done
    die "needs Python 3.11 or newer with venv; python3 is $(python3 --version 2>/dev/null || echo absent)." \
        "Install one, or name it: SAMPAN_PYTHON=/path/to/python3. On Debian or Ubuntu: apt install python3-venv" \
        "(as root). Or install uv."
}

# -P: what lies in the caller's folder is no module of ours.
python() { "$venv/bin/python" -P "$@"; }
sampan() { exec "$venv/bin/python" -P -m services.stack.cli "$@"; }
