#!/usr/bin/env bash
# Makes .venv-peers/ with what benchmarks/ compares with: learn2learn, qpth, easyfsl, scikit-learn, LightGBM, CatBoost and
# cvxpy. Safe to run again.
#
# learn2learn 0.2.0 ships C files made by Cython 0.29, which do not compile on Python 3.11 and later: hence Python 3.10,
# a C compiler, and setuptools of that time for the building alone. The peers name far more requirements than what is
# measured here imports (gsutil, ...): hence --no-deps. torch is the version that quickstudy is measured with.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=.venv-peers

python=$(command -v python3.10 || true)
if [ -z "$python" ] || ! "$python" -c '' 2>/dev/null; then
    python=$(ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.10.*/bin/python 2>/dev/null | sort -V | tail -n 1 || true)
fi
if [ -z "$python" ]; then
    echo "learn2learn 0.2.0 needs Python 3.10, and there is none here. Install one, for example: pyenv install 3.10" >&2
    exit 1
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
torch=$(sed -n 's/^torch==//p' constraints.txt)
torchvision=$(sed -n 's/^torchvision==//p' constraints.txt)
pip install "setuptools==65.5.0" "wheel==0.45.1" "cython==0.29.37" "numpy==1.26.4"
pip install --no-deps --no-build-isolation "learn2learn==0.2.0" "easyfsl==1.5.0" "qpth==0.0.18"
pip install "torch==$torch" "torchvision==$torchvision" "numpy==1.26.4" "gym==0.26.2" "scipy==1.15.3" "requests==2.32.3" \
    "tqdm==4.67.1" "pandas==2.2.3" "matplotlib==3.10.0" "cvxpy==1.7.5" "scikit-learn==1.7.2" "lightgbm==4.6.0" \
    "catboost==1.2.10"
"$venv/bin/python" -c 'import learn2learn, easyfsl.samplers, qpth.qp, cvxpy, sklearn, lightgbm, catboost' 2>/dev/null || {
    echo "the peers are installed but cannot be imported: remove $venv and run this again" >&2
    exit 1
}
echo "ready: $venv"
