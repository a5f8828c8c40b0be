#!/bin/sh
# python -m gptoss.batch on this machine and on Dask workers that are killed: run.sh BUILD_FOLDER
set -eu
GPTOSS_LIBRARY=$(cd "$1" && pwd)/libgptoss.so
export GPTOSS_LIBRARY PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 "$(dirname "$0")/test_batch.py"
