# Sourced by the other scripts: sets PYTHON to an interpreter that has the requirements, making it if need be.
# An active virtual environment is used as it is (what it lacks is installed). Otherwise one is made in
# ${XDG_CACHE_HOME:-~/.cache}/spc-ducisc, named by the requirements and the Python version, and reused by every checkout.
# pip's own configuration (index, proxy, cache) is honoured.
requirements=(-r requirements.txt -r tests/requirements.txt)
if [ -n "${VIRTUAL_ENV:-}" ]; then
    environment=$VIRTUAL_ENV
    stamp=$environment/.spc-ducisc-$(cat requirements.txt tests/requirements.txt | cksum | cut -d' ' -f1)
else
    base=${PYTHON3:-python3}
    key=$( (cat requirements.txt tests/requirements.txt; "$base" --version) | cksum | cut -d' ' -f1)
    environment=${XDG_CACHE_HOME:-$HOME/.cache}/spc-ducisc/environment-$key
    stamp=$environment/.complete
    [ -x "$environment/bin/python" ] || { echo "making a virtual environment in $environment"; "$base" -m venv "$environment"; }
fi
PYTHON=$environment/bin/python
if [ ! -e "$stamp" ]; then
    echo "installing requirements.txt and tests/requirements.txt (PyTorch's default build takes about 6 GB) ..."
    started=$SECONDS
    "$PYTHON" -m pip install --quiet "${requirements[@]}"
    touch "$stamp"
    echo "installed in $((SECONDS - started)) s"
fi
