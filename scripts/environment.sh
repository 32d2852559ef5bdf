# Sourced by the other scripts: sets PYTHON to an interpreter that has what they need, by one rule.
# 1. PYTHON=/path/python3 bash scripts/...: that interpreter as it is. Nothing is made or installed; what it lacks is named.
# 2. An active virtual or conda environment: what it lacks of requirements.txt is installed there. (Conda's base, which is
#    active by itself in many shells, does not count.)
# 3. Otherwise a virtual environment in ${XDG_CACHE_HOME:-~/.cache}/spc-ducisc, named by the requirements and the Python
#    version (of python3, or $PYTHON3), reused by every checkout.
# Set before this is sourced: test_tools=yes by a script that runs tests, only then tests/requirements.txt is installed too;
# pictures=yes by one that draws (training and testing alone need neither matplotlib nor torchvision).
# pip's own configuration (index, proxy, cache) is honoured.
packages="torch numpy scipy h5py tqdm tensorboard${pictures:+ matplotlib torchvision}${test_tools:+ pytest}"
if [ -n "${PYTHON:-}" ]; then
    missing=$("$PYTHON" -c 'import importlib.util as u, sys; print(*[p for p in sys.argv[1:] if not u.find_spec(p)])' \
        $packages 2>/dev/null) ||
        { echo "error: PYTHON=$PYTHON is not a Python 3 that runs: give its absolute path, or leave PYTHON unset" >&2; exit 2; }
    [ -z "$missing" ] ||
        { echo "error: PYTHON=$PYTHON lacks $missing: install what is missing there, or leave PYTHON unset" >&2; exit 2; }
    return
fi

conda=${CONDA_PREFIX:-}
[ "${CONDA_DEFAULT_ENV:-}" != base ] || conda=
for environment in "${VIRTUAL_ENV:-}" "$conda" ""; do
    for python in bin/python Scripts/python.exe python.exe; do
        [ -n "$environment" ] && [ -x "$environment/$python" ] && PYTHON=$environment/$python && break 2
    done
done
if [ -z "${PYTHON:-}" ]; then
    base=${PYTHON3:-python3}
    key=$( (cat requirements.txt tests/requirements.txt; "$base" --version) | cksum | cut -d' ' -f1)
    environment=${XDG_CACHE_HOME:-$HOME/.cache}/spc-ducisc/environment-$key
    [ -x "$environment/bin/python" ] || { echo "making a virtual environment in $environment"; "$base" -m venv "$environment"; }
    PYTHON=$environment/bin/python
fi
for requirements in requirements.txt ${test_tools:+tests/requirements.txt}; do
    stamp=$environment/.spc-ducisc-$(cksum <"$requirements" | cut -d' ' -f1)
    [ ! -e "$stamp" ] || continue
    case $requirements in tests/*) size= ;; *) size=" (PyTorch's default build takes about 6 GB)" ;; esac
    echo "installing $requirements into $environment$size ..."
    started=$SECONDS
    "$PYTHON" -m pip install --quiet -r "$requirements" ||
        { echo "error: pip could not install $requirements; PYTHON=/path/python3 names an interpreter that has it" >&2; exit 2; }
    touch "$stamp"
    echo "installed in $((SECONDS - started)) s"
done
