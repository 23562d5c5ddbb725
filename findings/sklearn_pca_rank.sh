#!/usr/bin/env bash
# scikit-learn's PCA finds a fourth direction in float32 rows of rank 3, ten thousand times as large as numpy's SVD does.
#
# Versions: scikit-learn 1.9.1, numpy 2.4.6, scipy 1.17.1.
# A good guess: PCA is an SVD of the centred rows, so what is beyond the rank comes out at the rounding of float32, 1e-7 of the largest.
# Seen: with many more rows than columns the solver "auto" takes the eigenvalues of the covariance, which squares the numbers: what is left
# comes out at about 2e-4 of the largest. So the rank of a merged adapter, told by a threshold on PCA's singular values, depends on the
# shape of the matrix. svd_solver="full" is as good as numpy.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cat > "$work/check.py" <<'PY'
import numpy as np
from sklearn.decomposition import PCA


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


random = np.random.default_rng(0)
change = (random.standard_normal((2000, 3)) @ random.standard_normal((3, 64))).astype(np.float32)


def beyond(values):
    """The fourth singular value as a share of the first."""
    return float(values[3] / values[0])


exact = beyond(np.linalg.svd(change - change.mean(0), compute_uv=False))
check("numpy's SVD", "about 1e-7", f"{exact:.1e}", exact < 1e-6)
full = beyond(PCA(n_components=6, svd_solver="full").fit(change).singular_values_)
check('PCA(svd_solver="full")', "about 1e-7", f"{full:.1e}", full < 1e-6)
usual = beyond(PCA(n_components=6).fit(change).singular_values_)
check("PCA as it comes", "about 1e-7", f"{usual:.1e}", usual > 1e-5)
wide = beyond(PCA(n_components=6, random_state=0).fit(change.T).singular_values_)
check("PCA of the transpose", "the same", f"{wide:.1e}", wide < 1e-6)
PY
cd "$work"
venv/bin/python check.py
