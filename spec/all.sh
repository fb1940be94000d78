#!/bin/sh
# all: every suite after the other, a line each; what a failed one printed is
# shown. At the end the names of what failed, and the sum: N passed, M failed.
# `make test` calls it.
#
#   BUILD=build sh spec/all.sh make -j2
make=$*
passed=0
failed=0
culprits=$BUILD/log/failed
mkdir -p "$BUILD/log"
: >"$culprits"

# sum PATTERN: adds up the numbers that the pattern finds in the log.
sum() {
    sed -n "s/$1/\\1/p" "$log" | awk '{ n += $1 } END { print n + 0 }'
}

# suite NAME TARGET [whole]: makes the target and counts in its output what
# cmocka and busted report; `whole` has no tests of its own and counts as one.
suite() {
    log=$BUILD/log/$2
    start=$(date +%s)
    $make WERROR=-Werror "$2" >"$log" 2>&1
    status=$?
    ok=$(($(sum '^\[  PASSED  \] [a-z_]*:* *\([0-9]*\) test.*') +
          $(sum '^\([0-9]*\) success.* \/ [0-9]* fail.*')))
    bad=$(($(sum '^\[  FAILED  \] [a-z_]*:* *\([0-9]*\) test.*') +
           $(sum '^[0-9]* success.* \/ \([0-9]*\) fail.*') +
           $(sum '^[0-9]* success.* \/ \([0-9]*\) error.*')))
    [ $status = 0 ] && [ $((ok + bad)) = 0 ] && [ -n "$3" ] && ok=1
    # a suite that broke off, or ran no test, has failed whatever it counted
    [ $status = 0 ] && [ $((ok + bad)) != 0 ] || [ $bad != 0 ] || bad=1
    if [ $bad != 0 ]; then
        cut -c1-1000 "$log"
        awk -v suite="$1" '
            /^(Failure|Error) ->/ { getline; print suite ": " $0 }
            /^\[  FAILED  \] test_/ && !seen[$4]++ { print suite ": " $4 }' "$log" >>"$culprits"
    fi
    echo "$1: $ok passed, $bad failed ($(($(date +%s) - start)) s)"
    passed=$((passed + ok))
    failed=$((failed + bad))
}

suite "C tests" c-tests
suite "specs" specs
suite "clang" clang whole
suite "sanitized" sanitized
suite "lint" lint whole
suite "browser" browser

echo
cat "$culprits"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
