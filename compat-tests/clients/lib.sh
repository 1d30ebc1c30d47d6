# Shared by the client scripts: which server to test, and how to start it.
#
# Each script takes one argument, the server: `oxkeeper` (default), `oracle` (the real Apache
# ZooKeeper), or host:port of a running one. Its last line is `N passed, N failed, N skipped`.

compat_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache_dir="${XDG_CACHE_HOME:-$HOME/.cache}/oxkeeper"
target_dir="${CARGO_TARGET_DIR:-$cache_dir/target}"
compat_profile="${COMPAT_PROFILE:-release}"

# The starter of servers, built when it is not there.
compat_server() {
    local binary="$target_dir/$compat_profile/compat-server"
    if [ ! -x "$binary" ]; then
        local flag=()
        [ "$compat_profile" = release ] && flag=(--release)
        (cd "$compat_dir" && CARGO_TARGET_DIR="$target_dir" \
            cargo build "${flag[@]}" -p oxkeeper-compat-tests --bin compat-server) >&2
    fi
    "$binary" "$@"
}

# Sets $address to a server for $1, started if need be, and ended with the script.
start_server() {
    case "$1" in
    oxkeeper | oracle)
        coproc server { compat_server "$@"; }
        if ! read -r -t 300 address <&"${server[0]}"; then
            echo "the server ($1) did not start" >&2
            exit 1
        fi
        ;;
    *:*) address=$1 ;;
    *)
        echo "no such server: $1 (oxkeeper, oracle or host:port)" >&2
        exit 2
        ;;
    esac
}
