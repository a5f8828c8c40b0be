#!/bin/sh
# JSON-Schema-Test-Suite (Debian's package) against the grammars, and grammars that are made to take long:
# tests/grammar/schema_suite.sh BUILD_FOLDER
# Every group of draft 7 passes or is refused by name; those stand in refused.txt, with nothing else in it.
set -eu
cd "$(dirname "$0")/../.."
. cmake/packages.sh
install_packages json-schema-test-suite
"${1:-build}/tests/hostile"
"${1:-build}/tests/schema_suite" /usr/share/json-schema-test-suite/tests/draft7 tests/grammar/refused.txt
