#!/usr/bin/env bash
# Build the uploader's image. See --help.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: build.sh [options]

Build the image of this directory with `docker buildx`. Without --push, it is built for this
machine and loaded into its engine. With --push, it is built for PLATFORMS, and pushed with its
SBOM and provenance.

  --tag TAG       the image's tag (default: dev); also its version label
  --registry R    the image is R/databricks-uploader (default: ghcr.io/your-org)
  --push          push it to the registry
  --dry-run       print the commands, run none
  -h, --help      this text

Environment:
  PLATFORMS           comma-separated, such as linux/amd64,linux/arm64 (the default of --push);
                      without --push, one platform other than this machine's, or ignored
  SOURCE_DATE_EPOCH   seconds since 1970: the creation time in the image, for repeatable builds
  IMAGE_SOURCE        address of the source repository, for the label

Examples:
  ./build.sh --tag dev --registry local
  PLATFORMS=linux/amd64,linux/arm64 ./build.sh --tag v1.0.0 --push
EOF
}

fail() {
    printf 'build.sh: %s\n' "$1" >&2
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

cd "$(dirname "$(readlink -f "$0")")"
[ -f requirements.lock ] || fail "requirements.lock is missing; docs/docker.md says how to make it"

build=(
    docker buildx build
    --tag "$registry/databricks-uploader:$tag"
    --build-arg "VERSION=$tag"
    --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)"
    --build-arg "CREATED=$(created)"
)
if [ -n "${IMAGE_SOURCE:-}" ]; then
    build+=(--build-arg "SOURCE=$IMAGE_SOURCE")
fi

if "$push"; then
    if "$dry_run" || ! docker buildx inspect "$BUILDER" >/dev/null 2>&1; then
        run docker buildx create --name "$BUILDER" --driver docker-container
    fi
    build+=(--builder "$BUILDER" --platform "${PLATFORMS:-linux/amd64,linux/arm64}")
    build+=(--sbom=true --provenance=mode=max --push)
else
    case ${PLATFORMS:-} in
        *,*) printf 'build.sh: an image for several platforms can only be pushed; this one is for this machine\n' >&2 ;;
        ?*) build+=(--platform "$PLATFORMS") ;;
    esac
    # An engine can't load an image together with attestations.
    build+=(--provenance=false --load)
fi
run "${build[@]}" .
