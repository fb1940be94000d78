#!/bin/sh
# each: all specs, each file in a process of its own with data of its own, three at a time, as most
# of them wait most of the time. What they print is shown when all are done.
#
#   BUILD=build sh spec/each.sh
#   BUILD=build sh spec/each.sh FILE     one of them, as above
logs=$BUILD/log/spec
mkdir -p "$logs"

if [ $# = 1 ]; then
    name=$(basename "$1" .lua)
    mkdir -p "$BUILD/data/$name"
    NEAP_DATA=$(cd "$BUILD" && pwd)/data/$name timeout -k 5 400 "$BUILD/neap" --slow 5000 spec/run.lua \
        "$1" >"$logs/$name" 2>&1
    exit
fi

rm -f "$logs"/*
# those that take longest go first
longest='repl live examples model_cli redis_server_error redis_sentinel fetch_fault'
for name in $longest; do echo "spec/${name}_spec.lua"; done >"$logs.list"
ls spec/*_spec.lua | grep -vxF -f "$logs.list" >"$logs.rest"
cat "$logs.list" "$logs.rest" | xargs -P 3 -n 1 sh "$0"
status=$?
cat "$logs"/*
exit $status
