#!/bin/sh
# halves: all specs, in two processes at once, as most of them wait most of the time: those of
# models and queries, and the rest. Each has data of its own, and is shown when both are done.
#
#   BUILD=build sh spec/halves.sh
mkdir -p "$BUILD/log" "$BUILD/data"

# half NAME FILE...: runs these specs.
half() {
    name=$1
    shift
    NEAP_DATA=$(cd "$BUILD" && pwd)/data/$name timeout -k 5 400 "$BUILD/neap" spec/run.lua "$@" \
        >"$BUILD/log/specs.$name" 2>&1
}

models=$(ls spec/model*_spec.lua spec/query*_spec.lua)
others=$(ls spec/*_spec.lua | grep -v -e spec/model -e spec/query)
# shellcheck disable=SC2086 # a word each
half models $models &
pid=$!
half others $others
status=$?
wait $pid || status=1
cat "$BUILD/log/specs.models" "$BUILD/log/specs.others"
exit $status
