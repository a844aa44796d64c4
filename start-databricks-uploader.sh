#!/usr/bin/env bash
# Run the uploader in a container, or with --local without one. See --help.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: start-databricks-uploader.sh [--local] CONFIG [arguments of the uploader]

Run the uploader with the YAML file CONFIG in a container. Paths in CONFIG, in variables and in
arguments are paths of this machine; the launcher mounts what they name:

  the directory of the SQLite database, read-only: its -wal and -shm files are needed too
  the state directory, a local lakehouse_path or table_path, and the directory of metrics_file, to be written
  CONFIG, CA file, secret files and the Databricks profile file, read-only

The container runs as you, with a read-only root and no privileges. Of the environment it gets the
uploader's own variables and the usual ones of Databricks, AWS, Azure and proxies; no others.

  --local      run the script with uv on this machine, without a container
  -h, --help   this text; `CONFIG --help` shows the uploader's own

Environment:
  IMAGE, TAG           the image, by default ghcr.io/your-org/databricks-uploader:latest
  CONTAINER_ENGINE     docker or podman (default: the first one found)
  CONTAINER_OPTIONS    further options of `docker run`, separated by spaces

Exit status: that of the uploader; 2 where the launcher refuses; 125 to 127 from the engine.

Examples:
  ./start-databricks-uploader.sh uploader.yaml
  ./start-databricks-uploader.sh uploader.yaml --once
  ./start-databricks-uploader.sh --local uploader.yaml --run-query INFO
EOF
}

# Variables that go into the container as they are. Those that name files are handled apart.
VARIABLES=(
    SQLITE_TABLE_NAME UPLOAD_TABLES TIMESTAMP_COL UPLOAD_TIMESTAMP_FORMAT UPLOAD_COLUMN_TYPES
    UPLOAD_CURSOR UPLOAD_LOOKBACK UPLOAD_SOURCE_TIMEZONE UPLOAD_SOURCE_ID DATABRICKS_ZEROBUS_ENDPOINT
    DATABRICKS_HOST DATABRICKS_SERVER_HOSTNAME DATABRICKS_HTTP_PATH DATABRICKS_WAREHOUSE_ID DATABRICKS_TOKEN
    DATABRICKS_DATABASE DATABRICKS_TABLE DATABRICKS_VOLUME DATABRICKS_STATEMENT_TIMEOUT
    DATABRICKS_CLIENT_ID DATABRICKS_CLIENT_SECRET DATABRICKS_CONFIG_PROFILE DATABRICKS_AUTH_TYPE
    STORAGE_OPTIONS ENABLE_SANITIZE ENABLE_FILTER ENABLE_AGGREGATE SANITIZE_CONFIG FILTER_CONFIG AGGREGATE_CONFIG
    SANITIZE_SECRET UPLOAD_INTERVAL UPLOAD_JITTER ONCE UPLOAD_BATCH_ROWS UPLOAD_SCHEMA UPLOAD_MAX_BAD_ROWS UPLOAD_ON_DOUBT
    UPLOAD_METRICS_ADDRESS UPLOAD_STATUS_TABLE
    ARM_CLIENT_ID ARM_CLIENT_SECRET ARM_TENANT_ID
    AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_REGION AWS_DEFAULT_REGION AWS_ENDPOINT_URL
    AWS_ALLOW_HTTP AWS_FORCE_CREDENTIAL_LOAD AZURE_ALLOW_HTTP AZURE_STORAGE_SAS_TOKEN
    AZURE_STORAGE_ACCOUNT_NAME AZURE_STORAGE_ACCOUNT_KEY AZURE_STORAGE_SAS_KEY
    AZURE_STORAGE_CLIENT_ID AZURE_STORAGE_CLIENT_SECRET AZURE_STORAGE_TENANT_ID
    HTTPS_PROXY HTTP_PROXY NO_PROXY https_proxy http_proxy no_proxy NO_COLOR TZ
)

# Variables that name a file: a secret, or the roots of TLS.
FILES=(DATABRICKS_TOKEN_FILE DATABRICKS_CLIENT_SECRET_FILE SANITIZE_SECRET_FILE SSL_CERT_FILE)

# The image's own user. Root's runs use it, so that the container never runs as root.
IMAGE_USER=65534:65534

fail() {
    printf 'start-databricks-uploader.sh: %s\n' "$1" >&2
    if [ -n "${2:-}" ]; then printf '  %s\n' "$2" >&2; fi
    exit 2
}

main() {
    local_run=false
    if [ "${1:-}" = --local ]; then
        local_run=true
        shift
    fi
    case ${1:-} in
        -h | --help)
            usage
            return
            ;;
        '') fail "CONFIG is missing" "Give the uploader's YAML file; --help shows more." ;;
        -*) fail "unknown option $1" "Options of the uploader come after CONFIG; --help shows more." ;;
    esac
    config=$(absolute "$1")
    shift
    [ -f "$config" ] || fail "$config does not exist or is no file" "Copy databricks-uploader-config.yaml.example."
    if "$local_run"; then run_script "$@"; else run_container "$@"; fi
}

run_script() {
    local repository
    repository=$(dirname "$(readlink -f "$0")")
    command -v uv >/dev/null || fail "uv is not installed" "Install it (pip install uv), or leave --local out."
    exec uv run --quiet --script "$repository/databricks-uploader/sqlite_to_databricks_uploader.py" \
        --config "$config" "$@"
}

run_container() {
    options=(run --rm --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges)
    arguments=(--config /config.yaml)
    read_arguments "$@"
    read_config
    find_engine
    mount_state
    mount_source
    pass_target
    pass_files
    mount_metrics
    pass_variables
    options+=(--user "$user")
    # A terminal would mix the log on stderr into the data on stdout, so all three must be one.
    if [ -t 0 ] && [ -t 1 ] && [ -t 2 ]; then options+=(--interactive --tty); fi
    # shellcheck disable=SC2206 # separated by spaces, as its description says
    options+=(${CONTAINER_OPTIONS:-})
    exec "$engine" "${options[@]}" "$(image)" "${arguments[@]}"
}

# Sort the uploader's arguments: paths into variables, since the container has paths of its own.
read_arguments() {
    sqlite='' state_dir='' table_path='' lakehouse_path='' ca_file='' metrics_file='' profile=''
    target_in_arguments=false needs_database=true
    while [ $# -gt 0 ]; do
        case $1 in
            --sqlite | --state-dir | --table-path | --lakehouse-path | --databricks-ca-file | --metrics-file)
                [ $# -gt 1 ] || fail "$1 needs a value"
                take_path "$1" "$2"
                shift
                ;;
            --sqlite=* | --state-dir=* | --table-path=* | --lakehouse-path=* | --databricks-ca-file=* | --metrics-file=*)
                take_path "${1%%=*}" "${1#*=}"
                ;;
            *)
                refuse_mount "$1" "${2:-}"
                note_argument "$1"
                arguments+=("$1")
                ;;
        esac
        shift
    done
}

take_path() {
    case $1 in
        --sqlite) sqlite=$2 ;;
        --state-dir) state_dir=$2 ;;
        --table-path) table_path=$2 target_in_arguments=true ;;
        --lakehouse-path) lakehouse_path=$2 target_in_arguments=true ;;
        --databricks-ca-file) ca_file=$2 ;;
        --metrics-file) metrics_file=$2 ;;
    esac
}

# The keys of CONFIG that name files and directories. One assignment each: a refusal has to end the script.
read_config() {
    yaml_sqlite=$(yaml_value 'sqlite|sqlite_path')
    yaml_state_dir=$(yaml_value state_dir)
    yaml_http_path=$(yaml_value databricks_http_path)
    yaml_zerobus=$(yaml_value zerobus_endpoint)
    yaml_table_path=$(yaml_value table_path)
    yaml_lakehouse_path=$(yaml_value lakehouse_path)
    yaml_ca_file=$(yaml_value databricks_ca_file)
    yaml_metrics_file=$(yaml_value metrics_file)
    yaml_profile=$(yaml_value databricks_config_profile)
}

# What an argument that is passed on says about the mounts.
note_argument() {
    case $1 in
        --databricks-http-path | --databricks-http-path=* | --zerobus-endpoint | --zerobus-endpoint=*)
            target_in_arguments=true
            ;;
        --databricks-config-profile | --databricks-config-profile=*) profile=given ;;
        --run-query | --run-query=* | --status | --version | --help | -h) needs_database=false ;;
        --local) fail "--local comes before CONFIG" ;;
    esac
}

# Options of `docker run` among the arguments: above all the mount of a single database file, which
# goes stale without a word, since its -wal and -shm files stay outside.
refuse_mount() {
    case "$1 $2" in
        --volume* | --mount* | '-v '*:/*)
            fail "$1 $2: mounts are not arguments of the uploader" \
                "Leave it out: the launcher mounts the whole directory of the database, which needs its -wal and -shm."
            ;;
    esac
}

find_engine() {
    engine=${CONTAINER_ENGINE:-}
    for candidate in docker podman; do
        if [ -z "$engine" ] && command -v "$candidate" >/dev/null; then engine=$candidate; fi
    done
    [ -n "$engine" ] || fail "neither docker nor podman is installed" "Install one, or use --local."
    command -v "$engine" >/dev/null || fail "CONTAINER_ENGINE: $engine is not installed"
    # Podman without root maps the caller to another number unless told to keep it.
    if [ "${engine##*/}" = podman ] && [ "$(id -u)" -ne 0 ]; then options+=(--userns=keep-id); fi
}

image() {
    local image=${IMAGE:-ghcr.io/your-org/databricks-uploader}
    case ${image##*/} in
        *[:@]*) printf '%s\n' "$image" ;;
        *) printf '%s:%s\n' "$image" "${TAG:-latest}" ;;
    esac
}

mount_state() {
    user=$(id -u):$(id -g)
    if [ "$(id -u)" -eq 0 ]; then user=$IMAGE_USER; fi
    state_dir=$(first "$state_dir" "${STATE_DIR:-}" "$yaml_state_dir" "$(default_state_dir)")
    state_dir=$(absolute "$state_dir")
    provide_directory "$state_dir"
    if [ "$(id -u)" -eq 0 ]; then
        user=$(owner_of "$state_dir")
        case $user in
            0:*) fail "$state_dir belongs to root, and the container does not run as root" \
                "Run: chown -R $IMAGE_USER '$state_dir'" ;;
        esac
    fi
    bind "$state_dir" /state
    options+=(--env STATE_DIR=/state)
}

# As the uploader chooses it.
default_state_dir() {
    if [ -d /state ]; then echo /state; else echo ./state; fi
}

mount_source() {
    local word
    for word in ${CONTAINER_OPTIONS:-}; do
        case $word in
            *:/data | *:/data[:/]* | *target=/data* | *destination=/data* | *dst=/data*)
                fail "CONTAINER_OPTIONS mounts $word" \
                    "Leave it out: /data is the whole directory of the database, which needs its -wal and -shm." ;;
        esac
    done
    sqlite=$(first "$sqlite" "${SQLITE_PATH:-}" "$yaml_sqlite")
    [ -n "$sqlite" ] || return 0
    sqlite=$(absolute "$sqlite")
    if [ ! -f "$sqlite" ]; then
        "$needs_database" || return 0
        fail "the database $sqlite does not exist or is no file" "Set sqlite to its path on this machine."
    fi
    # The side files lie beside the file itself, not beside a link to it.
    sqlite=$(readlink -f "$sqlite")
    check_source
    bind "$(dirname "$sqlite")" /data readonly
    options+=(--env "SQLITE_PATH=/data/$(basename "$sqlite")")
}

# Refuse what would read stale rows in silence.
check_source() {
    if is_mount_point "$sqlite"; then
        fail "$sqlite is mounted as a single file, so its -wal and -shm are elsewhere" "Mount its directory instead."
    fi
    if [ "$(uname -s)" != Linux ] && is_wal "$sqlite"; then
        fail "the file sharing of containers on this system does not carry a WAL database's -shm" "Use --local."
    fi
    if [ "$(dirname "$sqlite")" = / ]; then
        fail "$sqlite lies in the root directory, which can't be mounted" "Move it into a directory of its own."
    fi
}

is_mount_point() {
    [ -r /proc/self/mountinfo ] || return 1
    FILE=$1 awk '$5 == ENVIRON["FILE"] { found = 1 } END { exit !found }' /proc/self/mountinfo
}

# Byte 18 of the header is 2 for WAL (sqlite.org/fileformat.html, 1.3).
is_wal() {
    [ "$(od -An -j18 -N1 -tu1 "$1" | tr -d ' ')" = 2 ]
}

# The highest layer that names a target decides: arguments, environment, CONFIG. A lower one's must not be
# lifted into the environment, or there would be two.
pass_target() {
    if "$target_in_arguments"; then
        argument_target --table-path "$table_path"
        argument_target --lakehouse-path "$lakehouse_path"
    elif [ -n "${TABLE_PATH:-}${LAKEHOUSE_PATH:-}" ] || has_remote_variable; then
        variable_target TABLE_PATH "${TABLE_PATH:-}"
        variable_target LAKEHOUSE_PATH "${LAKEHOUSE_PATH:-}"
    elif [ -z "$yaml_http_path$yaml_zerobus" ]; then
        variable_target TABLE_PATH "$yaml_table_path"
        variable_target LAKEHOUSE_PATH "$yaml_lakehouse_path"
    fi
}

has_remote_variable() {
    [ -n "${DATABRICKS_HTTP_PATH:-}${DATABRICKS_WAREHOUSE_ID:-}${DATABRICKS_ZEROBUS_ENDPOINT:-}" ]
}

argument_target() {
    if [ -n "$2" ]; then
        mount_target "$2"
        arguments+=("$1" "$target")
    fi
}

variable_target() {
    if [ -n "$2" ]; then
        mount_target "$2"
        options+=(--env "$1=$target")
    fi
}

# A local target has the same path inside, so that the state also fits a run without a container.
mount_target() {
    target=${1#file://}
    case $target in
        *://*) return ;;
    esac
    target=$(absolute "$target")
    provide_directory "$target"
    bind "$target" "$target"
}

pass_files() {
    local name
    for name in "${FILES[@]}"; do pass_file "$name" "${!name:-}"; done
    pass_file DATABRICKS_CA_FILE "$(first "$ca_file" "${DATABRICKS_CA_FILE:-}" "$yaml_ca_file")"
    profile=$(first "$profile" "${DATABRICKS_CONFIG_PROFILE:-}" "$yaml_profile")
    pass_file DATABRICKS_CONFIG_FILE "$(first "${DATABRICKS_CONFIG_FILE:-}" "${profile:+$HOME/.databrickscfg}")"
    bind "$config" /config.yaml readonly
}

mount_metrics() {
    metrics_file=$(first "$metrics_file" "${UPLOAD_METRICS_FILE:-}" "$yaml_metrics_file")
    [ -n "$metrics_file" ] || return 0
    case $metrics_file in
        [Oo][Ff][Ff]) ;;
        *) mount_metrics_file "$(absolute "$metrics_file")" ;;
    esac
    options+=(--env "UPLOAD_METRICS_FILE=$metrics_file")
}

# It is replaced in its directory, so a mount of the file alone would not do.
mount_metrics_file() {
    metrics_file=$1
    if [ "$(dirname "$1")" = "$state_dir" ]; then
        metrics_file=/state/$(basename "$1")
    else
        mount_target "$(dirname "$1")"
    fi
}

# Mount file $2, if there is one, and name it in variable $1.
pass_file() {
    [ -n "$2" ] || return 0
    local file
    file=$(absolute "$2")
    [ -f "$file" ] || fail "$1: $file does not exist or is no file"
    bind "$file" "/run/secrets/$1" readonly
    options+=(--env "$1=/run/secrets/$1")
}

# By name: everyone on this machine can read a command line, so no value is put on it.
pass_variables() {
    local name
    for name in "${VARIABLES[@]}"; do
        if [ -n "${!name:-}" ]; then options+=(--env "$name"); fi
    done
}

bind() {
    case $1 in
        *[,\"]*) fail "$1 can't be mounted" "Rename it without commas and quotes, or use --local." ;;
    esac
    options+=(--mount "type=bind,source=$1,target=$2${3:+,$3}")
}

# Create directory $1 where it is missing, for the container's user.
provide_directory() {
    [ ! -d "$1" ] || return 0
    mkdir -p "$1" || fail "$1 can't be created"
    if [ "$(id -u)" -eq 0 ]; then chown "$user" "$1"; fi
}

owner_of() {
    # shellcheck disable=SC2012 # stat differs between systems
    ls -ldn "$1" | awk '{ print $3 ":" $4 }'
}

# The first argument that is not empty, or nothing.
first() {
    local value
    for value in "$@"; do
        if [ -n "$value" ]; then
            printf '%s\n' "$value"
            return
        fi
    done
}

# $1 as an absolute path; a leading ~ is the home directory, as the uploader takes it.
absolute() {
    case $1 in
        \~/*) printf '%s\n' "$HOME/${1#\~/}" ;;
        /*) printf '%s\n' "$1" ;;
        *) printf '%s/%s\n' "$PWD" "${1#./}" ;;
    esac
}

# The value of a top-level key in CONFIG; nothing where it is not set. $1: the key's names, as `a|b`.
# Plain and quoted values on one line are understood; what else YAML allows is refused.
yaml_value() {
    LC_ALL=C awk -v keys="$1" '
        function refuse(why) {
            print "start-databricks-uploader.sh: " FILENAME ", line " FNR ": " why > "/dev/stderr"
            print "  The launcher reads `key: value` and `key: \"value\"` on one line only." > "/dev/stderr"
            refused = 1
            exit 2
        }
        NR == 1 { sub(/^\357\273\277/, "") } # as editors of Windows begin a file
        { sub(/\r$/, "") }
        /^[ \t]*(#|$)|^---$/ { next }
        ours && /^[ \t]/ { refuse("a value of several lines") }
        !begun && /^[ \t]/ { refuse("an indented key") }
        { ours = 0; begun = 1 }
        /^["\047{?]/ { refuse("a quoted or complex key") }
        match($0, "^(" keys ")[ \t]*:([ \t]|$)") {
            if (seen++) refuse("a second line for " keys)
            ours = 1
            value = substr($0, RLENGTH + 1)
            sub(/^[ \t]+/, "", value)
            if (value ~ /^"[^"\\]*"[ \t]*(#.*)?$/) {
                sub(/^"/, "", value)
                sub(/".*$/, "", value)
            } else if (value ~ /^\047[^\047]*\047[ \t]*(#.*)?$/) {
                sub(/^\047/, "", value)
                sub(/\047.*$/, "", value)
            } else if (value ~ /^["\047|>&*!{[%@`]/) {
                refuse("a value that is not plain text")
            } else {
                sub(/(^|[ \t]+)#.*$/, "", value)
                sub(/[ \t]+$/, "", value)
                if (value ~ /^(~|null|Null|NULL)$/) value = ""
            }
        }
        END { if (!refused) print value }
    ' "$config" || exit 2
}

main "$@"
