#!/usr/bin/env bash
# Build the uploader's image. See --help.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: build.sh [options]

Build the image of this directory with `docker buildx` or with Podman. Without --push, it is built
for this machine and loaded into its engine. With --push, it is built for PLATFORMS and pushed;
Docker adds its SBOM and provenance, Podman does not.

  --tag TAG       the image's tag (default: dev); also its version label
  --registry R    the image is R/databricks-uploader (default: ghcr.io/your-org)
  --push          push it to the registry
  --dry-run       print the commands, run none
  -h, --help      this text

Environment:
  CONTAINER_ENGINE    docker or podman (default: the first one that can build)
  PLATFORMS           comma-separated, such as linux/amd64,linux/arm64 (the default of --push);
                      without --push, one platform other than this machine's, or ignored
  SOURCE_DATE_EPOCH   seconds since 1970: the creation time in the image, for repeatable builds
  IMAGE_SOURCE        address of the source repository, for the label

Examples:
  ./build.sh --tag dev --registry local
  PLATFORMS=linux/amd64,linux/arm64 ./build.sh --tag v1.1.0 --push
EOF
}

fail() {
    printf 'build.sh: %s\n' "$1" >&2
    if [ -n "${2:-}" ]; then printf '  %s\n' "$2" >&2; fi
    exit 2
}

# A builder that can build for several platforms; Docker's default one often can't.
BUILDER=databricks-uploader

tag=dev
registry=ghcr.io/your-org
push=false
dry_run=false
while [ $# -gt 0 ]; do
    case $1 in
        --tag | --registry)
            [ -n "${2:-}" ] || fail "$1 needs a value"
            if [ "$1" = --tag ]; then tag=$2; else registry=${2%/}; fi
            shift
            ;;
        --push) push=true ;;
        --dry-run) dry_run=true ;;
        -h | --help)
            usage
            exit
            ;;
        *) fail "unknown argument $1; see --help" ;;
    esac
    shift
done

run() {
    if "$dry_run"; then
        printf '%q ' "$@"
        printf '\n'
    else
        "$@"
    fi
}

# ISO-8601 in UTC, of SOURCE_DATE_EPOCH where it is set; GNU and BSD dates differ in how they take it.
created() {
    local seconds=${SOURCE_DATE_EPOCH:-$(date +%s)}
    date -u -d "@$seconds" +%Y-%m-%dT%H:%M:%SZ 2>/dev/null || date -u -r "$seconds" +%Y-%m-%dT%H:%M:%SZ
}

# The first engine that can build. Docker can where its plugin Buildx is installed, which is a package of its own.
find_engine() {
    local candidate found=
    engine=${CONTAINER_ENGINE:-}
    if [ -n "$engine" ]; then
        command -v "$engine" >/dev/null || "$dry_run" || fail "CONTAINER_ENGINE: $engine is not installed"
        can_build "$engine" || fail "$engine is installed, but without buildx" "$GET_BUILDX"
        return
    fi
    for candidate in docker podman; do
        command -v "$candidate" >/dev/null || continue
        found=$candidate
        if can_build "$candidate"; then
            engine=$candidate
            return
        fi
    done
    # What would be run can be looked at on any machine.
    if "$dry_run"; then engine=docker; return; fi
    [ -n "$found" ] || fail "neither docker nor podman is installed" "Install one: Docker with its plugin buildx, or Podman."
    fail "docker is installed, but without buildx" "$GET_BUILDX"
}

GET_BUILDX="Install the plugin (docker-buildx-plugin, or your system's docker-buildx), or Podman."

can_build() {
    if "$dry_run" || is_podman "$1"; then return; fi
    "$1" buildx version >/dev/null 2>&1
}

# By name, or because it says so: some systems have Podman under Docker's name.
is_podman() {
    case ${1##*/} in podman*) return ;; esac
    "$dry_run" && return 1
    case $("$1" --version 2>/dev/null) in [Pp]odman*) ;; *) return 1 ;; esac
}

build_with_docker() {
    local build=("$engine" buildx build --tag "$image" "${labels[@]}")
    if "$push"; then
        if "$dry_run" || ! "$engine" buildx inspect "$BUILDER" >/dev/null 2>&1; then
            run "$engine" buildx create --name "$BUILDER" --driver docker-container
        fi
        build+=(--builder "$BUILDER" --platform "$platforms" --sbom=true --provenance=mode=max --push)
    else
        if [ -n "$platforms" ]; then build+=(--platform "$platforms"); fi
        # An engine can't load an image together with attestations.
        build+=(--provenance=false --load)
    fi
    run "${build[@]}" .
}

# In Docker's format, since the other one has no health checks.
build_with_podman() {
    local build=("$engine" build --format docker "${labels[@]}")
    if "$push"; then
        printf 'build.sh: Podman pushes the image without SBOM and provenance\n' >&2
        # A list of an earlier build would get the new images beside the old ones.
        if "$dry_run" || "$engine" manifest exists "$image" 2>/dev/null; then
            run "$engine" manifest rm "$image"
        fi
        run "${build[@]}" --platform "$platforms" --manifest "$image" .
        run "$engine" manifest push --all "$image" "docker://$image"
    else
        if [ -n "$platforms" ]; then build+=(--platform "$platforms"); fi
        run "${build[@]}" --tag "$image" .
    fi
}

cd "$(dirname "$(readlink -f "$0")")"
[ -f requirements.lock ] || fail "requirements.lock is missing; docs/docker.md says how to make it"
find_engine

image=$registry/databricks-uploader:$tag
labels=(
    --build-arg "VERSION=$tag"
    --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)"
    --build-arg "CREATED=$(created)"
)
if [ -n "${IMAGE_SOURCE:-}" ]; then
    labels+=(--build-arg "SOURCE=$IMAGE_SOURCE")
fi

platforms=${PLATFORMS:-}
if "$push"; then
    platforms=${platforms:-linux/amd64,linux/arm64}
else
    case $platforms in
        *,*)
            printf 'build.sh: an image for several platforms can only be pushed; this one is for this machine\n' >&2
            platforms=
            ;;
    esac
fi
if is_podman "$engine"; then build_with_podman; else build_with_docker; fi
