#!/usr/bin/env bash
# Install, upgrade or remove the uploader as a service of systemd. See --help.
set -euo pipefail

usage() {
    cat <<'EOT'
Usage: install.sh [options] [-- SETTINGS]
       install.sh --run ARGUMENTS
       install.sh --uninstall

Install the uploader that lies beside this script as the service databricks-uploader. Run it again to
upgrade, or to take up a changed configuration. The new release has to pass its own --check before it
starts; where it does not, or does not start, what ran before runs again.

  --sqlite FILE    the database: where there is no configuration yet, --init writes one for it
  -- SETTINGS      what else --init is to write down, such as --databricks-host HOST
  --group GROUP    a group whose members may read the database; the service's user becomes one
  --python PYTHON  the interpreter, 3.11 or later (default: the first one found)
  --root DIR       lay everything out in this tree instead of /: no user is made, nothing is started
  --run ARGUMENTS  run the installed uploader as the service would, such as --run --status
  --uninstall      stop and remove service and program; configuration and state stay
  -h, --help       this text

What lies where:
  /opt/databricks-uploader                          the releases, and `current`, the one in use
  /etc/databricks-uploader/config.yaml              the configuration
  /etc/databricks-uploader/environment              variables, a NAME=value a line
  /etc/databricks-uploader/secrets/                 databricks_token, databricks_client_secret or sanitize_secret
  /var/lib/databricks-uploader                      the state: keep it
  /etc/systemd/system/databricks-uploader.service   replaced by each upgrade; own lines go into a drop-in

Packages come from requirements.lock with their hashes, by uv where it is installed, else by pip.

Exit status: 0 done, or nothing to do; 1 nothing changed, since a check or a step failed; 2 wrong usage;
with --run that of the uploader.

Examples:
  sudo ./install.sh --sqlite /opt/sensor/data/sensor_data.db -- --lakehouse-path s3://your-bucket/lake
  sudo ./install.sh
  sudo ./install.sh --run --status
EOT
}

NAME=databricks-uploader
SCRIPT=sqlite_to_databricks_uploader.py
UNIT=$NAME.service
CONFIGURATION=/etc/$NAME
STATE=/var/lib/$NAME
SECRETS=(databricks_token databricks_client_secret sanitize_secret)

say() { printf 'install.sh: %s\n' "$1"; }

fail() {
    printf 'install.sh: %s\n' "$1" >&2
    if [ -n "${2:-}" ]; then printf '  %s\n' "$2" >&2; fi
    exit "${3:-1}"
}

main() {
    read_arguments "$@"
    umask 022
    home=$root/opt/$NAME
    etc=$root$CONFIGURATION
    old=$(readlink "$home/current" || true) # releases/NAME, or nothing
    old=${old:+$home/$old}
    case $action in
        uninstall) uninstall ;;
        run)
            [ -n "$old" ] && [ -d "$old" ] || fail "nothing is installed in $home"
            run_uploader "$old" "${rest[@]}"
            ;;
        install) install_or_upgrade ;;
    esac
}

read_arguments() {
    action=install root='' database='' group='' python='' rest=()
    while [ $# -gt 0 ]; do
        case $1 in
            --sqlite | --group | --python | --root)
                [ -n "${2:-}" ] || fail "$1 needs a value" "" 2
                take_value "$1" "$2"
                shift
                ;;
            --uninstall) action=uninstall ;;
            --run | --)
                if [ "$1" = --run ]; then action=run; fi
                rest=("${@:2}")
                break
                ;;
            -h | --help)
                usage
                exit
                ;;
            *) fail "unknown argument $1; see --help" "" 2 ;;
        esac
        shift
    done
    [ -n "$root" ] || [ "$(id -u)" -eq 0 ] || fail "only root can install a service" "Use sudo, or --root DIR." 2
}

take_value() {
    case $1 in
        --sqlite) database=$(realpath -- "$2") ;;
        --group) group=$2 ;;
        --python) python=$2 ;;
        --root) root=$(realpath -m -- "$2") ;;
    esac
}

install_or_upgrade() {
    source=$(dirname "$(readlink -f "$0")")
    for file in "$SCRIPT" requirements.lock "$UNIT"; do
        [ -f "$source/$file" ] || fail "$source/$file is missing" "Take the whole directory of the release."
    done
    find_python
    provide_user
    provide_directories
    lock
    build_release
    provide_configuration
    note_secrets
    if is_unchanged; then
        say "$release_name is installed, and nothing has changed"
        return
    fi
    take_over
    clean_up
}

# The first interpreter that is new enough. One below a home directory can't be seen by the service.
find_python() {
    local candidate
    for candidate in "$python" /usr{/local,}/bin/python3{,.14,.13,.12,.11}; do
        if [ -z "$candidate" ]; then continue; fi
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
            return
        fi
        [ -z "$python" ] || fail "$python is no Python 3.11 or later"
    done
    fail "no Python 3.11 or later was found" "Install one, or name it: --python PATH. It must not lie in a home directory."
}

provide_user() {
    as_user=()
    [ -z "$root" ] || return 0
    if ! id "$NAME" >/dev/null 2>&1; then
        useradd --system --user-group --no-create-home --home-dir "$STATE" --shell /usr/sbin/nologin "$NAME"
    fi
    if [ -n "$group" ]; then usermod --append --groups "$group" "$NAME"; fi
}

provide_directories() {
    install -d "$home/releases" "$home/environments" "$root/etc/systemd/system" "$root/var/lib"
    if [ -n "$root" ]; then
        install -d "$etc/secrets"
        install -d -m 0700 "$root$STATE"
    else
        install -d -g "$NAME" -m 0750 "$etc" "$etc/secrets"
        install -d -o "$NAME" -g "$NAME" -m 0700 "$STATE"
    fi
}

# Two at the same time would take each other's half-made directories.
lock() {
    exec 9>>"$home/.lock"
    flock --nonblock 9 || fail "another install.sh is at work in $home"
}

# --- A release: the script, its list of packages, its unit, and an environment that is shared while the list is the same

build_release() {
    local version environment
    version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$source/$SCRIPT")
    release_name=$version-$(cd "$source" && digest "$SCRIPT" requirements.lock "$UNIT" <(readlink -f "$python"))
    release=$home/releases/$release_name
    [ ! -d "$release" ] || return 0
    environment=environments/$(cd "$source" && digest requirements.lock <(readlink -f "$python"))
    [ -e "$home/$environment/.whole" ] || build_environment "$home/$environment"
    rm -rf "$release.new"
    install -d "$release.new"
    install -m 0644 "$source/$SCRIPT" "$source/requirements.lock" "$source/$UNIT" "$release.new"
    ln -s "../../$environment" "$release.new/venv"
    # Compiled once, as in the image: a start takes half the time, and the service 33 MiB less memory.
    "$release.new/venv/bin/python" -m compileall -q --invalidation-mode checked-hash "$release.new/$SCRIPT"
    mv -T "$release.new" "$release"
}

digest() { cat "$@" | sha256sum | cut -c1-12; }

# One that was given up half-way has no mark, and is made anew.
build_environment() {
    local new=$1 install
    rm -rf "$new"
    say "installing the packages for $python"
    if command -v uv >/dev/null; then
        uv venv --quiet --no-project --python "$python" "$new"
        install=(uv pip sync --python "$new/bin/python" --compile-bytecode --no-build)
    else
        "$python" -m venv "$new" || fail "$python can't make environments" "Install python3-venv, or uv."
        install=("$new/bin/python" -m pip install --disable-pip-version-check --no-deps --only-binary :all: --requirement)
    fi
    "${install[@]}" "$source/requirements.lock" --require-hashes --quiet || fail "the packages could not be installed" "Nothing has changed."
    touch "$new/.whole"
}

# --- The configuration: what is there stays as it is

provide_configuration() {
    config=$etc/config.yaml
    if [ ! -e "$etc/environment" ]; then
        echo '# Variables of the service, a NAME=value a line. Secrets lie in secrets/, one a file.' | keep "$etc/environment" 0600
    fi
    if [ ! -e "$config" ]; then
        [ -n "$database" ] || fail "there is no $config yet" "Put one there, or name the database: --sqlite FILE."
        run_uploader "$release" --init --sqlite "$database" "${rest[@]}" >"$config.new" \
            || { rm -f "$config.new"; fail "--init could not look at $database" "See above; --group GROUP lets the service read it."; }
        keep "$config" 0640 <"$config.new"
        rm "$config.new"
        say "$config was written by --init"
    elif [ -n "$database${rest[*]}" ]; then
        say "$config is there and stays as it is: --sqlite and what stands behind -- are not used"
    fi
    if [ -z "$root" ]; then chgrp "$NAME" "$config"; fi
}

# Standard input as the file $1 with the rights $2.
keep() { install -m "$2" /dev/stdin "$1"; }

# Each secret belongs to the service alone, and has its variable.
note_secrets() {
    local secret variable
    for secret in "${SECRETS[@]}"; do
        [ -f "$etc/secrets/$secret" ] || continue
        if [ -z "$root" ]; then chown "$NAME:" "$etc/secrets/$secret"; fi
        chmod 0600 "$etc/secrets/$secret"
        variable=${secret^^}_FILE
        grep -q "^$variable=" "$etc/environment" || echo "$variable=$CONFIGURATION/secrets/$secret" >>"$etc/environment"
    done
}

# --- Taking over

is_unchanged() {
    [ "$old" = "$release" ] && [ "$home/.taken" -nt "$config" ] && [ "$home/.taken" -nt "$etc/environment" ] \
        && { ! is_wanted || manage is-active --quiet "$UNIT"; }
}

# The old release rests meanwhile: --check looks whether the state can be used, which one process can at a time.
take_over() {
    wanted=false
    if is_wanted; then wanted=true; fi
    trap resume EXIT
    manage stop "$UNIT" 2>/dev/null || true
    check_release
    switch_to "$release"
    if [ -z "$old" ]; then
        manage enable --quiet "$UNIT"
        wanted=true
    fi
    if "$wanted" && ! manage start "$UNIT"; then
        [ -n "$old" ] || fail "$release_name does not start" "journalctl --unit $NAME says why."
        switch_to "$old"
        fail "$release_name does not start; ${old##*/} is in use again" "journalctl --unit $NAME says why."
    fi
    trap - EXIT
    touch "$home/.taken"
    say "$release_name is in use"
}

# Whether the service is to run: not where a timer starts it, or where it was disabled.
is_wanted() { manage is-active --quiet "$UNIT" || manage is-enabled --quiet "$UNIT" 2>/dev/null; }

check_release() {
    if run_uploader "$release" --check; then return; fi
    if [ -n "$old" ]; then
        fail "the check of $release_name failed; ${old##*/} stays in use" "Mend what it says, then run install.sh again."
    fi
    fail "the check failed, so the service was not started" "Complete $etc, then run install.sh again."
}

switch_to() {
    ln -sfn "releases/${1##*/}" "$home/current.new"
    mv -T "$home/current.new" "$home/current"
    install -m 0644 "$1/$UNIT" "$root/etc/systemd/system/$UNIT"
    manage daemon-reload
}

# Whatever ended the installation: the release that was in use runs again.
resume() {
    if [ -n "$old" ] && "$wanted"; then manage start "$UNIT" || true; fi
}

manage() { [ -n "$root" ] || systemctl "$@"; }

# Run a release with the arguments that follow, as the service does: its user, its variables, and none of this shell's.
run_uploader() (
    local chosen=$1 name line
    shift
    if [ -z "$root" ]; then as_user=(setpriv "--reuid=$NAME" "--regid=$NAME" --init-groups --); fi
    for name in $(compgen -e); do
        case $name in PATH | TERM | LANG | LC_*) ;; *) unset "$name" ;; esac
    done
    export STATE_DIR=$root$STATE PYTHONDONTWRITEBYTECODE=1
    while IFS= read -r line; do
        case $line in [A-Za-z_]*=*) export "${line%%=*}=$(rooted "${line#*=}")" ;; esac
    done < <(cat "$etc/environment" 2>/dev/null)
    if [ -f "$etc/config.yaml" ]; then set -- --config "$etc/config.yaml" "$@"; fi
    cd /
    exec "${as_user[@]}" "$chosen/venv/bin/python" "$chosen/$SCRIPT" "$@"
)

# A value that names a file of the configuration, in the tree of --root.
rooted() {
    case $1 in
        "$CONFIGURATION"/*) printf '%s' "$root$1" ;;
        *) printf '%s' "$1" ;;
    esac
}

# Keep the release in use and the one before it, and their environments.
clean_up() {
    local entry kept
    for entry in "$home"/releases/*; do
        case $entry in "$release" | "$old") ;; *) rm -rf "$entry" ;; esac
    done
    kept=$(readlink "$home"/releases/*/venv)
    for entry in "$home"/environments/*; do
        case $kept in *"/${entry##*/}"*) ;; *) rm -rf "$entry" ;; esac
    done
}

uninstall() {
    manage disable --now --quiet "$UNIT" 2>/dev/null || true
    rm -f "$root/etc/systemd/system/$UNIT"
    manage daemon-reload
    rm -rf "$home"
    say "removed; $etc and the state in $root$STATE stay: without that state, rows would be sent again"
}

main "$@"
