#!/bin/sh
# halves: all specs, in two processes at once, as most of them wait most of the time: those of
# models, queries and the console, and the rest, which take as long. Each has data of its own, and is
# shown when both are done.
#
#   BUILD=build sh spec/halves.sh
mkdir -p "$BUILD/log" "$BUILD/data"

# half NAME FILE...: runs these specs.
half() {
    name=$1
    shift
    NEAP_DATA=$(cd "$BUILD" && pwd)/data/$name timeout -k 5 400 "$BUILD/neap" --slow 5000 spec/run.lua "$@" \
        >"$BUILD/log/specs.$name" 2>&1
}

first='spec/\(model\|query\|console\|repl\|live\|inspect\|check\|help\|fetch\)'
models=$(ls spec/*_spec.lua | grep "$first")
others=$(ls spec/*_spec.lua | grep -v "$first")
# shellcheck disable=SC2086 # a word each
half models $models &
pid=$!
half others $others
status=$?
wait $pid || status=1
cat "$BUILD/log/specs.models" "$BUILD/log/specs.others"
exit $status
