#!/bin/sh
# What a job without a shared file system starts with: Snakemake's arguments come in, the Python of the machine runs it.
export PATH="${PATH:-/usr/local/bin:/usr/bin:/bin}"
export HOME="$PWD" # the account that runs the job may have none
python="${THALWEG_PYTHON:-python3}"
found="import importlib.util as u; print(all(map(u.find_spec, ['snakemake', 'jax', 'coffea'])))"
if [ "$("$python" -c "$found" 2>&1)" != True ]; then
  echo "$(hostname): $python lacks the packages of envs/requirements-cpu.txt; set THALWEG_PYTHON in the profile" >&2
  exit 1
fi
exec "$python" -m snakemake "$@"
